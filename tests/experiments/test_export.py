"""An exported file is the model: whoever has it, NumPy and the formula gets the same likelihoods."""

import json
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest

from gdm.runs.load import load_run
from gdm.runs.workdir import Workdir
from gdm.training.weights import load_weights

# Sees the file and the data, and nothing of this package.
FORWARD = """
import json, sys
import numpy as np
from safetensors import safe_open
from safetensors.numpy import load_file

weights, x = load_file(sys.argv[1]), np.load(sys.argv[2])
with safe_open(sys.argv[1], "np") as file:
  model = json.loads(file.metadata()["config"])["model"]["name"]
x = x.reshape(len(x), -1).astype(np.float64)
dims = x.shape[1]
kernel = np.zeros((dims, dims))
if model == "fvsbn":
  # The strict upper triangle from inputs to logits is packed; see pack.npy.
  rows, columns = np.load(sys.argv[3])
  kernel[rows, columns + 1] = weights["params/model/kernel"]
logits = x @ kernel + weights["params/model/bias"].astype(np.float64)
nats = np.sum(x * logits - np.logaddexp(0.0, logits), axis=1)
assert not any(name == "jax" or name.partition(".")[0] in ("gdm", "experiments") for name in sys.modules)
np.save(sys.argv[4], nats)
"""


@pytest.fixture(scope="module")
def workdir(unbroken, tmp_path_factory):
  """A copy of a finished run, without its data's being anywhere near."""
  return shutil.copytree(unbroken("digits"), tmp_path_factory.mktemp("export") / "run")


def export(commands, workdir, out, *args):
  return commands.good("export", f"--workdir={workdir}", f"--out={out}", *args)


def test_a_forward_pass_in_numpy_is_the_models(commands, workdir, tmp_path):
  from gdm.autoregressive.vectors.triangular import pack_upper

  out = tmp_path / "fvsbn.safetensors"
  said = export(commands, workdir, out)
  run = load_run(Workdir(workdir), {})
  assert said.startswith(f"2,080 parameters (ema) of fvsbn at step {run.step} in {out}, ") and said.count("\n") == 1
  x = run.dataset.split("test")["x"]
  np.save(tmp_path / "x.npy", x)
  places = np.stack([pack_upper(grid) for grid in np.indices((63, 63))])
  np.save(tmp_path / "pack.npy", places)
  (tmp_path / "forward.py").write_text(FORWARD)
  subprocess.run([sys.executable, "-I", "forward.py", out, "x.npy", "pack.npy", "nats.npy"], cwd=tmp_path, check=True)
  expected = run.model.log_likelihood(run.params, run.carry, {"x": x}, jax.random.key(0)).nats
  np.testing.assert_allclose(np.load(tmp_path / "nats.npy"), expected, rtol=2e-6)


def test_weights_and_metadata_are_those_of_evaluation(commands, workdir, tmp_path):
  seen = set()
  for args, which, overrides in (([], "best", {}), (["--checkpoint=28"], "28", {}),
                                 (["--checkpoint=last", "--config.evaluation.parameters=live"], "last",
                                  {"evaluation.parameters": "live"})):
    export(commands, workdir, tmp_path / "w.safetensors", *args)
    run = load_run(Workdir(workdir), overrides, which)
    params, carry, metadata = load_weights(tmp_path / "w.safetensors", (run.params, run.carry))
    for leaf, expected in zip(jax.tree.leaves((params, carry)), jax.tree.leaves((run.params, run.carry)), strict=True):
      assert leaf.dtype == expected.dtype and leaf.tobytes() == np.asarray(expected).tobytes()
    assert metadata["step"] == str(run.step) and metadata["parameters"] == run.parameters
    assert metadata["data_fingerprint"] == run.dataset.split("train").identity
    assert json.loads(metadata["config"])["model"] == {**run.config.model.to_dict()}
    assert {"gdm", "jax", "python"} <= json.loads(metadata["versions"]).keys()
    seen.add((metadata["step"], metadata["parameters"]))
  assert len(seen) == 3


@pytest.mark.parametrize(("args", "message"), [
    (["--out=/nowhere/w"], "error: --out is /nowhere/w, but there is no folder /nowhere; make it, or name another.\n"),
    (["--out="], "error: --out is missing.\n"),
    (["--out={}/config.json"], "error: {}/config.json exists and is no weights of gdm; name another file.\n"),
    (["--out={}/w", "--checkpoint=29"], "error: --checkpoint is '29'; it must be best, last, or one of the steps "
                                        "[27, 28, 30].\n"),
])
def test_bad_input_is_one_line(commands, workdir, args, message):
  result = commands.run("export", f"--workdir={workdir}", *(arg.format(workdir) for arg in args))
  assert (result.status, result.out, result.err) == (2, "", message.format(workdir))
  assert not (workdir / "w").exists()
