"""A run as an object: from its workdir or one exported file, without its data, scoring and drawing the same."""

import json
import shutil

import jax.numpy as jnp
import numpy as np
import pytest
from helpers.commands import ROOT
from safetensors import safe_open
from safetensors.numpy import save_file

import gdm
from gdm.errors import CheckpointError, ConfigError, DataError, UserError, WorkdirError

CONFIGS = ROOT / "configs"


@pytest.fixture(scope="module")
def table(tmp_path_factory):
  """A file of real numbers far from standardized."""
  rng = np.random.default_rng(0)
  arrays = {name: (1000 + 5 * rng.normal(size=(num, 3))) for name, num in (("train", 200), ("valid", 40), ("test", 50))}
  path = tmp_path_factory.mktemp("table") / "table.npz"
  np.savez(path, **arrays)
  return path


@pytest.fixture(scope="module")
def workdir(commands, table, tmp_path_factory):
  """A run whose data are gone, but for a copy elsewhere."""
  folder = tmp_path_factory.mktemp("open")
  shutil.copy(table, folder / "here.npz")
  commands.good("train", f"--config={CONFIGS}/baselines/gaussian_mixture.py:npz",
                f"--workdir={folder}/run", f"--config.data.path={folder / 'here.npz'}",
                "--config.evaluation.cell_points=0")
  commands.good("evaluate", f"--workdir={folder}/run")
  (folder / "here.npz").unlink()
  return folder / "run"


@pytest.fixture(scope="module")
def exported(commands, workdir):
  out = workdir.parent / "mixture.safetensors"
  commands.good("export", f"--workdir={workdir}", f"--out={out}")
  return out


def test_scores_are_those_of_evaluate_and_need_no_data(workdir, table):
  run, x = gdm.load(workdir), np.load(table)["test"]
  found = run.log_likelihood(x, raw=True)
  assert found.kind == run.report["likelihood_test"]["kind"] and found.nats.shape == (50,)
  np.testing.assert_allclose(found.nats_mean, run.report["likelihood_test"]["nats_mean"], rtol=1e-6)
  np.testing.assert_allclose(found.nats_ci95, run.report["likelihood_test"]["nats_ci95"], rtol=1e-6)
  served = run.serve(x)
  for each in (served, jnp.asarray(served)):
    np.testing.assert_array_equal(run.log_likelihood(each).nats, found.nats)
  np.testing.assert_allclose(run.log_likelihood(served[:7]).nats, found.nats[:7], rtol=1e-6)
  with pytest.raises(DataError, match="does not exist"):
    _ = run.dataset


def test_an_exported_file_is_the_run(workdir, exported):
  run, other = gdm.load(workdir), gdm.load(exported)
  x = run.sample(20, seed=3)
  assert x.shape == (20, 3) and (x != run.sample(20, seed=4)).any()
  np.testing.assert_array_equal(other.sample(20, seed=3), x)
  np.testing.assert_array_equal(other.log_likelihood(x).nats, run.log_likelihood(x).nats)
  assert (other.step, other.spec, other.data, other.report) == (run.step, run.spec, run.data, run.report)
  card = exported.with_suffix(".md").read_text()
  assert run.data.identity["train"] in card and 'gdm.load("mixture.safetensors")' in card
  assert f"{run.report['likelihood_test']['nats_mean']:.4f}" in card


def test_commands_take_an_exported_file(commands, exported):
  said = commands.good("sample", f"--workdir={exported}", "--num=5")
  assert said == f"5 samples in {exported.parent}/mixture_exported/samples.npz\n"


def test_an_exported_file_beside_its_workdir_leaves_that_alone(commands, workdir, exported):
  beside = workdir.parent / "run.safetensors"
  beside.write_bytes(exported.read_bytes())
  before = {path: path.stat().st_mtime_ns for path in workdir.rglob("*")}
  commands.good("sample", f"--workdir={beside}", "--num=2")
  assert {path: path.stat().st_mtime_ns for path in workdir.rglob("*")} == before


