"""Sound: mu-law is a fine enough code, every sample is heard once, and other formats get a sentence."""

import re
import sys
import wave

import hypothesis
import hypothesis.extra.numpy as hnp
import hypothesis.strategies as st
import numpy as np
import pytest

from gdm.data.load import load_dataset
from gdm.data.mu_law import LEVELS, MU, mu_law_decode, mu_law_encode
from gdm.data.sources.audio import read_sound, write_wav
from gdm.errors import ConfigError, DataError


def save(path, samples, rate=8000, width=2, channels=1):
  with wave.open(str(path), "wb") as file:
    file.setnchannels(channels)
    file.setsampwidth(width)
    file.setframerate(rate)
    file.writeframes(np.asarray(samples, {1: "u1", 2: "<i2", 3: "u1"}[width]).tobytes())
  return path


def tone(num, seed=0):
  rng = np.random.default_rng(seed)
  return np.round(12000 * np.sin(np.arange(num) / 7) + rng.normal(0, 500, num)).astype(np.int16)


def levels(split):
  return np.concatenate([x[:length] for x, length in zip(split["x"], split["length"], strict=True)])


@hypothesis.given(hnp.arrays(np.float64, 20, elements=st.floats(-1.5, 1.5)))
def test_the_round_trip_is_off_by_half_a_level_at_most(x):
  found, x = mu_law_decode(mu_law_encode(x)), np.clip(x, -1, 1)
  assert (np.abs(found - x) <= (1 + MU * np.abs(x)) * (256 ** (1 / 255) - 1) / MU + 1e-12).all()


def test_levels_are_the_code_of_what_they_stand_for():
  np.testing.assert_array_equal(mu_law_encode(mu_law_decode(np.arange(LEVELS))), np.arange(LEVELS))
  np.testing.assert_allclose(mu_law_decode(np.array([0, 255])), [-1, 1])
  np.testing.assert_allclose(mu_law_decode(np.arange(256)), -mu_law_decode(np.arange(255, -1, -1)))
  # half of the levels are for what is quieter than 1/17: ln(1 + 255 / 17) / ln(256) = 1/2
  assert mu_law_encode(np.array([0.0, 1 / 17, -1 / 17])).tolist() == [128, 191, 64]


def test_files_are_read_as_they_were_written(tmp_path):
  samples, rate = read_sound(save(tmp_path / "a.wav", [0, 16384, -32768], rate=44100))
  assert rate == 44100 and samples.tolist() == [0.0, 0.5, -1.0]
  samples, _ = read_sound(save(tmp_path / "b.wav", [128, 192, 0], width=1))
  assert samples.tolist() == [0.0, 0.5, -1.0]
  stereo, _ = read_sound(save(tmp_path / "c.wav", [0, 16384, -32768, 0], channels=2))
  assert stereo.tolist() == [0.25, -0.5]
  write_wav(tmp_path / "d.wav", np.array([0.0, 0.5, -2.0]), 8000)
  back, rate = read_sound(tmp_path / "d.wav")
  assert rate == 8000
  np.testing.assert_allclose(back, [0.0, 0.5, -1.0], atol=1e-4)


def test_every_sample_is_heard_once_and_in_time(tmp_path):
  recordings = [tone(1000, seed) for seed in range(2)]
  for name, recording in zip("ab", recordings, strict=True):
    save(tmp_path / f"{name}.wav", recording)
  dataset = load_dataset(f"wav:{tmp_path}#context=64")
  assert dataset.spec.levels == 256 and dataset.spec.event == (64,) and dataset.sample_rate == 8000
  assert dataset.tokenizer is None
  for split, part in (("train", slice(0, 800)), ("valid", slice(800, 900)), ("test", slice(900, 1000))):
    expected = np.concatenate([mu_law_encode(recording[part] / 32768) for recording in recordings])
    np.testing.assert_array_equal(levels(dataset.split(split)), expected)
  # no window reaches from one recording into the next
  np.testing.assert_array_equal(dataset.split("valid")["length"], [64, 36, 64, 36])


