"""Image sets of TFDS, read without TensorFlow; small sets are written here as TFDS would have prepared them."""

import io
import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from array_record.python.array_record_module import ArrayRecordWriter
from helpers.prepared_sets import write_set
from PIL import Image
from tensorflow_datasets import features as F
from tensorflow_datasets.proto import tf_example_pb2, tf_feature_pb2

from gdm.data.load import load_dataset
from gdm.data.loader import Loader, eval_batches
from gdm.data.sources import tfds, tfds_images
from gdm.data.sources.request import Request
from gdm.errors import ConfigError, DataError

REAL = pathlib.Path(__file__).parents[3] / "shared" / "tfds"
needs_real = pytest.mark.skipif(not REAL.is_dir(), reason=f"the prepared TFDS sets are not at {REAL}")
FEATURES = "tensorflow_datasets.core.features."


@pytest.fixture(autouse=True)
def cache_of_its_own(tmp_path, monkeypatch):
  monkeypatch.setenv("GDM_CACHE_DIR", str(tmp_path / "cache"))


def images(num: int, shape=(6, 5, 3), seed: int = 0, levels: int = 256) -> list[np.ndarray]:
  return list(np.random.default_rng(seed).integers(0, levels, (num, *shape)).astype(np.uint8))


def prepare(root: pathlib.Path, splits: dict[str, list[np.ndarray]], shape=(6, 5, 3), labels: bool = True,
            version: str = "1.0.0") -> None:
  """Writes the set "toy" of PNG images as TFDS lays it out; label i is i mod 3."""
  folder = root / "toy" / version
  folder.mkdir(parents=True)
  features = {"image": {"pythonClassName": f"{FEATURES}image_feature.Image",
                        "image": {"dtype": "uint8", "shape": {"dimensions": [str(size) for size in shape]}}}}
  if labels:
    features["label"] = {"pythonClassName": f"{FEATURES}class_label_feature.ClassLabel",
                         "classLabel": {"numClasses": "3"}}
  (folder / "features.json").write_text(json.dumps({"pythonClassName": f"{FEATURES}features_dict.FeaturesDict",
                                                    "featuresDict": {"features": features}}))
  for split, pictures in splits.items():
    writer = ArrayRecordWriter(str(folder / f"toy-{split}.array_record-00000-of-00001"), "group_size:1")
    for i, picture in enumerate(pictures):
      file = io.BytesIO()
      Image.fromarray(picture[..., 0] if picture.shape[-1] == 1 else picture).save(file, "PNG")
      feature = {"image": tf_feature_pb2.Feature(bytes_list=tf_feature_pb2.BytesList(value=[file.getvalue()]))}
      if labels:
        feature["label"] = tf_feature_pb2.Feature(int64_list=tf_feature_pb2.Int64List(value=[i % 3]))
      writer.write(tf_example_pb2.Example(features=tf_feature_pb2.Features(feature=feature)).SerializeToString())
    writer.close()
  infos = [{"name": split, "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}", "numBytes": "1",
            "shardLengths": [str(len(pictures))]} for split, pictures in splits.items()]
  (folder / "dataset_info.json").write_text(json.dumps({
      "name": "toy", "version": version, "fileFormat": "array_record", "splits": infos, "moduleName": "none"}))


@pytest.mark.parametrize("memory_limit", [0, 1 << 20])
def test_images_and_labels_come_back_as_they_were(tmp_path, memory_limit):
  train, test = images(20), images(4, seed=1)
  prepare(tmp_path, {"train": train, "test": test})
  dataset = tfds.load(Request("tfds", "toy", {}, str(tmp_path)), memory_limit)
  assert dataset.spec.event == (6, 5, 3) and dataset.spec.levels == 256 and dataset.spec.num_classes == 3
  assert dataset.info["in_memory"] == (memory_limit > 0) and list(dataset.splits) == ["train", "valid", "test"]
  # no validation split: as many as test has, at most a fifth, from the end of train
  np.testing.assert_array_equal(dataset.split("train")["x"][:], train[:16])
  np.testing.assert_array_equal(dataset.split("valid")["x"][:], train[16:])
  np.testing.assert_array_equal(dataset.split("valid")["y"][:], np.arange(16, 20) % 3)
  np.testing.assert_array_equal(dataset.split("test")["x"][:], test)
  assert dataset.info["valid"] == "the last 4 of TFDS's train"


