"""Sampling by a config's settings, and the comparison of samplers, on a model whose samplers are formulas."""

import dataclasses
import json
import pathlib
from contextlib import nullcontext

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from gdm.data.dataset import Dataset
from gdm.dataspec import DataSpec
from gdm.errors import ConfigError, DataError, SpecError
from gdm.evaluation.quality import table, write_quality
from gdm.likelihood import Kind, LogLikelihood
from gdm.model import Samples
from gdm.runs import defaults, plotting
from gdm.runs.comparison import choose, compare, parse_choices, spread_rows
from gdm.runs.registry import build_model
from gdm.runs.sampling import draw, draw_many, require_samples, sampling_options
from gdm.runs.trained import TrainedRun

BIAS = {"ddim": 4.0, "ancestral": 40.0}


@dataclasses.dataclass(frozen=True)
class Formula:
  """Draws from N(0, I), shifted the more the fewer steps a sampler takes; labels shift by 100 each."""

  spec: DataSpec
  class_conditional: bool = False
  objectives: tuple = ()

  def init(self, key, batch):
    return {}, {}

  def sample(self, params, carry, key, num, condition=None, sampler="ddim", num_steps=20, eta=0.0, guidance=1.0,
             num_frames=0):
    shift = BIAS[sampler] / num_steps + eta + (0.0 if condition is None else 100.0 * condition[:, None])
    x = jax.random.normal(key, (num, *self.spec.event)) + shift
    trajectory = {"trajectory": x * jnp.linspace(3.0, 2.0, num_frames)[:, None, None]} if num_frames else {}
    return Samples(x, {"nfe": num_steps, **trajectory})

  def score(self, params, carry, x, t):
    return -x * jnp.ones_like(t)

  def noised(self, params, carry, key, x, t):
    return x + t * jax.random.normal(key, x.shape)

  def log_likelihood(self, params, carry, batch, key, num_samples=1):
    return LogLikelihood.of(-jnp.sum(batch["x"]**2, axis=1), 2, Kind.LOWER_BOUND)


@dataclasses.dataclass(frozen=True)
class Plain:
  """Draws in one way, tells no NFE, and has a temperature."""

  spec: DataSpec

  def sample(self, params, carry, key, num, condition=None, temperature=1.0):
    return Samples(temperature * jax.random.normal(key, (num, *self.spec.event)), {})


def run_of(model=Formula, spec=None, splits=None, data=None, **sampling):
  """A run of a model of points of the plane."""
  rng, config = np.random.default_rng(0), defaults.get_config()
  config.model.name = "formula"
  config.evaluation.batch_size = 64
  config.sampling.update(sampling)
  spec = spec or DataSpec((2,), None)
  splits = splits or {name: {"x": rng.normal(size=(num, 2)).astype(np.float32)}
                      for name, num in (("train", 500), ("valid", 50), ("test", 400))}
  dataset = data or Dataset("normal", spec, splits)
  return TrainedRun.of(config, dataset, model(spec), {}, {}, step=7, train_seconds=1.0)


LABELLED = DataSpec((2,), None, num_classes=3)


def labelled(**sampling):
  x, y = np.zeros((8, 2), np.float32), np.array([0, 0, 0, 0, 0, 2, 2, 2])
  splits = {name: {"x": x, "y": y} for name in ("train", "valid", "test")}
  return run_of(lambda spec: Formula(spec, True), LABELLED, splits, **sampling)


def test_a_model_is_given_what_differs_from_its_own_choice():
  assert sampling_options(run_of()) == {}
  assert sampling_options(run_of(sampler="ancestral", num_steps=5, guidance=2.0, eta=0.5, num=9, seed=4)) == {
      "sampler": "ancestral", "num_steps": 5, "guidance": 2.0, "eta": 0.5}
  np.testing.assert_allclose(draw(run_of(num_steps=1, num=500, seed=4)).x.mean(), 4.0, atol=0.2)
  assert sampling_options(run_of(Plain, temperature=0.5)) == {"temperature": 0.5}


