"""Folders of images, as people have them."""

import pathlib

import numpy as np
import pytest
from PIL import Image

from gdm.data import cache
from gdm.data.description import Description
from gdm.data.load import load_dataset, load_like
from gdm.data.sources import folder
from gdm.errors import ConfigError, DataError

RNG = np.random.default_rng(0)


def noise(size=(8, 6), channels=1) -> np.ndarray:
  return RNG.integers(0, 256, (*size, channels), dtype=np.uint8)


def save(path: pathlib.Path, pixels: np.ndarray, **options) -> pathlib.Path:
  path.parent.mkdir(parents=True, exist_ok=True)
  Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(path, **options)
  return path


def x_of(dataset) -> np.ndarray:
  return np.concatenate([dataset.split(name)["x"] for name in dataset.splits])


def holds(dataset, image: np.ndarray) -> bool:
  return any(np.array_equal(image, x) for x in x_of(dataset))


def test_sub_folders_are_labels(tmp_path):
  images = {name: [noise() for _ in range(20)] for name in ("dogs", "cats", "Birds")}
  for name, each in images.items():
    for i, image in enumerate(each):
      save(tmp_path / name / "deep" / f"{i}.PNG", image)
  (tmp_path / "cats" / "notes.txt").write_text("no image")
  (tmp_path / "cats" / "._0.png").write_text("of another system")
  (tmp_path / ".thumbnails").mkdir()
  (tmp_path / ".thumbnails" / "0.png").write_text("no image")
  dataset = load_dataset(f"folder:{tmp_path}")
  assert dataset.spec.event == (8, 6, 1) and dataset.spec.levels == 256 and dataset.spec.num_classes == 3
  assert dataset.info["labels"] == ["Birds", "cats", "dogs"] and dataset.info["files"] == 60
  for name in dataset.splits:
    for x, y in zip(dataset.split(name)["x"], dataset.split(name)["y"], strict=True):
      assert any(np.array_equal(x, image) for image in images[dataset.info["labels"][y]])
  assert len(x_of(dataset)) == 60


def test_other_images_have_the_classes_that_a_model_knows(tmp_path):
  for name in ("birds", "cats", "dogs"):
    for i in range(8):
      save(tmp_path / "known" / name / f"{i}.png", noise())
      save(tmp_path / "other" / ("cats" if name == "birds" else name) / f"{name}{i}.png", noise())
  known = Description.of(load_dataset(f"folder:{tmp_path / 'known'}"))
  found = load_like(known, f"folder:{tmp_path / 'other'}")
  labels = [label for split in found.splits.values() for label in split["y"]]
  assert found.spec == known.spec and sorted(labels) == [1] * 16 + [2] * 8
  save(tmp_path / "other" / "fish" / "0.png", noise())
  with pytest.raises(DataError, match="has the labels cats, dogs, fish, but the run was trained on birds, cats, dogs"):
    load_like(known, f"folder:{tmp_path / 'other'}")


def test_renamed_files_change_no_split(tmp_path):
  images = [noise() for _ in range(40)]
  for place, order in (("a", range(40)), ("b", RNG.permutation(40))):
    for i, k in enumerate(order):
      save(tmp_path / place / f"{i:02}.png", images[k])
  ours, theirs = (load_dataset(f"folder:{tmp_path / place}") for place in "ab")
  for name in ours.splits:
    assert {x.tobytes() for x in ours.split(name)["x"]} == {x.tobytes() for x in theirs.split(name)["x"]}
  assert load_dataset(f"folder:{tmp_path / 'a'}").identity == ours.identity