def test_other_data_get_the_runs_transforms_and_a_report_of_their_own(commands, workdir, exported, table):
  before = (workdir / "likelihood_test.json").read_bytes()
  x = np.load(table)["test"]
  np.savez(workdir.parent / "new.npz", **{name: x + 1 for name in ("train", "valid", "test")})
  for where, flag in ((workdir, "--data=npz:{}"), (exported, "--config.data.path={}")):
    commands.good("evaluate", f"--workdir={where}", flag.format(workdir.parent / "new.npz"))
    folder = where if where.is_dir() else where.parent / "mixture_exported"
    found = json.loads((folder / "likelihood_test_on_npz_new_standardize.json").read_text())
    expected = gdm.load(workdir).log_likelihood(x + 1, raw=True).nats_mean
    np.testing.assert_allclose(found["nats_mean"], expected, rtol=1e-6)
  assert (workdir / "likelihood_test.json").read_bytes() == before
  (workdir.parent / "elsewhere").mkdir()  # a file of the same name, with other data, replaces no report
  np.savez(workdir.parent / "elsewhere" / "new.npz", **{name: x + 2 for name in ("train", "valid", "test")})
  commands.good("evaluate", f"--workdir={workdir}", f"--data=npz:{workdir.parent / 'elsewhere' / 'new.npz'}")
  [second] = workdir.glob("likelihood_test_on_npz_new_standardize_*.json")
  first = json.loads((workdir / "likelihood_test_on_npz_new_standardize.json").read_text())
  assert first["data_fingerprint"] != json.loads(second.read_text())["data_fingerprint"]
  np.savez(workdir.parent / "wide.npz", **{name: np.ones((9, 4)) for name in ("train", "valid", "test")})
  result = commands.run("evaluate", f"--workdir={workdir}", f"--data=npz:{workdir.parent / 'wide.npz'}")
  assert result.status == 2 and "real numbers of shape (4,)" in result.err and "of shape (3,)" in result.err


def test_completions_labels_and_latents(unbroken):
  run = gdm.load(unbroken("digits"))
  x = run.sample(4)
  known = np.zeros((8, 8, 1), bool)
  known[:4] = True
  np.testing.assert_array_equal(run.complete(x, known)[:, :4], x[:, :4])
  for ask in (run.labels, run.encode, run.decode):
    with pytest.raises(ConfigError, match="fvsbn"):
      ask(x)
  with pytest.raises(ConfigError, match=r"sampling\.guidance"):
    run.sample(2, guidance=3.0)
  with pytest.raises(ConfigError, match="y is given, but fvsbn"):
    run.sample(2, labels=np.arange(2))
  with pytest.raises(ConfigError, match="num_draws is 0"):
    run.log_likelihood(x, num_draws=0)


@pytest.mark.parametrize(("x", "words"), [
    (np.zeros((2, 8, 8), int), r"shape \(2, 8, 8\); examples of .* are \[num, 8, 8, 1\]"),
    (np.full((2, 8, 8, 1), 2), r"in \[0, 2\)"),
    (np.full((2, 8, 8, 1), 0.5), "fractions"),
    (np.full((2, 8, 8, 1), np.nan), "fractions"),
    (np.zeros((0, 8, 8, 1), int), "no examples|empty"),
])
def test_examples_that_cannot_be_are_errors(unbroken, x, words):
  with pytest.raises(DataError, match=words):
    gdm.load(unbroken("digits")).log_likelihood(x)


def _edited(exported, change):
  with safe_open(exported, "np") as file:
    metadata, leaves = dict(file.metadata()), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
  change(metadata, leaves)
  path = exported.with_name("edited.safetensors")
  save_file(leaves, path, metadata)
  return path


@pytest.mark.parametrize(("change", "words"), [
    (lambda metadata, leaves: next(iter(leaves.values())).__iadd__(1), "was changed since it was written"),
    (lambda metadata, leaves: metadata.update(step="8"), "was changed since it was written"),
    (lambda metadata, leaves: metadata.update(gdm_format="99"), "99; this version reads up to 1. Update gdm"),
    (lambda metadata, leaves: metadata.pop("gdm_format"), "It is no weights of gdm"),
    (lambda metadata, leaves: metadata.pop("description"), "no description: it is no exported run of this version"),
])
def test_a_file_that_was_edited_or_is_newer_is_refused(exported, change, words):
  with pytest.raises(CheckpointError, match=words):
    gdm.load(_edited(exported, change))


