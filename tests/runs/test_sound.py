"""Sound of a run: what is written, and what a classifier of spectrograms hears in sound and in spectrograms."""

import dataclasses
import wave

import jax.numpy as jnp
import numpy as np
import pytest

from gdm.data.dataset import Dataset
from gdm.data.mu_law import mu_law_encode
from gdm.data.spectrogram import Spectrogram, heard
from gdm.dataspec import DataSpec
from gdm.errors import SpecError
from gdm.model import Samples
from gdm.runs import defaults, features
from gdm.runs.comparison import SamplerChoice, compare
from gdm.runs.sound import as_heard, can_hear, save_sound
from gdm.runs.trained import TrainedRun
from gdm.studies import labels
from gdm.studies.labels import Labeler
from gdm.studies.measures import choose_measures, measure

FORM = Spectrogram(bands=8, samples=1024, rate=8000)
INFO = {"spectrogram": dataclasses.asdict(FORM), "label": {"names": ["pitch", "loudness"], "sizes": [2, 2]}}
TIME = np.arange(FORM.samples) / FORM.rate


def tones(num):
  """Low and high tones, soft and loud ones: labels 0 to 3."""
  y = np.arange(num) % 4
  hertz, amplitude = np.where(y < 2, 300.0, 2500.0), np.where(y % 2 == 0, 0.05, 0.5)
  start = np.random.default_rng(0).uniform(0.0, 6.0, (num, 1))
  return mu_law_encode(amplitude[:, None] * np.sin(2 * np.pi * hertz[:, None] * TIME + start)), y.astype(np.int32)


@dataclasses.dataclass(frozen=True)
class Listener:
  """Tells labels by which half of the bands is brighter, and how bright."""

  spec: DataSpec = DataSpec(FORM.event, 256, num_classes=4)

  def log_label_probs(self, params, carry, batch):
    x = jnp.asarray(batch["x"], jnp.float32)[..., 0]
    high = x[:, :4].max(axis=(1, 2)) > x[:, 4:].max(axis=(1, 2))
    label = 2 * high + (x.max(axis=(1, 2)) > 160)
    return jnp.where(jnp.arange(4) == label[:, None], 0.0, -50.0)

  def features(self, params, carry, batch):
    return jnp.asarray(batch["x"], jnp.float32).max(axis=2).reshape(len(batch["x"]), -1)


@dataclasses.dataclass(frozen=True)
class Speaker:
  """Says tones of the label that is asked for, but loud ones always."""

  x: object
  class_conditional: bool = True

  def sample(self, params, carry, key, num, condition=None):
    return Samples(jnp.asarray(self.x)[condition % 4 // 2 * 2 + 1], {})


def run_of(model, x, y, info, rate=None, tmp_path=None):
  config = defaults.get_config()
  config.model.name, config.evaluation.batch_size = "formula", 16
  spec = DataSpec(x.shape[1:], 256, num_classes=4)
  splits = {name: {"x": x, "y": y} for name in ("train", "valid", "test")}
  dataset = Dataset("tones", spec, splits, info, sample_rate=rate)
  return TrainedRun.of(config, dataset, model, {}, {}, step=3, folder=tmp_path)


@pytest.fixture
def runs(tmp_path, monkeypatch):
  x, y = tones(40)
  listener = run_of(Listener(), heard(x, FORM), y, INFO, tmp_path=tmp_path)
  for module in (features, labels):
    monkeypatch.setattr(module, "open_run", lambda path: listener)
  of_sound = run_of(Speaker(x[:4]), x, y, {"label": INFO["label"]}, 8000, tmp_path)
  of_images = run_of(Speaker(heard(x[:4], FORM)), heard(x, FORM), y, INFO, tmp_path=tmp_path)
  return listener, of_sound, of_images


def test_sound_and_spectrograms_are_heard(runs, tmp_path):
  listener, of_sound, of_images = runs
  x, y = tones(40)
  for run, shown in ((of_sound, x), (of_images, heard(x, FORM))):
    assert can_hear(listener.data, run.data)
    labeler = Labeler(str(tmp_path), run)
    assert labeler.is_heard
    np.testing.assert_array_equal(labeler(shown), y)
    assert labeler.own_accuracy().accuracy.value == 1.0
  # Of a spectrogram it is the sound that is heard: one that no sound has is not what it seems.
  assert not np.array_equal(as_heard(listener.data, of_images.data, np.full((1, *FORM.event), 200)),
                            np.full((1, *FORM.event), 200))


def test_sound_of_another_length_or_rate_is_not(runs, tmp_path):
  listener, of_sound, _ = runs
  other = dataclasses.replace(of_sound, data=dataclasses.replace(of_sound.data, sample_rate=16_000))
  assert not can_hear(listener.data, other.data)
  with pytest.raises(SpecError, match="of another event"):
    Labeler(str(tmp_path), other)


def test_each_part_of_a_label_is_told_as_asked(runs, tmp_path):
  _, of_sound, _ = runs
  found = compare(of_sound, "test", 40, (SamplerChoice(None, None),), None, features=str(tmp_path))
  assert found.about["features"]["dims"] == FORM.bands
  table = measure(of_sound, found, choose_measures("labels", of_sound, True),
                  Labeler(str(tmp_path), of_sound)).tables[0]
  shares = table.contents["parts"]["samples"]
  assert shares["pitch"]["value"] == 1.0 and 0.3 < shares["loudness"]["value"] < 0.7
  assert table.contents["rows"]["samples"]["asked"]["value"] == shares["loudness"]["value"]
  assert "as asked, ± 95 %" in table.text and "loudness" in table.text


def test_each_example_is_a_wav_file(runs):
  _, of_sound, of_images = runs
  x, _ = tones(2)
  assert [path.name for path in save_sound(of_sound, "a", x)] == ["a_000.wav", "a_001.wav"]
  for path in save_sound(of_images, "b", heard(x, FORM)):
    with wave.open(str(path)) as file:
      assert (file.getframerate(), file.getnframes(), file.getnchannels()) == (8000, 1024, 1)
  assert save_sound(run_of(None, x[:, :, None, None], np.zeros(2, np.int32), {}), "c", x) == []
