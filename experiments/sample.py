"""Draws from a trained run, fills in the missing part of real examples, or takes noise off them.

  python -m experiments.sample --workdir=runs/made --num=64 [--config.sampling.temperature=0.9]
  python -m experiments.sample --workdir=runs/made --complete [--known=0.5]
  python -m experiments.sample --workdir=runs/ebm --denoise=4
  python -m experiments.sample --workdir=runs/ddpm --frames=10 [--config.sampling.sampler=ddim
      --config.sampling.num_steps=20 --config.sampling.guidance=2]

Writes `samples.npz` (or `completions.npz`, `denoised.npz`) into the workdir, for images the same as PNG, for sound WAV
files, and for music MIDI files and a picture of the score. With `--frames`, of models that go from noise to samples,
`trajectory.png` and `trajectory.gif` show the way of some of them.
"""

from absl import flags

from experiments import cli
from gdm.errors import ConfigError
from gdm.studies.draws import save_completions, save_denoised, save_samples

_NUM = flags.DEFINE_integer("num", None, "How many to draw; sampling.num of the config by default.")
_COMPLETE = flags.DEFINE_boolean("complete", False, "Fill in test examples instead of drawing from nothing.")
_KNOWN = flags.DEFINE_float("known", 0.5, "With --complete: the share of an example, from its start, that is kept.")
_DENOISE = flags.DEFINE_float("denoise", 0.0, "Deviation, in the data's units, of Gaussian noise that is added to test "
                              "examples and taken off again; 0 for none.")
_FRAMES = flags.DEFINE_integer("frames", 0, "How many states on the way from noise to samples to show, the samples "
                               "included; 0 for none.")
cli.define_run("sampling", "data", "evaluation", with_data=True)


def main() -> None:
  cli.at_least(num=1)
  if not 0.0 <= _KNOWN.value <= 1.0:
    raise ConfigError(f"--known is {_KNOWN.value}; it must be in [0, 1].")
  if _KNOWN.value != _KNOWN.default and not _COMPLETE.value:
    raise ConfigError(f"--known is {_KNOWN.value}, but nothing is completed; add --complete, or leave it out.")
  if not 0.0 <= _DENOISE.value < float("inf"):
    raise ConfigError(f"--denoise is {_DENOISE.value}; it must be positive, or 0 for none.")
  if _FRAMES.value == 1 or _FRAMES.value < 0:
    raise ConfigError(f"--frames is {_FRAMES.value}; it must be at least 2, or 0 for none.")
  if (_FRAMES.value > 0) + _COMPLETE.value + (_DENOISE.value > 0) > 1:
    raise ConfigError(f"--frames is {_FRAMES.value}, --complete {_COMPLETE.value} and --denoise {_DENOISE.value}; only "
                      "one of them can be asked for at a time.")
  run = cli.open_run({} if _NUM.value is None else {"sampling.num": _NUM.value})
  if _COMPLETE.value:
    lines = save_completions(run, _KNOWN.value)
  elif _DENOISE.value:
    lines = save_denoised(run, _DENOISE.value)
  else:
    lines = save_samples(run, _FRAMES.value)
  cli.show(lines)


if __name__ == "__main__":
  cli.run(main)
