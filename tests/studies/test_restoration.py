"""Examples of a run measured: all that is measured is data, and tiny images have no structural similarity."""

import types

import jax
import numpy as np
import pytest
from helpers.small_models import small_model

from gdm.data.dataset import Dataset
from gdm.dataspec import DataSpec
from gdm.errors import SpecError
from gdm.inverse.restoration import Restored
from gdm.studies.restoration import MeasuredExamples, measured, restored, scores_of


def test_padding_is_not_restored():
  x = np.zeros((3, 12), np.uint8)
  spec = DataSpec((12,), 5, has_lengths=True)
  rows = {"x": x, "length": np.array([12, 7, 12], np.int32)}
  dataset = Dataset("lines", spec, {"train": rows, "test": rows})
  run = types.SimpleNamespace(model=small_model("recurrent"), spec=spec, dataset=dataset,
                              data=types.SimpleNamespace(name="lines"))
  with pytest.raises(SpecError, match="examples of lines have lengths"):
    measured(run, "mask:0.5", 0.0, 3, "test", 0, False)


def test_a_model_of_examples_given_their_labels_asks_for_the_flag():
  x, model = np.zeros((2, 4, 4, 1), np.uint8), small_model("conditional_gan")
  rows = {"x": x, "y": np.zeros(2, np.int32)}
  params, carry = model.init(jax.random.key(0), rows)
  run = types.SimpleNamespace(model=model, spec=model.spec, dataset=Dataset("tiny", model.spec, {"test": rows}),
                              params=params, carry=carry)
  found = measured(run, "mask:0.5", 1.0, 2, "test", 0, False)
  with pytest.raises(SpecError, match="--labels gives it the examples' labels"):
    restored(run, found, "", 2, 1.0, 0, {})


def test_images_too_small_for_a_window_are_scored_without_it():
  x = np.arange(12, dtype=np.float32).reshape(3, 2, 2, 1)
  spec = DataSpec((2, 2, 1), 12)
  run = types.SimpleNamespace(spec=spec, dataset=Dataset("tiny", spec, {"test": {"x": x.astype(np.uint8)}}))
  result = Restored(np.stack([x, x + 1.0]), x + 0.5, np.zeros_like(x), {})
  found = scores_of(run, MeasuredExamples(x, None, None, 0.0, None), result, 1.0, "test")
  assert found.ssim is None and found.psnr == pytest.approx(10 * np.log10(11**2 / 0.25))