def test_training_hears_full_windows_of_one_recording(tmp_path):
  recordings = [tone(size, size) for size in (300, 40, 90)]
  for recording in recordings:
    save(tmp_path / f"{len(recording):03}.wav", recording)
  dataset = load_dataset(f"wav:{tmp_path}#context=64", seed=1)
  parts = [bytes(mu_law_encode(recording[:len(recording) * 8 // 10] / 32768)) for recording in recordings]
  lengths, starts = set(), set()
  for epoch in range(200):
    drawn = dataset.split("train").draw(np.arange(4), epoch)
    for x, length in zip(drawn["x"], drawn["length"], strict=True):
      assert any(bytes(x[:length]) in part for part in parts) and not x[length:].any()
      lengths.add(int(length))
      starts.add(parts[0].find(bytes(x[:length])))
  assert lengths == {64, 32}  # 32 of 40 samples train: one shorter window
  assert {0, 240 - 64} <= starts  # both ends


def test_files_can_be_the_split(tmp_path):
  for i in range(4):
    save(tmp_path / f"{i}.wav", tone(100, i))
  dataset = load_dataset(f"wav:{tmp_path}#context=50&split=files")
  assert {name: dataset.num_examples(name) for name in dataset.splits} == {"train": 4, "valid": 2, "test": 2}
  np.testing.assert_array_equal(levels(dataset.split("test")), mu_law_encode(tone(100, 3) / 32768))


def shortened(path, by):
  save(path, tone(100))
  path.write_bytes(path.read_bytes()[:-by])


@pytest.mark.parametrize(("make", "message"), [
      (lambda path: path.write_bytes(b"ID3 no sound"), "bad.wav is no PCM WAV file.*RIFF.*another kind"),
    (lambda path: path.write_bytes(b""), "no PCM WAV file.*it ends within its header"),
    (lambda path: save(path, np.zeros(300), channels=3), "bad.wav has 3 channels"),
    (lambda path: shortened(path, 50), "truncated or empty: it holds 150 bytes of sound, and its header promises 200"),
    (lambda path: shortened(path, 220), "no PCM WAV file"),
    (lambda path: save(path, []), "truncated or empty"),
    (lambda path: save(path, tone(100)), "too short: its splits have .*'train': 80.*at least context=1024"),
])
def test_other_formats_get_a_sentence(tmp_path, make, message):
  make(tmp_path / "bad.wav")
  with pytest.raises(DataError, match=message):
    load_dataset(f"wav:{tmp_path / 'bad.wav'}")


def test_a_rate_of_zero_gets_a_sentence(tmp_path):
  path = save(tmp_path / "a.wav", tone(100))
  header = bytearray(path.read_bytes())
  header[24:28] = bytes(4)  # samples per second
  path.write_bytes(header)
  with pytest.raises(DataError, match="rate of 0 samples per second"):
    read_sound(path)


def test_places_and_options_that_cannot_be_used(tmp_path):
  with pytest.raises(DataError, match="does not exist"):
    load_dataset(f"wav:{tmp_path / 'none.wav'}")
  with pytest.raises(DataError, match="holds no sound"):
    load_dataset(f"wav:{tmp_path}")
  save(tmp_path / "a.wav", tone(100))
  with pytest.raises(DataError, match="needs at least 3"):
    load_dataset(f"wav:{tmp_path}#split=files&context=10")
  with pytest.raises(ConfigError, match="option split='tme'"):
    load_dataset(f"wav:{tmp_path}#split=tme")
  save(tmp_path / "b.wav", tone(100), rate=16000)
  with pytest.raises(DataError, match=re.escape("b.wav has 16000 samples per second, but")):
    load_dataset(f"wav:{tmp_path}#context=10")


@pytest.mark.parametrize(("name", "subtype", "off"), [
    ("a.flac", "PCM_16", 1e-6), ("a.wav", "PCM_24", 1e-6), ("a.wav", "FLOAT", 1e-6), ("a.aiff", "PCM_16", 1e-6),
    ("a.ogg", "VORBIS", 0.2),
])
def test_other_kinds_of_sound(tmp_path, name, subtype, off):
  soundfile = pytest.importorskip("soundfile")
  samples = tone(3000) / 32768
  soundfile.write(tmp_path / name, np.stack([samples, samples], axis=1), 8000, subtype=subtype)
  found, rate = read_sound(tmp_path / name)
  assert rate == 8000 and np.abs(found - samples).max() < off
  assert load_dataset(f"wav:{tmp_path}#context=100").info["files"] == 1


def test_what_the_library_reads_and_we_do_not(tmp_path, monkeypatch):
  soundfile = pytest.importorskip("soundfile")
  soundfile.write(tmp_path / "loud.wav", 1.5 * np.sin(np.arange(100)), 8000, subtype="FLOAT")
  with pytest.raises(DataError, match=r"loud.wav has a sample of magnitude 1.49.*full scale is 1"):
    read_sound(tmp_path / "loud.wav")
  soundfile.write(tmp_path / "three.flac", np.zeros((100, 3)), 8000)
  with pytest.raises(DataError, match=r"three.flac has 3 channels"):
    read_sound(tmp_path / "three.flac")
  soundfile.write(tmp_path / "none.wav", np.zeros(0), 8000, subtype="FLOAT")
  with pytest.raises(DataError, match=r"none.wav is empty"):
    read_sound(tmp_path / "none.wav")
  monkeypatch.setitem(sys.modules, "soundfile", None)
  with pytest.raises(ConfigError, match=r"three.flac is no PCM WAV .* needs the package soundfile.*'\.\[sound\]'"):
    read_sound(tmp_path / "three.flac")
