"""Features and labels by other runs, and tables of measures, on runs whose models are formulas."""

import dataclasses
import json

import jax.numpy as jnp
import numpy as np
import pytest

from gdm.data.dataset import Dataset, Modes
from gdm.dataspec import DataSpec
from gdm.errors import ConfigError, DataError, NotFiniteError, SpecError
from gdm.model import HasFeatures, Samples
from gdm.runs import defaults, features, plotting
from gdm.runs.comparison import SamplerChoice, compare
from gdm.runs.features import Features, find_features
from gdm.runs.trained import TrainedRun
from gdm.studies import labels
from gdm.studies.labels import Labeler
from gdm.studies.measures import MEASURES, choose_measures, measure

IMAGES = DataSpec((2, 2, 1), 4, num_classes=4)
ONE_WAY = (SamplerChoice(None, None),)


def images(num, channels=1, seed=0):
  """Images whose every channel has a label, its first pixel; of all channels the labels make one number."""
  x = np.random.default_rng(seed).integers(0, 4, (num, 2, 2, channels)).astype(np.uint8)
  return {"x": x, "y": np.sum(x[:, 0, 0].astype(int) * 4 ** np.arange(channels)[::-1], axis=1)}


def run_of(model, spec=IMAGES, splits=None, modes=None):
  config = defaults.get_config()
  config.model.name, config.evaluation.batch_size = "formula", 64
  splits = splits or {name: images(num, seed=seed) for seed, (name, num) in enumerate(
      (("train", 300), ("valid", 50), ("test", 200)))}
  return TrainedRun.of(config, Dataset("squares", spec, splits, modes=modes), model, {}, {}, step=7, train_seconds=1.0)


@dataclasses.dataclass(frozen=True)
class Classifier:
  """Tells the first pixel, but takes 3 for 2; features are the four pixels, twice."""

  spec: DataSpec = IMAGES

  def log_label_probs(self, params, carry, batch):
    first = jnp.asarray(batch["x"])[:, 0, 0, 0].astype(int)
    return jnp.where(jnp.arange(4) == jnp.minimum(first, 2)[:, None], 0.0, -50.0)

  def features(self, params, carry, batch):
    return 2.0 * jnp.asarray(batch["x"]).reshape(len(batch["x"]), -1)


@dataclasses.dataclass(frozen=True)
class Encoder:
  """Has latents of two parts."""

  def encode(self, params, carry, batch, key):
    x = jnp.asarray(batch["x"], jnp.float32)
    return {"a": x[:, 0], "b": x[:, 1]}

  def decode(self, params, carry, latent, key):
    return latent


@dataclasses.dataclass(frozen=True)
class Sampler:
  """Draws training examples, or with labels images whose first pixel is the label."""

  train: object
  class_conditional: bool = False

  def sample(self, params, carry, key, num, condition=None):
    start = jnp.asarray(self.train)[:num]
    return Samples(start if condition is None else start.at[:, 0, 0, 0].set(condition.astype(start.dtype)), {})


@pytest.fixture
def elsewhere(monkeypatch, tmp_path):
  """A folder, in which the run lies that is given."""
  def put(run):
    for module in (features, labels):
      monkeypatch.setattr(module, "open_run", lambda path: run)
    return str(tmp_path)
  return put


def test_pixels_are_scaled_by_levels():
  run = run_of(Classifier())
  found = find_features("pixels", run, run.dataset.split("train")["x"])
  np.testing.assert_allclose(found(images(5)["x"]), images(5)["x"].reshape(5, -1) / 3.0)


def test_features_of_a_run_are_of_its_network_or_its_latents_in_batches_of_one_shape(elsewhere):
  run, x = run_of(Classifier()), images(150, seed=9)["x"]
  assert isinstance(run.model, HasFeatures)
  found = find_features(elsewhere(run), run, x)
  np.testing.assert_array_equal(found(x), 2.0 * x.reshape(150, -1))
  assert found.about["what"] == "features" and found.about["train_fingerprint"] == run.dataset.fingerprint("train")
  np.testing.assert_array_equal(np.concatenate(list(found.of_split(run.dataset, "train", 70))),
                                found(run.dataset.split("train")["x"]))
  found = find_features(elsewhere(run_of(Encoder())), run, x)
  np.testing.assert_array_equal(found(x), np.concatenate([x[:, 0, :, 0], x[:, 1, :, 0]], axis=1))
  assert found.about["what"] == "latents"


def corners(x):
  return x[:, 0, 0]


def test_features_by_a_function_by_name():
  run, x = run_of(Classifier()), images(150)["x"]
  found = find_features(f"{__name__}:corners", run, x)
  np.testing.assert_array_equal(found(x), x[:, 0, 0])
  for name, message in ((f"{__name__}:corner", "cannot be loaded"), ("no.such:thing", "cannot be loaded"),
                        (f"{__name__}:IMAGES", "is DataSpec and no function"), ("nowhere", "there is no such folder")):
    with pytest.raises(ConfigError, match=message):
      find_features(name, run, x)


def test_features_that_are_none_are_refused(elsewhere):
  x = images(10)["x"]
  with pytest.raises(DataError, match=r"odd made an array of float64 of shape \(10,\) from 10 examples"):
    Features("odd", lambda x: np.zeros(len(x)))(x)
  with pytest.raises(NotFiniteError, match="odd: the features of example 7"):
    Features("odd", lambda x: np.where(np.arange(10)[:, None] == 7, np.nan, np.zeros((10, 2))))(x)
  with pytest.raises(ConfigError, match="has neither features nor latents"):
    find_features(elsewhere(run_of(Sampler(x))), run_of(Classifier()), x)
  other = run_of(Classifier(), DataSpec((2, 2, 3), 4), {"train": images(10, 3)})
  with pytest.raises(SpecError, match=r"of another event: squares has events \(2, 2, 3\) of 4 levels, but squares has "
                                      r"\(2, 2, 1\) of 4 levels"):
    find_features(elsewhere(other), run_of(Classifier()), x)