@pytest.mark.parametrize(("model", "setting", "message"), [
    (Formula, {"temperature": 0.5}, r"sampling\.temperature is 0\.5, but formula has none; it must be 1\.0\. What it "
                                    "has: sampler, num_steps, eta, guidance"),
    (Plain, {"num_steps": 5}, r"sampling\.num_steps is 5, but formula has none; it must be 0\. What it has: temp"),
    (Plain, {"guidance": 2.0}, r"sampling\.guidance is 2\.0"),
    (object, {}, "formula cannot sample"),
])
def test_a_setting_that_a_model_lacks_is_named(model, setting, message):
  make = (lambda spec: object()) if model is object else model
  with pytest.raises(ConfigError, match=message):
    sampling_options(run_of(make, **setting))


@pytest.mark.parametrize(("model", "setting", "message"), [
    (lambda spec: build_model({"name": "made"}, spec), {"sampler": "heun"}, "sampling.sampler is 'heun', but formula"),
    (lambda spec: build_model({"name": "edm"}, spec), {"sampler": "hen"}, "sampling.sampler='hen' cannot be: .*'heun'"),
    (lambda spec: build_model({"name": "edm"}, spec), {"guidance": 2.0}, "sampling.guidance=2.0 cannot be"),
    (lambda spec: object(), {"num_steps": 5}, "sampling.num_steps is 5, but formula has none"),
    (lambda spec: build_model({"name": "edm"}, spec), {"sampler": "ddim", "num_steps": 3}, None),
    (lambda spec: object(), {}, None),
])
def test_what_cannot_be_drawn_is_found_before_training(model, setting, message):
  run = run_of(model, **setting)
  params, carry = jax.eval_shape(run.model.init, jax.random.key(0), {"x": np.zeros((2, 2), np.float32)}) if hasattr(
      run.model, "init") else ({}, {})
  with nullcontext() if message is None else pytest.raises(ConfigError, match=message):
    require_samples(run.config, run.model, run.dataset, params, carry)


def test_a_field_beyond_the_base_is_an_option_too():
  run = run_of()
  run.config.sampling.lattice = "uniform"
  with pytest.raises(ConfigError, match=r"sampling\.lattice is 'uniform', but formula has none; leave it out"):
    sampling_options(run)


def test_frames_are_asked_for_only_where_there_are_some():
  drawn = draw(run_of(num=5), num_frames=3)
  assert drawn.info["trajectory"].shape == (3, 5, 2)
  np.testing.assert_array_equal(drawn.info["trajectory"][-1], drawn.x)
  with pytest.raises(ConfigError, match="formula draws samples in no steps from noise"):
    draw(run_of(Plain), num_frames=3)


def test_classes_take_turns_in_pictures_and_come_as_often_as_in_the_data_in_numbers():
  seen = np.asarray(draw(labelled(num=6, num_steps=10_000)).x)
  np.testing.assert_array_equal(np.round(seen / 100).astype(int)[:, 0], [0, 1, 2, 0, 1, 2])
  many = draw_many(labelled(), 400, {"num_steps": 10_000}, "a", 150)
  np.testing.assert_array_equal(many.y, np.round(many.x[:, 0] / 100))
  np.testing.assert_allclose(np.bincount(many.y, minlength=3) / 400, [5 / 8, 0, 3 / 8], atol=0.1)


def test_batches_are_independent_and_of_one_shape():
  run, calls = run_of(), []

  class Spied(Formula):
    def sample(self, params, carry, key, num, **options):
      calls.append(num)
      return super().sample(params, carry, key, num, **options)

  spied = dataclasses.replace(run, model=Spied(run.model.spec))
  drawn = draw_many(spied, 150, {}, "a", 64)
  assert drawn.x.shape == (150, 2) and drawn.nfe == 20 and drawn.samples_per_second > 0
  assert calls == [64]  # traced once for three batches
  assert len(np.unique(drawn.x[:, 0])) == 150
  assert not np.isin(draw_many(run, 150, {}, "b", 64).x, drawn.x).any()  # another name, other numbers
  np.testing.assert_array_equal(draw_many(run, 150, {}, "a", 64).x, drawn.x)