def test_disk_and_memory_serve_the_same(tmp_path):
  prepare(tmp_path, {"train": images(50), "test": images(9)})
  disk, memory = (tfds.load(Request("tfds", "toy", {}, str(tmp_path)), limit) for limit in (0, 1 << 20))
  assert all(disk.fingerprint(name) == memory.fingerprint(name) for name in disk.splits)
  loaders = [Loader(dataset, 8, seed=0) for dataset in (disk, memory)]
  for _ in range(12):
    ours, theirs = (loader.next_batches() for loader in loaders)
    assert all((ours[key] == theirs[key]).all() for key in ("x", "y"))
  for ours, theirs in zip(*(eval_batches(dataset, "test", 4) for dataset in (disk, memory)), strict=True):
    assert all((ours[key] == theirs[key]).all() for key in ("x", "y", "mask"))


def test_the_identity_on_disk_covers_every_example(tmp_path):
  """Also one that no probe of a few rows sees; and it is the same where the files are copied to."""
  whole = images(300, (4, 4, 1))
  changed = [*whole[:200], 255 - whole[200], *whole[201:]]
  sets = {"one": whole, "copy": whole, "changed": changed}
  for name, pictures in sets.items():
    prepare(tmp_path / name, {"train": pictures, "validation": whole[:4], "test": whole[:9]}, (4, 4, 1))
  one, copy, other = (tfds.load(Request("tfds", "toy", {}, str(tmp_path / name)), 0).identity for name in sets)
  assert one == copy and one["train"] != other["train"]
  assert len(set(one.values())) == 3


def test_a_validation_split_of_its_own_is_kept(tmp_path):
  prepare(tmp_path, {"train": images(20), "validation": images(3, seed=2), "test": images(4)})
  dataset = load_dataset("tfds:toy", data_dir=str(tmp_path))
  assert dataset.num_examples("train") == 20
  np.testing.assert_array_equal(dataset.split("valid")["x"], images(3, seed=2))


def test_without_a_test_split_everybody_reports_on_validation(tmp_path):
  prepare(tmp_path, {"train": images(20), "validation": images(3, seed=2)})
  dataset = load_dataset("tfds:toy", data_dir=str(tmp_path))
  np.testing.assert_array_equal(dataset.split("test")["x"], images(3, seed=2))
  assert dataset.num_examples("train") == 17 and dataset.info["test"] == "TFDS's validation"


def test_binary_sets_without_labels(tmp_path):
  shape = (4, 4, 1)
  prepare(tmp_path, {name: images(20, shape, levels=2) for name in ("train", "test")}, shape, labels=False)
  dataset = load_dataset("tfds:toy", data_dir=str(tmp_path))
  assert dataset.spec.levels == 2 and dataset.spec.num_classes is None and list(dataset.split("train")) == ["x"]


def test_images_of_varying_shape_ask_for_a_size(tmp_path):
  varied = [images(1, (size, 8, 3))[0] for size in range(5, 15)]
  prepare(tmp_path, {"train": varied, "test": varied[:2]}, ("-1", "-1", 3))
  with pytest.raises(DataError, match=r"vary in shape; ask for one, as tfds:toy#resize=64"):
    load_dataset("tfds:toy", data_dir=str(tmp_path))
  dataset = load_dataset("tfds:toy#resize=4", data_dir=str(tmp_path))
  assert dataset.spec.event == (4, 4, 3) and dataset.name == "tfds:toy#resize=4"


def test_the_newest_version_is_taken_unless_one_is_named(tmp_path):
  for number, version in enumerate(("1.9.0", "1.10.0")):
    prepare(tmp_path, {"train": images(10, seed=number), "test": images(2)}, version=version)
  (tmp_path / "toy" / "2.0.0.incomplete").mkdir()
  assert load_dataset("tfds:toy", data_dir=str(tmp_path)).info["version"] == "1.10.0"
  assert load_dataset("tfds:toy:1.9.0", data_dir=str(tmp_path)).info["version"] == "1.9.0"
  with pytest.raises(DataError, match=r"'1.9.1' is not in .* did you mean '1.9.0'"):
    load_dataset("tfds:toy:1.9.1", data_dir=str(tmp_path))


def test_decoded_images_are_cached_until_the_files_change(tmp_path, monkeypatch):
  prepare(tmp_path / "data", {"train": images(10), "test": images(2)})
  first = load_dataset("tfds:toy", data_dir=str(tmp_path / "data"))
  with monkeypatch.context() as patch:
    patch.setattr(tfds_images, "_decode", lambda *args: pytest.fail("decoded again"))
    again = load_dataset("tfds:toy", data_dir=str(tmp_path / "data"))
  assert again.fingerprint("train") == first.fingerprint("train")
  (tmp_path / "data").rename(tmp_path / "old")
  prepare(tmp_path / "data", {"train": images(10, seed=5), "test": images(2)})
  assert load_dataset("tfds:toy", data_dir=str(tmp_path / "data")).fingerprint("train") != first.fingerprint("train")