def test_folders_of_splits(tmp_path):
  for split, num in (("train", 12), ("Validation", 4), ("test", 5)):
    for i in range(num):
      save(tmp_path / split / "ab"[i % 2] / f"{i}.png", noise())
  dataset = load_dataset(f"folder:{tmp_path}")
  assert {name: dataset.num_examples(name) for name in dataset.splits} == {"train": 12, "valid": 4, "test": 5}
  assert dataset.info["labels"] == ["a", "b"] and dataset.info["split"] == "as they are brought"
  save(tmp_path / "test" / "a" / "leak.png", dataset.split("train")["x"][3])
  assert load_dataset(f"folder:{tmp_path}").info["repeated"] == {"test": 1}
  with pytest.raises(ConfigError, match="option valid of folder says how to split"):
    load_dataset(f"folder:{tmp_path}#valid=0.2")
  for file in sorted((tmp_path / "Validation").rglob("*.png")):
    file.unlink()
  dataset = load_dataset(f"folder:{tmp_path}#valid=0.25")  # train and test are no labels either
  assert dataset.num_examples("test") == 6 and dataset.num_examples("train") + dataset.num_examples("valid") == 12
  save(tmp_path / "extra" / "0.png", noise())
  with pytest.raises(DataError, match="has the splits test, train, and beside them images in 'extra'"):
    load_dataset(f"folder:{tmp_path}")


def test_kinds_of_pixels(tmp_path):
  grey, colour = noise(), noise(channels=3)
  save(tmp_path / "grey.png", grey)
  save(tmp_path / "colour.webp", colour, lossless=True)
  save(tmp_path / "palette.gif", np.repeat(grey, 3, axis=-1))
  alpha = np.concatenate([colour, noise()], axis=-1)
  save(tmp_path / "alpha.png", alpha)
  Image.fromarray(grey[..., 0].astype(np.uint16) * 257).save(tmp_path / "deep.png")
  Image.fromarray(np.full((8, 6, 3), 200, np.uint8)).save(tmp_path / "photo.jpg")
  dataset = load_dataset(f"folder:{tmp_path}")
  assert dataset.spec.event == (8, 6, 3) and len(x_of(dataset)) == 6
  assert dataset.info["levels"] == "8-bit images, 1 of them rounded from 16 bits"
  for image in (colour, np.repeat(grey, 3, axis=-1), np.full((8, 6, 3), 200)):
    assert holds(dataset, image)
  over_white = colour * (alpha[..., 3:] / 255) + 255 * (1 - alpha[..., 3:] / 255)
  assert min(np.abs(x - over_white).max() for x in x_of(dataset)) <= 1
  assert load_dataset(f"folder:{tmp_path}#channels=1").spec.event == (8, 6, 1)


def test_images_of_one_bit(tmp_path):
  for i in range(20):
    Image.fromarray(noise()[..., 0] > 127).save(tmp_path / f"{i}.png")
  dataset = load_dataset(f"folder:{tmp_path}")
  assert dataset.spec.levels == 2 and x_of(dataset).max() == 1
  assert load_dataset(f"folder:{tmp_path}#resize=4").spec.levels == 256


def test_sizes_that_differ(tmp_path):
  save(tmp_path / "a.png", noise((8, 8)))
  save(tmp_path / "b.png", noise((8, 9)))
  save(tmp_path / "c.png", noise((12, 20)))
  with pytest.raises(DataError, match=r"a.png has 8 x 8 pixels, .*b.png has 8 x 9; #resize=32 .*#crop=32"):
    load_dataset(f"folder:{tmp_path}")
  assert load_dataset(f"folder:{tmp_path}#resize=5").spec.event == (5, 5, 1)
  assert load_dataset(f"folder:{tmp_path}#crop=6").spec.event == (6, 6, 1)
  with pytest.raises(DataError, match=r"a.png cannot be read: it has 8 x 8 pixels, less than crop=10"):
    load_dataset(f"folder:{tmp_path}#crop=10")
  told = load_dataset(f"images:{tmp_path}")  # the source that decides
  assert told.spec.event == (8, 8, 1) and told.info["levels"].endswith("resized to the smallest side of all, 8")


