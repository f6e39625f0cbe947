"""Codes of a run as data of their own, and back."""

import dataclasses
import types

import jax
import numpy as np
import pytest

from gdm.data.load import load_dataset
from gdm.errors import ConfigError, DataError
from gdm.latent.networks.codes import GridDecoder, GridEncoder
from gdm.latent.vqvae import VQVAE
from gdm.studies.codes import decode_codes, write_codes


@pytest.fixture(scope="module")
def run():
  dataset = load_dataset("digits")
  model = VQVAE(dataset.spec, 8, 2, GridEncoder((2, 2), 0), GridDecoder((2, 2), 0))
  params, carry = jax.jit(model.init)(jax.random.key(0), {"x": dataset.split("train").rows(slice(20))["x"]})
  config = types.SimpleNamespace(evaluation=types.SimpleNamespace(batch_size=512),
                                 model=types.SimpleNamespace(name="vqvae"))
  return types.SimpleNamespace(dataset=dataset, model=model, params=params, carry=carry, config=config)


def test_codes_are_data_of_all_splits_and_decode_again(run, tmp_path):
  shapes = write_codes(run, tmp_path / "codes.npz")
  codes = load_dataset("npz", path=str(tmp_path / "codes.npz"))
  assert codes.spec.event == (4, 4, 1) and codes.spec.levels == 8 and codes.spec.num_classes == 10
  for split in ("train", "valid", "test"):
    assert shapes[split] == (run.dataset.num_examples(split), 4, 4, 1)
  x = run.dataset.split("test").rows(slice(30))["x"]
  rows = codes.split("test").rows(slice(30))
  np.testing.assert_array_equal(rows["x"], run.model.encode(run.params, run.carry, {"x": x}, jax.random.key(0)))
  np.testing.assert_array_equal(rows["y"], run.dataset.split("test").rows(slice(30))["y"])
  means = decode_codes(run, rows["x"])
  assert means.shape == (30, 8, 8, 1) and means.min() >= 0.0 and means.max() <= 16.0


def test_data_without_a_test_split_have_codes_too(run, tmp_path):
  two = {name: split for name, split in run.dataset.splits.items() if name != "test"}
  without = types.SimpleNamespace(**{**vars(run), "dataset": dataclasses.replace(run.dataset, splits=two)})
  assert list(write_codes(without, tmp_path / "two.npz")) == ["train", "valid"]
  assert list(load_dataset("npz", path=str(tmp_path / "two.npz")).splits) == ["train", "valid"]


def test_what_are_no_codes_is_refused(run, tmp_path):
  with pytest.raises(ConfigError, match=r"must end in \.npz"):
    write_codes(run, tmp_path / "codes.txt")
  with pytest.raises(DataError, match=r"integers of shape \(examples, 4, 4, 1\)"):
    decode_codes(run, np.zeros((2, 4, 5, 1), np.uint8))
  with pytest.raises(DataError, match=r"must lie in \[0, 8\)"):
    decode_codes(run, np.full((2, 4, 4, 1), 8, np.uint8))
  other = types.SimpleNamespace(model=object(), config=run.config)
  with pytest.raises(ConfigError, match="has no discrete codes"):
    decode_codes(other, np.zeros((2, 4, 4, 1), np.uint8))
