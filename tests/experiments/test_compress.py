"""From a trained run to a file and back, as a user does it, and what is refused on the way."""

import json
import shutil

import numpy as np
import pytest

from gdm.evaluation.coding.container import HEADER_BYTES
from gdm.runs.load import load_run
from gdm.runs.workdir import Workdir


@pytest.fixture(scope="module")
def workdir(unbroken, tmp_path_factory):
  """A copy of a finished run, to write results into."""
  return shutil.copytree(unbroken("digits"), tmp_path_factory.mktemp("compress") / "run")


@pytest.fixture(scope="module")
def coded(commands, workdir):
  """The coded test split, and what compress said."""
  said = commands.good("compress", f"--workdir={workdir}", f"--out={workdir.parent}/test.gdm", "--compare")
  return workdir.parent / "test.gdm", said


def refused(commands, binary, message, out, *args, **environment):
  """The command says one line of error that holds `message`, and leaves nothing where it should have written."""
  result = commands.run(binary, *args, f"--out={out}", **environment)
  assert (result.status, result.out, result.err.count("\n")) == (2, "", 1), result
  assert result.err.startswith("error: ") and message in result.err, result.err
  assert not out.exists() and not list(out.parent.glob(".*.partial"))


def test_the_split_comes_back_at_the_claimed_price(commands, workdir, coded, tmp_path):
  path, said = coded
  out = tmp_path / "x.npz"
  assert commands.good("decompress", f"--workdir={workdir}", f"--in={path}", f"--out={out}") == (
      f"300 examples (8, 8, 1) of uint8 in {out}, the test split of digits+binarize.\n")
  x = load_run(Workdir(workdir), {}).dataset.split("test")["x"]
  with np.load(out, allow_pickle=False) as found:
    assert list(found) == ["x"] and found["x"].dtype == x.dtype
    np.testing.assert_array_equal(found["x"], x)
  commands.good("evaluate", f"--workdir={workdir}")
  likelihood = json.loads((workdir / "likelihood_test.json").read_text())
  report = json.loads((workdir / "coded_test.json").read_text())
  np.testing.assert_allclose(report["claimed_bits_per_dim"], likelihood["bits_per_dim"], rtol=1e-6)
  assert report["payload_bits"] == 8 * (path.stat().st_size - HEADER_BYTES) and report["header_bytes"] <= 256
  assert report["num_dims"] == 300 * 64 and abs(report["ratio"] - 1.0) < 0.005
  assert report["payload_bits"] < 8 * min(report["others"].values())
  assert set(report["others"]) - {"JPEG XL lossless"} == {"zlib", "bz2", "xz", "PNG", "WebP lossless"}
  assert "decoded again and found the same" in said and f"{report['coded_bits_per_dim']:.4f} bits/dim coded" in said
  ranked = commands.good("leaderboard", workdir)
  assert f"{likelihood['bits_per_dim']:.4f}" in ranked and f"{report['coded_bits_per_dim']:.4f}" in ranked


@pytest.mark.slow
def test_a_model_of_any_order_is_coded_in_fixed_ones(commands, unbroken, tmp_path):
  workdir, file, out = shutil.copytree(unbroken("ardm"), tmp_path / "run"), tmp_path / "test.gdm", tmp_path / "x.npz"
  said = commands.good("compress", f"--workdir={workdir}", f"--out={file}", "--num_samples=2")
  report = json.loads((workdir / "coded_test.json").read_text())
  assert abs(report["ratio"] - 1.0) < 0.01
  assert "orders: 2 fixed, whose mixture is claimed" in said and f"{report['bound_bits_per_dim']:.4f}" in said
  commands.good("decompress", f"--workdir={workdir}", f"--in={file}", f"--out={out}")
  with np.load(out, allow_pickle=False) as found:
    np.testing.assert_array_equal(found["x"], load_run(Workdir(workdir), {}).dataset.split("test")["x"])