def test_crop_and_resize_keep_what_they_should(tmp_path):
  wide = np.zeros((8, 16, 1), np.uint8)
  wide[:, 4:12] = 255  # the central square
  save(tmp_path / "wide.png", wide)
  save(tmp_path / "other.png", noise((8, 16)))
  assert holds(load_dataset(f"folder:{tmp_path}#resize=4"), np.full((4, 4, 1), 255))
  assert holds(load_dataset(f"folder:{tmp_path}#crop=8"), np.full((8, 8, 1), 255))
  assert holds(load_dataset(f"folder:{tmp_path}#crop=8&resize=2"), np.full((2, 2, 1), 255))


def test_photos_are_turned_as_the_camera_says(tmp_path):
  exif = Image.Exif()
  exif[274] = 6  # a quarter turn to the right
  image = noise((4, 10), 3)
  save(tmp_path / "turned.png", image, exif=exif)
  save(tmp_path / "plain.png", noise((10, 4), 3))
  assert holds(load_dataset(f"folder:{tmp_path}"), np.rot90(image, -1))


def test_many_images_are_decoded_once(tmp_path, monkeypatch):
  monkeypatch.setenv("GDM_CACHE_DIR", str(tmp_path / "cache"))
  monkeypatch.setattr(folder, "CACHED_FROM", 5)
  for i in range(9):
    save(tmp_path / "data" / f"{i}.png", noise())
  first = load_dataset(f"folder:{tmp_path / 'data'}")
  with monkeypatch.context() as patch:
    patch.setattr(folder, "to_pixels", None)
    assert load_dataset(f"folder:{tmp_path / 'data'}").identity == first.identity
  changed = save(tmp_path / "data" / "0.png", noise((8, 6)))
  assert load_dataset(f"folder:{tmp_path / 'data'}").identity != first.identity and changed.exists()
  assert cache.directory() == tmp_path / "cache"


def animation(path):
  Image.new("L", (8, 8)).save(path, save_all=True, append_images=[Image.new("L", (8, 8), 9)])


def truncated(path):
  save(path, noise((64, 64)))
  path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize(("make", "message"), [
    (lambda root: None, "holds no images; they end in .png, .*there is: no files"),
    (lambda root: (root / "a.bmp").write_text(""), "holds no images; .*there is: 1 .bmp"),
    (lambda root: (root / "bad.png").write_text("no image"), "image .*bad.png cannot be read: cannot identify"),
    (lambda root: truncated(root / "bad.png"), "image .*bad.png cannot be read: .*truncated"),
    (lambda root: animation(root / "bad.gif"), "bad.gif cannot be read: it is an animation of 2 frames"),
    (lambda root: (save(root / "a.png", noise()), save(root / "cats" / "b.png", noise())),
     "a.png is in no sub-folder, but cats/b.png is"),
    (lambda root: [save(root / each / "b.png", noise()) for each in ("train", "val", "valid")], "two of which are one"),
    (lambda root: Image.new("F", (8, 8)).save(root / "bad.tiff"), "there is: 1 .tiff"),
])
def test_bad_folders_get_a_sentence(tmp_path, make, message):
  make(tmp_path)
  with pytest.raises(DataError, match=message):
    load_dataset(f"folder:{tmp_path}")


@pytest.mark.parametrize(("options", "message"), [
    ("channels=2", "option channels='2' of folder is unknown"),
    ("resize=x", "resize='x' of folder must be an integer"),
    ("size=32", "no option 'size'; did you mean 'resize'"),
])
def test_bad_options(tmp_path, options, message):
  save(tmp_path / "a.png", noise())
  with pytest.raises(ConfigError, match=message):
    load_dataset(f"folder:{tmp_path}#{options}")


def test_no_folder(tmp_path):
  with pytest.raises(DataError, match=r"none' does not exist; name it by data.path or folder:<path>"):
    load_dataset(f"folder:{tmp_path / 'none'}")
