"""Draws from a trained run, or fills in the missing part of real examples.

  python -m experiments.sample --workdir=runs/made --num=64 [--config.sampling.temperature=0.9]
  python -m experiments.sample --workdir=runs/made --complete [--known=0.5]
  python -m experiments.sample --workdir=runs/ddpm --frames=10 [--config.sampling.sampler=ddim
      --config.sampling.num_steps=20 --config.sampling.guidance=2]

Writes `samples.npz` (or `completions.npz`) into the workdir, and for images the same as PNG. With `--frames`, of models
that go from noise to samples, `trajectory.png` and `trajectory.gif` show the way of some of them.
"""

from collections.abc import Sequence

import jax
import numpy as np
from absl import flags

from experiments import cli
from experiments.pictures import require_shown, save_panels, save_trajectory, shown_split
from experiments.sampling import draw
from experiments.trained import TrainedRun, load_run
from experiments.workdir import Workdir, write_whole
from gdm.errors import ConfigError
from gdm.model import HasComplete
from gdm.training.streams import stream_key

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of a trained run.")
_NUM = flags.DEFINE_integer("num", None, "How many to draw; sampling.num of the config by default.")
_CHECKPOINT = flags.DEFINE_string("checkpoint", "best", "best (by validation), last, or a step.")
_COMPLETE = flags.DEFINE_boolean("complete", False, "Fill in test examples instead of drawing from nothing.")
_KNOWN = flags.DEFINE_float("known", 0.5, "With --complete: the share of an example, from its start, that is kept.")
_FRAMES = flags.DEFINE_integer("frames", 0, "How many states on the way from noise to samples to show, the samples "
                               "included; 0 for none.")
cli.define_overrides("sampling", "data", "evaluation")


def main(argv: Sequence[str]) -> None:
  cli.refuse_arguments(argv)
  if _NUM.value is not None and _NUM.value < 1:
    raise ConfigError(f"--num is {_NUM.value}; it must be at least 1.")
  if not 0.0 <= _KNOWN.value <= 1.0:
    raise ConfigError(f"--known is {_KNOWN.value}; it must be in [0, 1].")
  if _FRAMES.value == 1 or _FRAMES.value < 0 or (_FRAMES.value and _COMPLETE.value):
    raise ConfigError(f"--frames is {_FRAMES.value}; it must be at least 2, or 0 for none, and cannot go with "
                      "--complete.")
  workdir = Workdir(cli.require_flag("workdir"))
  num = {} if _NUM.value is None else {"sampling.num": _NUM.value}
  run = load_run(workdir, {**cli.overrides(), **num}, _CHECKPOINT.value)
  if _COMPLETE.value:
    name, arrays = "completions", _complete(run)
    panels = {"known": np.where(arrays["known"], arrays["original"], 0), "completed": arrays["x"]}
  else:
    if _FRAMES.value:
      require_shown(run.dataset)
    drawn = draw(run, _FRAMES.value)
    arrays = {"x": np.asarray(drawn.x)}
    name, panels = "samples", {"samples": arrays["x"]}
    if _FRAMES.value:
      save_trajectory(workdir, run.dataset, np.asarray(drawn.info["trajectory"], np.float32))
  write_whole(workdir.path / f"{name}.npz", lambda file: np.savez_compressed(file, allow_pickle=False, **arrays))
  save_panels(workdir, name, run.dataset, panels)
  print(f"{len(arrays['x'])} {name} in {workdir.path / name}.npz"
        + (f" and {name}.png" if run.dataset.spec.is_image else "")
        + (", the way there in trajectory.png and trajectory.gif" if _FRAMES.value else ""))


def _complete(run: TrainedRun) -> dict[str, np.ndarray]:
  """Completions of the first test examples, spread over the split: x, original, known."""
  if not isinstance(run.model, HasComplete):
    raise ConfigError(f"{run.config.model.name} cannot complete examples; leave --complete out to sample.")
  spec, split = run.dataset.spec, shown_split(run.dataset)
  rows = np.linspace(0, split.num_examples - 1, min(run.config.sampling.num, split.num_examples)).astype(int)
  original = split.rows(rows)["x"]
  known = (np.arange(spec.num_dims) < round(_KNOWN.value * spec.num_dims)).reshape(spec.event)
  key = stream_key(jax.random.key(run.config.sampling.seed), "completion", 0)
  completed = run.model.complete(run.params, run.carry, key, jax.numpy.asarray(original), jax.numpy.asarray(known))
  return {"x": np.asarray(completed.x), "original": original, "known": known}


if __name__ == "__main__":
  cli.run(main)