@pytest.mark.slow
def test_any_checkpoint_and_parameters_can_be_chosen(commands, unbroken, tmp_path):
  workdir = shutil.copytree(unbroken("gray"), tmp_path / "run")
  said = commands.good("compress", f"--workdir={workdir}", f"--out={tmp_path}/v.gdm", "--split=valid", "--noverify",
                       "--checkpoint=28", "--config.evaluation.parameters=live")
  assert "200 examples, live, step 28" in said and "not verified" in said
  commands.good("decompress", f"--workdir={workdir}", f"--in={tmp_path}/v.gdm", f"--out={tmp_path}/x.npz")
  x = load_run(Workdir(workdir), {}).dataset.split("valid")["x"]
  np.testing.assert_array_equal(np.load(tmp_path / "x.npz")["x"], x)


def test_what_would_be_garbage_is_refused(commands, unbroken, workdir, coded, tmp_path):
  path, out = coded[0], tmp_path / "x.npz"
  data = path.read_bytes()

  def put(name, contents):
    (tmp_path / name).write_bytes(contents)
    return f"--in={tmp_path / name}"

  here = f"--workdir={workdir}"
  refused(commands, "decompress", "is cut: its payload has", out, here, put("cut", data[:-4]))
  refused(commands, "decompress", "does not have its checksum", out, here,
          put("edited", data[:-1] + bytes([data[-1] ^ 1])))
  refused(commands, "decompress", "is no file of experiments.compress", out, here, put("foreign", b"PK\3\4" + data))
  refused(commands, "decompress", "cannot be read", out, here, f"--in={tmp_path / 'nowhere'}")
  refused(commands, "decompress", "another machine or by other versions", out, here, f"--in={path}",
          XLA_FLAGS="--xla_cpu_enable_fast_math=false")


@pytest.mark.slow
def test_weights_of_the_same_step_are_told_apart(commands, unbroken, workdir, tmp_path):
  commands.good("compress", f"--workdir={workdir}", f"--out={tmp_path}/f", "--checkpoint=last", "--split=valid")
  refused(commands, "decompress", "other weights or settings of the model", tmp_path / "x.npz",
          f"--workdir={unbroken('digits', '--config.seed=1')}", f"--in={tmp_path}/f")


def test_no_file_is_left_half_written(commands, workdir, coded, tmp_path):
  for binary, args, name in (("compress", ["--noverify"], "f"), ("decompress", [f"--in={coded[0]}"], "x.npz")):
    out = tmp_path / name
    result = commands.run(binary, f"--workdir={workdir}", *args, f"--out={out}", limit=1000)
    assert result.status == 2 and f"{out} cannot be written" in result.err
    assert list(tmp_path.iterdir()) == []


def test_places_that_cannot_be_written_are_named_before_anything_is_computed(commands, workdir, coded, tmp_path):
  precious = tmp_path / "precious"
  precious.write_text("mine")
  here = f"--workdir={workdir}"
  for binary, args, message in (
      ("compress", ["--out=/nowhere/f"], "--out is /nowhere/f, but there is no folder /nowhere"),
      ("compress", [f"--out={precious}"], "which exists and is no file of experiments.compress"),
      ("compress", [], "--out is missing"),
      ("compress", [f"--out={tmp_path}/f", "--split=tset"], "has no split 'tset'"),
      ("decompress", [f"--in={coded[0]}", f"--out={tmp_path}/x.txt"], "it must end in .npz"),
      ("decompress", [f"--out={tmp_path}/x.npz"], "--in is missing")):
    result = commands.run(binary, here, *args)
    assert (result.status, result.out, result.err.count("\n")) == (2, "", 1) and message in result.err, result
  assert [path.name for path in tmp_path.iterdir()] == ["precious"] and precious.read_text() == "mine"


def test_a_model_without_conditionals_is_refused(commands, unbroken, tmp_path):
  refused(commands, "compress", "Independent has no conditionals to code by", tmp_path / "f",
          f"--workdir={unbroken('independent')}")
