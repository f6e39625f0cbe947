"""Tables of TFDS: each kind of feature as columns, labels and splits, and the same data by other sources."""

import numpy as np
import pytest
import tensorflow_datasets as tfds
from helpers.prepared_sets import write_set

from gdm.data.columns import as_table
from gdm.data.load import load_dataset
from gdm.data.sources import tfds_table
from gdm.data.sources.request import Request
from gdm.data.sources.tfds import open_set
from gdm.errors import ConfigError, DataError

F = tfds.features
FEATURES = F.FeaturesDict({
    "age": F.Scalar(np.int32), "cabin": F.Tensor(shape=(), dtype=np.str_), "is_new": np.bool_, "note": F.Text(),
    "place": {"deck": F.ClassLabel(names=["low", "high"]), "row": F.Tensor(shape=(2,), dtype=np.int64)},
    "size": F.Tensor(shape=(2,), dtype=np.float64, encoding="zlib"), "survived": F.ClassLabel(num_classes=3),
})
IRIS = F.FeaturesDict({"features": F.Tensor(shape=(3,), dtype=np.float32), "label": F.ClassLabel(num_classes=3)})
COUNTS = F.FeaturesDict({"count": F.Tensor(shape=(2,), dtype=np.int32), "label": F.ClassLabel(names=["a", "b"])})


@pytest.fixture(autouse=True)
def cache_of_its_own(tmp_path, monkeypatch):
  monkeypatch.setenv("GDM_CACHE_DIR", str(tmp_path / "cache"))


def passengers(num: int, seed: int = 0) -> list[dict]:
  rng = np.random.default_rng(seed)
  return [{"age": int(rng.integers(5, 9)), "cabin": ["C1", "naïve", "?"][rng.integers(3)],
           "is_new": bool(rng.integers(2)), "note": "none", "survived": int(rng.integers(3)),
           "place": {"deck": int(rng.integers(2)), "row": rng.integers(0, 4, 2)}, "size": rng.normal(size=2)}
          for _ in range(num)]


def flowers(num: int, seed: int = 0) -> list[dict]:
  rng = np.random.default_rng(seed)
  return [{"features": rng.normal(size=3).astype(np.float32), "label": i % 3} for i in range(num)]


def counts(num: int, seed: int = 0) -> list[dict]:
  rng = np.random.default_rng(seed)
  return [{"count": np.array([i % 2, rng.integers(5)], np.int32), "label": i % 2} for i in range(num)]


def load(root, options=""):
  return load_dataset(f"tfds:toy{options}", data_dir=str(root))


def stacked(examples, key):
  return np.array([example[key] for example in examples])


def test_every_kind_of_column_comes_back_as_it_was(tmp_path):
  examples = passengers(60)
  write_set(tmp_path, FEATURES, {"train": examples, "validation": passengers(9, 1), "test": passengers(5, 2)})
  dataset = load(tmp_path, "#columns=place/deck,age,cabin,is_new,place/row_1,note&label=survived&context=size_0,size_1")
  train = dataset.split("train")
  assert as_table(dataset.info, dataset.spec, train["x"], train["y"])[1:] == [
      [["low", "high"][each["place"]["deck"]], str(each["age"]), each["cabin"], str(int(each["is_new"])),
       str(each["place"]["row"][1]), "none", str(each["survived"])] for each in examples]
  np.testing.assert_array_equal(train["context"], stacked(examples, "size").astype(np.float32))
  assert dataset.spec.num_classes == 3 and dataset.info["labels"] == ["0", "1", "2"]
  assert [dataset.num_examples(name) for name in ("train", "valid", "test")] == [60, 9, 5]
  assert dataset.name.startswith("tfds:toy#columns=") and dataset.info["version"] == "1.0.0"


def test_columns_by_default_and_bins(tmp_path):
  features = F.FeaturesDict({key: FEATURES[key] for key in FEATURES if key != "note"})
  examples = [{key: each[key] for key in features} for each in passengers(80)]
  write_set(tmp_path, features, {"train": examples})
  dataset = load(tmp_path, "#bins=4&label=survived")
  assert [column["name"] for column in dataset.info["columns"]] == [
      "age", "cabin", "is_new", "place/deck", "place/row_0", "place/row_1", "size_0", "size_1"]
  assert [column["kind"] for column in dataset.info["columns"]] == [
      "bins", "category", "bins", "category", *["bins"] * 4]
  with pytest.raises(ConfigError, match="'size_0' holds real numbers, 'cabin' categories"):
    load(tmp_path)


@pytest.mark.parametrize("splits", [
    {"train": 30, "validation": 6, "test": 5},
    {"train": 30, "test": 6},
    {"train": 30, "validation": 6},
])
def test_real_numbers_are_those_of_npz(tmp_path, splits):
  sets = {name: flowers(num, seed) for seed, (name, num) in enumerate(splits.items())}
  write_set(tmp_path, IRIS, sets)
  train, test = sets["train"], sets.get("test", sets.get("validation", []))
  if len(splits) < 3:  # the end of train validates, as many as test and no more than a fifth
    train, valid = train[:24], train[24:]
  else:
    valid = sets["validation"]
  ours = {name: (stacked(each, "features"), stacked(each, "label"))
          for name, each in (("train", train), ("valid", valid), ("test", test))}
  np.savez(tmp_path / "same.npz", **{name: x for name, (x, _) in ours.items()},
           **{f"{name}_label": y for name, (_, y) in ours.items()})
  dataset, theirs = load(tmp_path), load_dataset(f"npz:{tmp_path / 'same.npz'}")
  assert dataset.identity == theirs.identity and dataset.spec == theirs.spec
  assert [column["name"] for column in dataset.info["columns"]] == ["features_0", "features_1", "features_2"]


