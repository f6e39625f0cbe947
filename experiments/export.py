"""Writes a trained run as one file, which is opened anywhere without its data, and beside it a model card.

  python -m experiments.export --workdir=runs/made --out=made.safetensors [--checkpoint=best|last|STEP]
      [--config.evaluation.parameters=auto|ema|live] [--push=NAME/REPOSITORY]

`gdm.load("made.safetensors")` opens it, and commands take it as --workdir. It is safetensors with the weights that
evaluation uses, and beside them the config, a description of the data (never the data), the reports of `evaluate`, and
a digest: see gdm/runs/exported.py. Other programs read the weights by `safetensors.numpy.load_file`, and a model of
one's own by `gdm.training.weights.load_weights`. With --push, file and card also go to a repository of a hub, by
huggingface_hub and its login.
"""

from absl import flags

from experiments import cli
from gdm.runs.exported import CARD, write_export
from gdm.runs.hub import push
from gdm.training.state import count_parameters

_OUT = flags.DEFINE_string("out", None, "The file to write; one of an earlier export is overwritten.")
_PUSH = flags.DEFINE_string("push", None, "NAME/REPOSITORY of a hub that file and card go to as well.")
cli.define_run("evaluation", "sampling")


def main() -> None:
  out = cli.require_place("out")  # before the run is read
  run = cli.open_run()
  write_export(run, out)
  print(f"{count_parameters(run.params):,} parameters ({run.parameters}) of {run.name} at step {run.step} in {out}, "
        f"{out.stat().st_size / 1e6:.3g} MB; its card is {out.with_suffix(CARD).name}.")
  if _PUSH.value:
    print(f"at {push((out, out.with_suffix(CARD)), _PUSH.value)}")


if __name__ == "__main__":
  cli.run(main)
