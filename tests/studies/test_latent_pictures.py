"""Pictures of latents: what is asked for and cannot be shown is refused, and not left out."""

import types

import numpy as np
import pytest

from gdm.data.dataset import Dataset
from gdm.dataspec import DataSpec
from gdm.errors import ConfigError, DataError
from gdm.runs.latents import Encoded
from gdm.studies.latent_pictures import Wanted, look, look_at_codes, look_from_prior

SUMS = {"arithmetic": Wanted(triples=((0, 1, 2),)), "attribute": Wanted(attribute=0), "without": Wanted(without=0),
        "traverse": Wanted(traverse=1)}
IMAGES, TABLE = (2, 2, 1), (4,)


def run_of(event, folder, test=3):
  """A stand-in for a run, on `test` test examples of the label 1."""
  rng, spec = np.random.default_rng(0), DataSpec(event, 2, num_classes=2)
  rows = {name: {"x": rng.integers(0, 2, (num, *event)).astype(np.uint8), "y": (np.arange(num) < num - one) + 0}
          for name, num, one in (("train", 6, 2), ("test", test, 0))}
  return types.SimpleNamespace(dataset=Dataset("bits", spec, rows), data=types.SimpleNamespace(name="bits"), spec=spec,
                               folder=folder, config=types.SimpleNamespace(model=types.SimpleNamespace(name="coder")))


class Coder:
  """Latents of a run that are its first two values."""

  is_conditional, has_encoder = False, True

  def __init__(self, run):
    self._run = run

  def encode(self, split, examples):
    rows = self._run.dataset.split(split).rows(examples)
    return Encoded(rows["x"], rows["x"].reshape(len(examples), -1)[:, :2].astype(np.float32), rows["y"])

  def decode(self, z, y):
    return np.zeros((len(z), *self._run.spec.event), np.float32)


@pytest.mark.parametrize("flag", SUMS)
def test_sums_of_latents_that_are_none_are_refused(tmp_path, flag):
  for call in (lambda run: look_at_codes(run, SUMS[flag], None, None),
               lambda run: look_from_prior(run, Coder(run), SUMS[flag])):
    with pytest.raises(ConfigError, match=f"--{flag} is of the latents of images"):
      call(run_of(IMAGES, tmp_path))
  with pytest.raises(ConfigError, match=f"--{flag} is of the latents of images"):
    look(run_of(TABLE, tmp_path), Coder(run_of(TABLE, tmp_path)), SUMS[flag])
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("wanted", "message"), [
    (Wanted(without=1), "--without is 1, but there is no --attribute"),
    (Wanted(attribute=1, without=1), "--attribute and --without are both 1"),
    (Wanted(attribute=1), "test has no image of another label"),
    (Wanted(attribute=1, without=0), "test has no image of label 0"),
    (Wanted(attribute=7), "--attribute is 7, a label that no example has"),
])
def test_directions_that_cannot_be_are_refused_before_anything_is_written(tmp_path, wanted, message):
  run = run_of(IMAGES, tmp_path)
  with pytest.raises(ConfigError, match=message):
    look(run, Coder(run), wanted)
  assert not list(tmp_path.iterdir())


def test_one_example_has_no_pair(tmp_path):
  run = run_of(IMAGES, tmp_path, test=1)
  with pytest.raises(DataError, match="bits has 1 example in test"):
    look(run, Coder(run), Wanted())