def test_a_solver_out_of_tolerance_is_an_error():
  class Stuck(Formula):
    def sample(self, params, carry, key, num, **options):
      drawn = super().sample(params, carry, key, num, **options)
      return Samples(drawn.x, {"nfe": jnp.int32(99), "solved": jnp.all(drawn.x > 1e3)})

  with pytest.raises(ConfigError, match="adaptive:7 did not reach its tolerance with 99 evaluations"):
    draw_many(run_of(Stuck), 10, {}, "adaptive:7", 10)


def test_a_worse_sampler_is_found_worse_and_the_model_is_as_good_as_data(tmp_path, monkeypatch):
  run = run_of()
  choices, reference = choose(run, "ddim:5,ddim:400,ancestral:4000", "")
  assert reference == ("ancestral", 4000)
  found = compare(run, "test", 500, choices, reference)
  bad, good, against = found.rows
  for kernel in ("cubic", "gaussian"):
    value, stderr, _ = bad.difference[kernel]
    assert value > 4 * stderr
    value, stderr, _ = good.difference[kernel]
    assert abs(value) < 3 * stderr
    assert abs(found.floor.squared[kernel].value) < 3 * found.floor.squared[kernel].stderr
  assert against.difference is None and found.floor.name == "train data" and found.floor.num == 500
  assert [row.nfe for row in found.rows] == [5, 400, 4000]
  drawn = {}
  monkeypatch.setattr(plotting, "save_nfe", lambda path, panels, floors, title: drawn.update(panels))
  assert plotting.draw_nfe(tmp_path, found)
  assert {name: [point.nfe for point in points] for name, points in drawn["cubic"].items()} == {
      "ddim": [5, 400], "ancestral": [4000]}
  assert drawn["gaussian"]["ddim"][0][1:] == (bad.squared["gaussian"].value, bad.squared["gaussian"].half)
  write_quality(tmp_path / "quality.json", found.about, found.rows, found.floor, found.reference)
  written = json.loads((tmp_path / "quality.json").read_text())
  assert written["reference"] == "ancestral:4000" and written["num_data"] == 400 and written["given"] == []
  assert written["rows"][0]["difference"]["cubic"]["value"] == bad.difference["cubic"].value
  low, high = written["rows"][0]["difference"]["cubic"]["ci95"]
  assert high - low == pytest.approx(2.0 * bad.difference["cubic"].half)
  assert written["data_fingerprint"] == run.dataset.fingerprint("test")
  assert written["features"] == {"name": "pixels", "dims": 2} and written["measures"] == {}
  lines = table(found.rows, found.floor, found.reference).splitlines()
  assert len(lines) == 6 and "cubic - ancestral:4000" in lines[0] and "s.e.)" in lines[2] and "s.e.)" not in lines[4]


def test_a_model_of_one_way_has_one_row():
  run = run_of(Plain)
  choices, reference = choose(run, "", "")
  found = compare(run, "train", 100, choices, reference)
  assert [row.name for row in found.rows] == ["samples"] and found.reference is None
  assert found.floor.name == "test data"
  assert "samples" in table(found.rows, found.floor, None)
  assert not plotting.draw_nfe(pathlib.Path("nowhere"), found)


@pytest.mark.parametrize(("args", "message"), [
    (("ddim", ""), "--samplers has 'ddim'; it must be <sampler>:<steps>"),
    (("ddim:0", ""), "--samplers has 'ddim:0'"),
    (("ddim:5,ddim:5", ""), "names ddim:5 twice"),
    (("ddim:5,ddim:6", "ddim:7"), "--reference is 'ddim:7'; it must be one of --samplers: ddim:5, ddim:6"),
])
def test_choices_that_are_none(args, message):
  with pytest.raises(ConfigError, match=message):
    choose(run_of(), *args)


