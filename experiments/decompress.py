"""Decodes a file of experiments.compress by the model that it was made with.

  python -m experiments.decompress --workdir=runs/made --in=FILE --out=X.npz [--config.data.data_dir=DIR]

Writes the split's x, in its order, values and type, and the lengths of sequences. The file says which checkpoint it
takes. With other weights or on another machine decoding would give garbage: it is refused, and nothing is written. The
run's own data are read too, since they say what the model is.
"""

from absl import flags

from experiments import cli
from gdm.errors import CheckpointError, ConfigError, DataError
from gdm.evaluation.coding.container import unpack
from gdm.evaluation.coding.files import Coding, decode
from gdm.paths import write_arrays
from gdm.runs.load import load_run
from gdm.runs.workdir import Workdir

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run that the file was made from.")
_IN = flags.DEFINE_string("in", None, "The file to decode.")
_OUT = flags.DEFINE_string("out", None, "The .npz file to write.")
cli.define_overrides("data")


def main() -> None:
  workdir, path, out = Workdir(cli.require_flag("workdir")), cli.require_path("in"), cli.require_place("out")
  if out.suffix != ".npz":
    raise ConfigError(f"--out is {out}; it must end in .npz.")
  header, payload = unpack(path)
  parameters = "ema" if header.averaged else "live"
  try:
    run = load_run(workdir, {**cli.overrides(), "evaluation.parameters": parameters}, str(header.step))
  except CheckpointError as error:
    raise DataError(f"{path} takes the {parameters} parameters of step {header.step}, which {workdir.path} does not "
                    f"have: {error}") from error
  coding = Coding(run.model, run.config.model.to_dict(), run.params, run.carry, run.step, header.averaged)
  try:
    x, length = decode(coding, header, payload)
  except DataError as error:
    raise DataError(f"{path}: {error}") from error
  write_arrays(out, {"x": x} if length is None else {"x": x, "length": length})
  print(f"{len(x):,} examples {x.shape[1:]} of {x.dtype} in {out}, the {header.split} split of {run.dataset.name}.")


if __name__ == "__main__":
  cli.run(main)