def test_what_is_no_run_is_told(tmp_path, exported):
  with pytest.raises(WorkdirError, match="does not exist"):
    gdm.load(tmp_path / "nothing")
  with pytest.raises(ConfigError, match="holds one state only"):
    gdm.load(exported, checkpoint="3")
  with pytest.raises(ConfigError, match=r"evaluation\.parameters is 'ema'"):
    gdm.load(exported, overrides={"evaluation.parameters": "ema"})
  for overrides in ({"evaluation.nothing": 1}, {"data.transforms": ()}, {"evaluation.num_draws": 0}):
    with pytest.raises(UserError, match=r"evaluation|transforms"):
      gdm.load(exported, overrides=overrides)


def test_text_goes_on_without_its_file(commands, tmp_path):
  (tmp_path / "tale.txt").write_text("the cat sat on the mat. " * 60)
  commands.good("train", f"--config={CONFIGS}/baselines/ngram.py:text", f"--workdir={tmp_path}/run",
                f"--config.data.path={tmp_path}/tale.txt")
  run = gdm.load(tmp_path / "run")
  (tmp_path / "tale.txt").unlink()
  again = gdm.load(tmp_path / "run")
  assert again.data == run.data and again.data.tokenizer.decode(again.data.tokenizer.encode("the cat")) == "the cat"


def test_new_text_is_scored_by_the_runs_vocabulary(commands, tmp_path):
  (tmp_path / "tale.txt").write_text("the cat sat on the mat. " * 60)
  (tmp_path / "new.txt").write_text("a cat met the man on the mat. " * 20)
  commands.good("train", f"--config={CONFIGS}/baselines/ngram.py:text", f"--workdir={tmp_path}/run",
                f"--config.data.path={tmp_path}/tale.txt#context=32")
  said = commands.good("evaluate", f"--workdir={tmp_path}/run", f"--data=text:{tmp_path}/new.txt", "--split=valid")
  assert "text:new" in said
  (tmp_path / "other.txt").write_text("xyz " * 200)
  result = commands.run("evaluate", f"--workdir={tmp_path}/run", f"--data=text:{tmp_path}/other.txt", "--split=valid")
  assert result.status == 2 and "does not occur in the training part" in result.err


@pytest.mark.slow
def test_a_model_given_a_context_by_every_command(commands, tmp_path):
  rng = np.random.default_rng(0)
  dose, weight = rng.uniform(size=400), rng.normal(size=400)
  lines = [f"{d:.4f},{w + 3 * d:.4f},{w:.4f}" for d, w in zip(dose, weight, strict=True)]
  (tmp_path / "table.csv").write_text("\n".join(["dose,weight,height", *lines]) + "\n")
  commands.good("train", f"--config={CONFIGS}/flows/maf.py:npz", f"--workdir={tmp_path}/run",
                f"--config.data.name=csv:{tmp_path}/table.csv#columns=weight,height&context=dose",
                "--config.training.num_steps=3")
  assert "log p(x | context)" in commands.good("evaluate", f"--workdir={tmp_path}/run")
  commands.good("sample", f"--workdir={tmp_path}/run", "--num=3")
  found = np.load(tmp_path / "run" / "samples.npz")
  assert found["x"].shape == (3, 2) and found["context"].shape == (3, 1)
  run = gdm.load(tmp_path / "run")
  x = run.sample(4, context=np.zeros((4, 1), np.float32))
  latent = run.encode(x, context=np.zeros((4, 1), np.float32))
  np.testing.assert_allclose(run.decode(latent, context=np.zeros((4, 1), np.float32)), x, atol=1e-3)
  raw = run.log_likelihood(np.array([[1.0, 0.5]]), context=np.array([[0.3]]), raw=True)
  assert raw.given == ("context",) and raw.nats.shape == (1,)
  for call in (lambda: run.log_likelihood(x), lambda: run.encode(x)):
    with pytest.raises(UserError, match="no 'context'"):
      call()