def test_integers_are_those_of_npz_and_csv(tmp_path):
  sets = {"train": counts(40), "validation": counts(8, 1), "test": counts(8, 2)}
  write_set(tmp_path, COUNTS, sets)
  names = {"train": "train", "validation": "valid", "test": "test"}
  np.savez(tmp_path / "same.npz", **{names[name]: stacked(each, "count") for name, each in sets.items()},
           **{f"{names[name]}_label": stacked(each, "label") for name, each in sets.items()})
  dataset = load(tmp_path)
  assert dataset.identity == load_dataset(f"npz:{tmp_path / 'same.npz'}").identity and dataset.spec.levels == 5


def test_train_alone_is_split_by_the_rule_of_other_tables(tmp_path):
  examples = counts(60)
  write_set(tmp_path, COUNTS, {"train": examples})
  rows = [f"{each['count'][0]},{each['count'][1]},{'ab'[each['label']]}" for each in examples]
  (tmp_path / "same.csv").write_text("\n".join(["count_0,count_1,label", *rows]) + "\n")
  for options in ("split=rows", "valid=0.3&test=0.2"):
    dataset, theirs = load(tmp_path, f"#{options}"), load_dataset(f"csv:{tmp_path}/same.csv#{options}&label=label")
    assert dataset.identity == theirs.identity and dataset.info["split"] == theirs.info["split"]
    assert dataset.info["labels"] == theirs.info["labels"] == ["a", "b"]
  write_set(tmp_path / "more", COUNTS, {"train": examples, "test": counts(5)})
  with pytest.raises(ConfigError, match="option valid of tfds says how to split a set"):
    load(tmp_path / "more", "#valid=0.3")


def test_the_label_by_default(tmp_path):
  write_set(tmp_path, COUNTS, {"train": counts(30)})
  assert load(tmp_path).info["label_column"] == "label"
  unlabelled = load(tmp_path, "#label=&split=rows")
  assert unlabelled.spec.num_classes is None and len(unlabelled.info["columns"]) == 3
  assert load(tmp_path, "#columns=count_1,label&split=rows").spec.num_classes is None
  # of several class labels none is the one
  two = F.FeaturesDict({"a": F.ClassLabel(num_classes=2), "b": F.ClassLabel(num_classes=2)})
  write_set(tmp_path / "two", two, {"train": [{"a": i % 2, "b": i // 2 % 2} for i in range(30)]})
  assert load(tmp_path / "two", "#split=rows").spec.num_classes is None


def test_columns_are_read_once_and_then_from_the_cache(tmp_path, monkeypatch):
  write_set(tmp_path, FEATURES, {"train": passengers(40)})
  options = "#columns=cabin,place/deck,age&label=survived&split=rows"
  first = load(tmp_path, options)
  monkeypatch.setattr(tfds_table, "_decoded", lambda *args: pytest.fail("read again"))
  again = load(tmp_path, options)
  assert again.identity == first.identity and again.info == first.info


def test_a_table_larger_than_memory_is_refused(tmp_path):
  write_set(tmp_path, COUNTS, {"train": counts(30)})
  request = Request("tfds", "toy", {}, str(tmp_path))
  with pytest.raises(DataError, match=r"has 90 values, of which 80 are read into memory; choose .*#columns="):
    tfds_table.load(open_set(request), request, 640)
  fewer = Request("tfds", "toy", {"columns": "count_1", "label": ""}, str(tmp_path))
  assert tfds_table.load(open_set(fewer), fewer, 640).spec.event == (1,)


@pytest.mark.parametrize(("change", "options", "error", "message"), [
    ({"label": -1}, "", DataError, "missing values: label 1 of 31 rows"),
    ({"x": np.nan}, "", DataError, "missing values: x 1 of 31 rows"),
    ({"word": ""}, "#columns=word", DataError, "missing values: word 1 of 31 rows"),
    ({"word": b"a\xff"}, "#columns=word", DataError, r"feature 'word' holds b'a\\xff', which is not UTF-8"),
    ({}, "#columns=xx", ConfigError, r"option columns of tfds names 'xx', but tfds:toy in .* no such column.*'x'"),
    ({}, "#columns=box", ConfigError, "names 'box', which is a feature of tfds:toy in .* of kind BBoxFeature; columns"),
    ({}, "#columns=x&context=word", DataError, "'word' holds text, as 'ab'; a context column must hold numbers"),
    ({}, "#columns=x&resize=4", ConfigError, "tfds:toy is read as a table, which has no option resize; take it away"),
    ({}, "#columns=x&bins=1", ConfigError, "bins='1' of tfds must be an integer of at least 2"),
])
def test_bad_tables_get_a_sentence(tmp_path, change, options, error, message):
  features = F.FeaturesDict({"x": np.float32, "word": np.str_, "label": F.ClassLabel(num_classes=2),
                             "box": F.BBoxFeature()})
  rows = [{"x": float(i), "word": "ab", "label": i % 2, "box": F.BBox(0.0, 0.0, 1.0, 1.0)} for i in range(30)]
  write_set(tmp_path, features, {"train": [*rows, {**rows[0], **change}]})
  with pytest.raises(error, match=message):
    load(tmp_path, options or "#columns=x")


def test_damage_gets_a_sentence(tmp_path):
  folder = write_set(tmp_path, COUNTS, {"train": counts(30)})
  F.FeaturesDict({"count": F.Tensor(shape=(2,), dtype=np.int32), "other": F.Scalar(np.int32)}).save_config(str(folder))
  with pytest.raises(DataError, match="split train, example 0 has no value of the feature 'other': it is"):
    load(tmp_path)