def test_what_cannot_be_compared():
  with pytest.raises(ConfigError, match="--samplers is 'ddim:5', but formula has one way to sample"):
    choose(run_of(Plain), "ddim:5", "")
  with pytest.raises(ConfigError, match="--num is 3"):
    compare(run_of(), "test", 3, parse_choices("ddim:5"), None)
  text = Dataset("tale", DataSpec((2,), 5), {"test": {"x": np.zeros((9, 2), np.uint8), "length": np.ones(9, int)}})
  with pytest.raises(SpecError, match="tale is text"):
    spread_rows(text, "test")
  with pytest.raises(DataError, match="2 examples in test"):
    spread_rows(Dataset("few", DataSpec((2,), None), {"test": {"x": np.zeros((2, 2))}}), "test")


def test_scores_and_trajectories_of_the_plane_are_drawn_but_no_density_of_a_bound(tmp_path):
  run = dataclasses.replace(run_of(num=50), folder=tmp_path)
  plotting.draw_model(run)
  plotting.save_trajectory(run, np.asarray(draw(run, 2).info["trajectory"]))
  assert {path.name for path in tmp_path.iterdir()} == {"scores.png", "trajectory.png", "trajectory.gif"}
  with Image.open(tmp_path / "trajectory.gif") as film:
    assert film.n_frames == 2
  with pytest.raises(ConfigError, match=r"--frames shows images and points of the plane, but normal has events \(3,\)"):
    plotting.require_shown(dataclasses.replace(run, data=dataclasses.replace(run.data, spec=DataSpec((3,), None))))


def test_draws_come_in_batches_and_the_first_ones_are_the_same_however_many():
  """Memory is that of one batch; classes go on taking turns."""
  sizes = []

  class Spied(Plain):
    def sample(self, params, carry, key, num, condition=None, temperature=1.0):
      sizes.append(num)
      drawn = super().sample(params, carry, key, num, condition, temperature)
      return Samples(drawn.x, {"nfe": 3, "mean": drawn.x[:, :1], "least_acceptance": drawn.x[0, 0],
                               "least_acceptance_beta": drawn.x[0, 0] + 1.0, "effective_sample_size": 1.0 * num})

  many, few = (draw(run_of(Spied, num=num)) for num in (150, 64))
  assert many.x.shape == (150, 2) and len(np.unique(many.x, axis=0)) == 150 and set(sizes) == {64}
  np.testing.assert_array_equal(many.x[:64], few.x)
  assert many.info["nfe"] == 3 and many.info["effective_sample_size"] == 192 and many.info["mean"].shape == (192, 1)
  assert many.info["least_acceptance"] == min(many.info["mean"][[0, 64, 128], 0])
  np.testing.assert_allclose(many.info["least_acceptance_beta"], many.info["least_acceptance"] + 1.0, rtol=1e-6)
  assert draw(run_of(num=100), num_frames=3).info["trajectory"].shape == (3, 100, 2)
  seen = np.asarray(draw(labelled(num=70, num_steps=10_000)).x)
  np.testing.assert_array_equal(np.round(seen / 100).astype(int)[:, 0], np.arange(70) % 3)


@pytest.mark.parametrize(("num", "times"), [(150, {1}), (64, {1}), (300, {1, 2})])
def test_chains_are_drawn_once_before_any_twice_in_batches_too(num, times):
  class Chains(Plain):
    def sample(self, params, carry, key, num, condition=None, temperature=1.0, start="base"):
      chains = jax.random.permutation(key, carry["chains"].reshape(-1, 2))
      return Samples(chains[jnp.arange(num) % len(chains)], {"nfe": 0})

  run = run_of(Chains, num=num, start="chains")
  run = dataclasses.replace(run, carry={"chains": jnp.arange(400.0).reshape(4, 50, 2)})
  values, counts = np.unique(np.asarray(draw(run).x)[:, 0], return_counts=True)
  assert set(counts) == times and len(values) == min(num, 200)
