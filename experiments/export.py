"""Writes the weights that evaluation uses into one file that needs neither the run nor its training code.

  python -m experiments.export --workdir=runs/made --out=made.safetensors [--checkpoint=best|last|STEP]
      [--config.evaluation.parameters=auto|ema|live] [--config.data.data_dir=DIR]

The file is safetensors: arrays named "params/<group>/..." and "carry/...", and beside them as strings the config and
the package versions (both JSON), the step, which parameters they are, and the fingerprint of the training data.
`safetensors.numpy.load_file` reads it anywhere; `gdm.training.weights.load_weights` gives it back to a model. Whoever
lacks the data of the run needs nothing but the file; writing it needs them, since they say what the model is.
"""

import json
from collections.abc import Sequence

from absl import flags

from experiments import cli
from gdm.errors import ConfigError
from gdm.runs.load import load_run
from gdm.runs.workdir import Workdir
from gdm.training.checkpoint import versions
from gdm.training.state import count_parameters
from gdm.training.weights import save_weights

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of a trained run.")
_OUT = flags.DEFINE_string("out", None, "The file to write; one of an earlier export is overwritten.")
_CHECKPOINT = flags.DEFINE_string("checkpoint", "best", "best (by validation), last, or a step.")
cli.define_overrides("evaluation", "data")


def main(argv: Sequence[str]) -> None:
  cli.refuse_arguments(argv)
  workdir, out = Workdir(cli.require_flag("workdir")), cli.require_path("out")
  if not out.parent.is_dir():  # before the data are read
    raise ConfigError(f"--out is {out}, but there is no folder {out.parent}; make it, or name another.")
  run = load_run(workdir, cli.overrides(), _CHECKPOINT.value)
  save_weights(out, run.params, run.carry, {
      "model": run.config.model.name,
      "config": json.dumps(run.config.to_dict()),
      "step": str(run.step),
      "parameters": run.parameters,
      "data": run.dataset.name,
      "data_fingerprint": run.dataset.split("train").identity,
      "versions": json.dumps(versions()),
  })
  print(f"{count_parameters(run.params):,} parameters ({run.parameters}) of {run.config.model.name} at step {run.step} "
        f"in {out}, {out.stat().st_size / 1e6:.3g} MB.")


if __name__ == "__main__":
  cli.run(main)