def test_what_is_not_prepared_says_how_to(tmp_path):
  prepare(tmp_path, {"train": images(10), "test": images(2)})
  with pytest.raises(DataError, match=r"tfds:toi is not prepared in .*, where there is toy.*data.data_dir.*prepare.*"
                                      r"tfds build toi --data_dir=.* --file_format=array_record"):
    load_dataset("tfds:toi", data_dir=str(tmp_path))
  with pytest.raises(DataError, match="not prepared"):
    load_dataset("tfds:mnist", data_dir=str(tmp_path / "nowhere"))
  (tmp_path / "many" / "small" / "1.0.0").mkdir(parents=True)
  with pytest.raises(DataError, match="name one of its configs as tfds:many/<config>: small"):
    load_dataset("tfds:many", data_dir=str(tmp_path))


def test_tfds_own_data_folder_is_found(tmp_path, monkeypatch):
  prepare(tmp_path, {"train": images(10), "test": images(2)})
  monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
  assert load_dataset("tfds:toy").num_examples("train") == 8


@pytest.mark.parametrize("file", ["toy-train.array_record-00000-of-00001", "features.json", "dataset_info.json"])
def test_damage_gets_a_sentence(tmp_path, file):
  prepare(tmp_path, {"train": images(10), "test": images(2)})
  path = tmp_path / "toy" / "1.0.0" / file
  path.write_bytes(path.read_bytes()[:path.stat().st_size // 2])
  with pytest.raises(DataError, match=r"tfds:toy in .*(damaged|cannot be read)"):
    load_dataset("tfds:toy", data_dir=str(tmp_path))


def test_nothing_is_said_and_tensorflow_is_not_imported(tmp_path):
  prepare(tmp_path, {"train": images(10), "test": images(2)})
  code = (f"import sys; from gdm.data.load import load_dataset; load_dataset('tfds:toy', data_dir={str(tmp_path)!r}); "
          "assert 'tensorflow' not in sys.modules")
  done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False,
                        cwd=pathlib.Path(__file__).parents[2])
  assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_what_is_neither_images_nor_text_nor_a_table_is_refused(tmp_path):
  features = F.FeaturesDict({"objects": F.Sequence({"box": F.BBoxFeature()}), "name": F.Text(), "grid": F.Tensor(
      shape=(2, 2), dtype=np.float32), "box": F.BBoxFeature()})
  folder = write_set(tmp_path, features, {"train": []})
  with pytest.raises(DataError, match=r"^tfds:toy in \S+ is neither images, nor text, nor a table; its features are "
                                      r"box \(BBoxFeature\), grid \(float32 \[2, 2\]\), name \(Text\), objects "
                                      r"\(Sequence\); #columns= makes a table of some of them\.$"):
    load_dataset("tfds:toy", data_dir=str(tmp_path))
  # features that TFDS cannot open without TensorFlow
  for kind in ("audio_feature.Audio", "video_feature.Video"):
    (folder / "features.json").write_text(json.dumps({"featuresDict": {"features": {
        "clip": {"pythonClassName": f"{FEATURES}{kind}"},
        "inner": {"pythonClassName": f"{FEATURES}features_dict.FeaturesDict", "featuresDict": {"features": {
            "label": {"pythonClassName": f"{FEATURES}class_label_feature.ClassLabel"}}}}}}}))
    with pytest.raises(DataError, match=rf"nor a table; its features are clip \({kind.partition('.')[2]}\), inner/label"
                                        r" \(ClassLabel\)\.$"):
      load_dataset("tfds:toy", data_dir=str(tmp_path))


def test_an_option_of_another_kind_of_set_is_refused(tmp_path):
  prepare(tmp_path, {"train": images(10), "test": images(2)})
  with pytest.raises(ConfigError, match="tfds:toy is read as a set of images, which has no option bins; take it away: "
                                        "its options are resize"):
    load_dataset("tfds:toy#bins=3", data_dir=str(tmp_path))
  labels = load_dataset("tfds:toy#columns=label", data_dir=str(tmp_path))
  assert labels.spec.levels == 3 and labels.info["columns"][0]["values"] == ["0", "1", "2"]


@needs_real
@pytest.mark.slow
@pytest.mark.parametrize(("name", "sizes", "levels"), [("binarized_mnist", (50_000, 10_000, 10_000), 2),
                                                       ("mnist", (50_000, 10_000, 10_000), 256)])
def test_real_sets(name, sizes, levels):
  dataset = load_dataset(f"tfds:{name}", data_dir=str(REAL))
  assert tuple(dataset.num_examples(split) for split in ("train", "valid", "test")) == sizes
  assert dataset.spec.event == (28, 28, 1) and dataset.spec.levels == levels
  train = dataset.split("train")["x"]
  assert train.mean() / (levels - 1) == pytest.approx(0.1307, abs=0.003)  # the mean everybody knows
