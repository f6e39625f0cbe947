"""Sound of one length and its spectrograms as transforms, labels by several arrays, and other data at a trained run."""

import numpy as np
import pytest

from gdm.data.description import GIVEN, Description
from gdm.data.load import load_dataset, load_like
from gdm.data.mu_law import mu_law_encode
from gdm.data.sound import SILENCE
from gdm.data.sources.audio import write_wav
from gdm.data.sources.chosen_labels import parts_of
from gdm.errors import ConfigError, DataError, SpecError

RNG = np.random.default_rng(0)
LENGTHS = {"train": [300, 700, 512], "valid": [600], "test": [100]}
CLIPPED = ("clip:512", "spectrogram:8")


def save(path, rate=None, **more):
  """Recordings joined one after another, with digits and speakers."""
  arrays = {"levels": np.array(256)}
  for name, lengths in LENGTHS.items():
    arrays[name] = RNG.integers(0, 256, sum(lengths)).astype(np.uint8)
    arrays[f"{name}_length"] = np.array(lengths)
    arrays[f"{name}_label"] = np.arange(len(lengths)) % 3
    arrays[f"{name}_speaker"] = np.arange(len(lengths))[::-1] % 2
  np.savez(path, **arrays, **more)
  return arrays


@pytest.fixture
def sounds(tmp_path):
  arrays = save(tmp_path / "sounds.npz")
  return f"npz:{tmp_path / 'sounds.npz'}#rate=8000", arrays


def test_recordings_end_in_silence_at_one_length(sounds):
  name, arrays = sounds
  dataset = load_dataset(name, transforms=("clip:512",))
  assert dataset.spec.event == (512,) and not dataset.spec.has_lengths and dataset.sample_rate == 8000
  x = dataset.split("train")["x"]
  np.testing.assert_array_equal(x[0, :300], arrays["train"][:300])
  assert np.all(x[0, 300:] == SILENCE) and mu_law_encode(np.zeros(1))[0] == SILENCE
  np.testing.assert_array_equal(x[1], arrays["train"][300:812])
  assert load_dataset(name, transforms=("clip:2048",)).split("test")["x"].shape == (1, 2048)


def test_spectrograms_are_images_that_a_run_makes_again(sounds):
  name, _ = sounds
  dataset = load_dataset(name, transforms=CLIPPED)
  assert dataset.spec.event == (8, 4, 1) and dataset.spec.levels == 256 and dataset.spec.is_image
  assert dataset.info["spectrogram"] == {"bands": 8, "samples": 512, "rate": 8000}
  raw, described = load_dataset(name), Description.of(dataset)
  split = raw.split("test")
  again = described.serve(split["x"], raw=True, length=split["length"]).split(GIVEN)["x"]
  np.testing.assert_array_equal(again, dataset.split("test")["x"])


def test_what_is_no_sound_is_refused(sounds, tmp_path):
  name, _ = sounds
  with pytest.raises(SpecError, match="clip needs sound in 8-bit mu-law"):
    load_dataset("digits", transforms=("clip:64",))
  with pytest.raises(SpecError, match="spectrogram needs sounds of one length"):
    load_dataset(name, transforms=("spectrogram:8",))
  with pytest.raises(SpecError, match=r"no samples per second.*#rate=8000"):
    load_dataset(name.removesuffix("#rate=8000"), transforms=("clip:512",))
  with pytest.raises(ConfigError, match="a multiple of 128 samples"):
    load_dataset(name, transforms=("clip:500", "spectrogram:8"))


def test_sound_of_another_rate_is_refused_by_a_run(tmp_path):
  for rate in (8000, 16_000):
    (tmp_path / str(rate)).mkdir()
    write_wav(tmp_path / str(rate) / "a.wav", RNG.uniform(-0.5, 0.5, 4000), rate)
  like = Description.of(load_dataset(f"wav:{tmp_path / '8000'}#context=64"))
  assert load_like(like, f"wav:{tmp_path / '8000'}").sample_rate == 8000
  with pytest.raises(DataError, match=r"has 16000 samples per second, but the run .* which has 8000; resample it"):
    load_like(like, f"wav:{tmp_path / '16000'}")


def test_labels_may_be_pairs(sounds):
  name, arrays = sounds
  dataset = load_dataset(f"{name}&label=label*speaker")
  assert dataset.spec.num_classes == 6
  y = dataset.split("train")["y"]
  np.testing.assert_array_equal(y, arrays["train_label"] * 2 + arrays["train_speaker"])
  assert {key: part.tolist() for key, part in parts_of(y, dataset.info).items()} == {
      "label": arrays["train_label"].tolist(), "speaker": arrays["train_speaker"].tolist()}
  assert load_dataset(f"{name}&label=speaker").spec.num_classes == 2 and not parts_of(y, {})
  with pytest.raises(DataError, match="'train_voice', which #label=voice asks for; it has label, length, speaker"):
    load_dataset(f"{name}&label=voice")
  with pytest.raises(ConfigError, match="must name a label"):
    load_dataset(f"{name}&label=label*label")
  np.savez(name[4:].partition("#")[0], **{**arrays, "test_speaker": np.array([5])})
  with pytest.raises(DataError, match="'test_speaker' holds 5 to 5, but the training split has 0 to 1"):
    load_dataset(f"{name}&label=speaker")
