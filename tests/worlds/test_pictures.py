"""Pictures: means over areas, recordings of them, and the frame before again as a proper probability."""

import itertools

import numpy as np
import pytest

from gdm.data.load import load_dataset
from gdm.errors import ConfigError, DataError
from gdm.worlds.copying import CopiedFrames
from gdm.worlds.environments import Environment
from gdm.worlds.pictures import VIEWS, Camera, camera_of
from gdm.worlds.recording import joined, pictures_of, record

CART = "CartPole-v1"


def test_a_pixel_is_the_mean_of_its_area():
  rng = np.random.default_rng(0)
  rendered = rng.integers(0, 256, (6, 9, 3)).astype(np.uint8)
  grey = rendered.min(axis=2).astype(float)
  whole = Camera(2, 3, 256).picture(rendered)
  np.testing.assert_allclose(whole[..., 0], grey.reshape(2, 3, 3, 3).mean(axis=(1, 3)), atol=1.0)
  white, black = (np.full((6, 9, 3), value, np.uint8) for value in (255, 0))
  assert (Camera(2, 3, 8).picture(white) == 7).all() and (Camera(2, 3, 8).picture(black) == 0).all()
  np.testing.assert_array_equal(Camera(2, 3, 8, (2, 4, 0, 3)).picture(rendered),
                                Camera(2, 3, 8).picture(rendered[2:4, :3]))


def test_a_camera_that_cannot_be_is_refused():
  assert camera_of(CART) == VIEWS[CART] and camera_of(CART, "8x10", 4).shape == (8, 10, 1)
  with pytest.raises(ConfigError, match="--size is '8'; it must be height and width, such as 16x40"):
    camera_of(CART, "8")
  with pytest.raises(ConfigError, match="levels is 1; it must be at least 2"):
    camera_of(CART, levels=1)
  with pytest.raises(ConfigError, match="has 6 rows and 9 columns in view, but the small one 8 and 9"):
    Camera(8, 9).picture(np.zeros((6, 9, 3), np.uint8))


def test_copied_frames_are_a_distribution_that_beats_chance():
  rng = np.random.default_rng(0)
  x = np.zeros((60, 5, 1, 2, 1), np.uint8)
  for step in range(1, 5):  # each pixel changes with one chance in four
    x[:, step] = np.where(rng.random((60, 1, 2, 1)) < 0.25, rng.integers(0, 3, (60, 1, 2, 1)), x[:, step - 1])
  length = rng.integers(2, 6, 60)
  every = np.array(list(itertools.product(range(3), repeat=6)), np.uint8).reshape(-1, 3, 1, 2, 1)
  for change in ("marginal", "table"):
    fitted = CopiedFrames.fit(x, length, 3, change)
    np.testing.assert_allclose(np.exp(fitted.nats(every, np.full(len(every), 3))).sum(), 1.0, rtol=1e-9)
    assert fitted.bits_per_dim(x, length) < np.log2(3)
    with pytest.raises(DataError, match="frames have 4 pixels, but those that were fitted have 2"):
      fitted.nats(np.zeros((1, 3, 1, 4, 1), np.uint8), np.array([3]))


def test_recorded_pictures_are_those_of_the_episode(tmp_path):
  pytest.importorskip("gymnasium")
  pytest.importorskip("pygame")
  env = Environment(CART, camera_of(CART))
  rollouts = record(env, "linear", 5, 30, 0)
  assert all(len(each.pictures) == len(each.observations) for each in rollouts)
  np.testing.assert_array_equal(rollouts[0].observations, record(Environment(CART), "linear", 1, 30, 0)[0].observations)
  first = rollouts[0].pictures[0]
  assert first.shape == (16, 40, 1) and first.min() < 3 and (first[:, [0, -1]] >= 5).all()  # a cart in the middle
  arrays = pictures_of(rollouts, 10, 8)
  np.savez(tmp_path / "pictures.npz", **arrays)
  dataset = load_dataset(f"npz:{tmp_path / 'pictures.npz'}")
  spec = dataset.spec
  assert spec.event == (11, 16, 40, 1) and spec.levels == 8 and spec.context_dims == 22 and spec.num_classes == 2
  test = dataset.split("test").rows(slice(None))
  assert test["y"].tolist() == [0] * (len(test["y"]) - 1) + [int(rollouts[4].ended)]
  # Pieces of an episode go on where the one before ended.
  assert test["length"].sum() == len(rollouts[4].actions) + len(test["length"])
  np.testing.assert_array_equal(test["x"][0, :test["length"][0]], rollouts[4].pictures[:test["length"][0]])
  both = joined(arrays, arrays, "old")
  assert len(both["train"]) == 2 * len(arrays["train"]) and both["levels"] == 8
  with pytest.raises(DataError, match=r"old: array 'train' has rows \(11, 8, 8, 1\), but what is recorded has"):
    joined(arrays, {**arrays, "train": np.zeros((3, 11, 8, 8, 1), np.uint8)}, "old")
  with pytest.raises(DataError, match="old: array 'levels' is 4, but what is recorded has 8"):
    joined(arrays, {**arrays, "levels": np.array(4)}, "old")
  with pytest.raises(ConfigError, match="rollouts have no pictures"):
    pictures_of(record(Environment(CART), "random", 3, 5, 0), 5, 8)


def test_pictures_without_the_package_that_renders_name_the_extra(monkeypatch):
  gymnasium = pytest.importorskip("gymnasium")
  env = Environment("Pendulum-v1", camera_of("Pendulum-v1"))

  def render():
    raise gymnasium.error.DependencyNotInstalled("pygame is not installed")

  monkeypatch.setattr(env._made().unwrapped, "render", render)
  with pytest.raises(ConfigError, match=r"pictures of Pendulum-v1 cannot be rendered .*install the extra 'worlds'"):
    env.roll(env.random, 0, 2)