def test_labels_are_told_and_the_classifier_s_error_is_stated(elsewhere):
  run = run_of(Classifier())
  labeler, rows = Labeler(elsewhere(run), run), images(100, seed=3)
  np.testing.assert_array_equal(labeler(rows["x"]), np.minimum(rows["y"], 2))
  own, y = labeler.own_accuracy(), run.dataset.split("test")["y"]
  assert own.accuracy.value == np.mean(y < 3) and own.split == "test" and labeler.num_labels == 4
  with pytest.raises(ConfigError, match="tells no labels"):
    Labeler(elsewhere(run_of(Encoder())), run)


def test_stacked_images_have_labels_of_three_digits(elsewhere):
  stacked = run_of(Sampler(None), DataSpec((2, 2, 3), 4), {"train": images(10, 3)})
  labeler, rows = Labeler(elsewhere(run_of(Classifier())), stacked), images(50, 3, seed=3)
  assert labeler.num_labels == 64 and labeler.is_stacked
  right = (rows["x"][:, 0, 0] < 3).all(axis=1)
  np.testing.assert_array_equal(labeler(rows["x"])[right], rows["y"][right])
  with pytest.raises(SpecError, match=r"--classifier is .* of another event"):
    Labeler(elsewhere(run_of(Classifier(), DataSpec((3, 3, 1), 4, 4), {"train": {"x": np.zeros((9, 3, 3, 1), int)}})),
            stacked)


def test_copies_are_found_and_asked_labels_are_counted(elsewhere, tmp_path):
  """Samples that are training examples but for their labels' pixel; every table has the floor as its last row."""
  spec = DataSpec((2, 2, 1), 4, num_classes=4)
  run = run_of(Sampler(images(300)["x"], True), spec)
  labeler = Labeler(elsewhere(run_of(Classifier())), run)
  found = compare(run, "test", 60, ONE_WAY, None)
  further = measure(run, found, choose_measures("", run, True), labeler)
  assert [each.name for each in further.tables] == ["frechet", "manifolds", "labels", "memorization"]
  tables = {each.name: each.contents for each in further.tables}
  rows = tables["labels"]["rows"]
  assert list(rows) == ["samples", "train data", "test data"] and rows["test data"]["kl"] is None
  assert rows["samples"]["asked"]["value"] == np.mean(found.samples["samples"].y < 3)
  assert rows["train data"]["asked"]["value"] == np.mean(found.other.y < 3)
  assert tables["labels"]["own_accuracy"]["split"] == "test"
  assert "right of" in next(each.text for each in further.tables if each.name == "labels")
  for name in ("frechet", "manifolds"):
    assert list(tables[name]["rows"]) == ["samples", "train data"]
  assert list(tables["memorization"]["rows"]) == ["samples", "half of test data"]
  json.dumps(tables, allow_nan=False)
  lines = [line for each in further.tables for line in each.text.splitlines()]
  assert all(len(line) <= 80 for line in lines if not line.startswith("by "))  # which has a path
  run = dataclasses.replace(run, folder=tmp_path)
  assert plotting.draw_neighbours(run, found.samples["samples"].x, further.neighbours)
  assert (tmp_path / "neighbours.png").exists()


def plane_run(copies, modes=None):
  rng = np.random.default_rng(0)
  splits = {name: {"x": rng.normal(size=(num, 2)).astype(np.float32)} for name, num in (("train", 400), ("test", 300))}
  x = splits["train"]["x"] if copies else rng.normal(size=(400, 2)).astype(np.float32)
  return run_of(Sampler(x), DataSpec((2,), None), splits, modes)


@pytest.mark.parametrize("split", ["test", "train"])
def test_a_sampler_of_copies_is_told_from_an_honest_one(split):
  def z(copies):
    run = plane_run(copies)
    further = measure(run, compare(run, split, 64, ONE_WAY, None), choose_measures("memorization", run, False))
    rows = further.tables[0].contents["rows"]
    assert list(rows) == ["samples", "half of test data"]
    return rows["samples"]["z"]

  assert z(True) < -5.0 and abs(z(False)) < 3.0


def test_modes_are_counted_where_the_data_know_theirs():
  modes = Modes(np.array([[-0.5, 0.0], [0.5, 0.0], [9.0, 9.0]]), np.array([1.0, 1.0]))
  run = plane_run(False, modes)
  assert choose_measures("", run, False).names == ("frechet", "manifolds", "modes", "memorization")
  further = measure(run, compare(run, "test", 64, ONE_WAY, None), choose_measures("modes", run, False))
  row = further.tables[0].contents["rows"]["samples"]
  assert row["num_modes"]["value"] == 2 and row["reverse_kl"]["plug_in"] == pytest.approx(np.log(1.5), abs=0.05)


def test_few_samples_leave_a_table_out_unless_it_was_asked_for():
  run = plane_run(False)
  found = compare(run, "test", 6, ONE_WAY, None)
  texts = {each.name: each.text for each in measure(run, found, choose_measures("", run, False)).tables}
  assert texts["manifolds"].startswith("manifolds: left out. 6 samples are too few")
  with pytest.raises(DataError, match="6 samples are too few"):
    measure(run, found, choose_measures("manifolds", run, False))
  assert set(MEASURES) > {"frechet", "manifolds"}
