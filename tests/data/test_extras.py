"""Sources that need optional packages: HDF5 and Parquet files, sets of the `datasets` library."""

import io
import sys

import numpy as np
import pytest
from PIL import Image

from gdm.data.load import load_dataset
from gdm.errors import ConfigError, DataError

RNG = np.random.default_rng(0)
X, Y = RNG.integers(0, 9, (120, 4)), RNG.integers(0, 3, 120)


@pytest.mark.parametrize(("module", "name", "extra"), [
    ("h5py", "hdf5:x.h5", "hdf5"), ("pyarrow", "parquet:x.parquet", "parquet"), ("datasets", "hf:mnist", "hf"),
])
def test_an_extra_that_is_missing_is_named(monkeypatch, module, name, extra):
  monkeypatch.setitem(sys.modules, module, None)
  with pytest.raises(ConfigError, match=rf"data.name {name} needs the package {module}.*pip install '\.\[{extra}\]'"):
    load_dataset(name)


class TestHDF5:
  @pytest.fixture
  def path(self, tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "mine.h5", "w") as file:
      file["group/pixels"], file["kinds"] = X, Y
    return tmp_path / "mine.h5"

  def test_keys(self, path, tmp_path):
    dataset = load_dataset(f"hdf5:{path}#key=group/pixels&label=kinds")
    np.save(tmp_path / "x.npy", X)
    assert dataset.spec.num_classes == 3 and dataset.name == "hdf5:mine"
    plain = load_dataset(f"npy:{tmp_path / 'x.npy'}")
    np.testing.assert_array_equal(dataset.split("test")["x"], plain.split("test")["x"])
    assert load_dataset(f"npz:{path}#label=kinds").identity == dataset.identity  # what remains is the examples

  def test_names_of_npz(self, tmp_path):
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "parts.h5", "w") as file:
      file["train"], file["valid"], file["test"], file["levels"] = X[:100], X[100:110], X[110:], 16
    dataset = load_dataset(f"hdf5:{tmp_path / 'parts.h5'}")
    assert dataset.spec.levels == 16 and dataset.num_examples("valid") == 10

  def test_bad_keys(self, path, tmp_path):
    with pytest.raises(ConfigError, match=r"no array 'group/pixel'; did you mean 'group/pixels'\? Its arrays: group/p"):
      load_dataset(f"hdf5:{path}#key=group/pixel")
    with pytest.raises(ConfigError, match=r"several arrays, or none; say which .*#key=.*kinds \(120,\)"):
      load_dataset(f"hdf5:{path}")
    with pytest.raises(DataError, match="does not exist"):
      load_dataset(f"hdf5:{tmp_path / 'none.h5'}")
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DataError, match="cannot be read"):
      load_dataset(f"hdf5:{path}#key=kinds")


class TestParquet:
  def write(self, path, **columns):
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.table(columns), path)
    return path

  def test_it_is_the_same_as_a_csv(self, tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    words = pyarrow.array([("ab", "c", "d")[y] for y in Y]).dictionary_encode()
    path = self.write(tmp_path / "t.parquet", n=X[:, 0], w=words, r=X[:, 1] / 4, when=[b"raw"] * 120)
    lines = ["n,w,r", *(f"{n},{('ab', 'c', 'd')[y]},{r / 4}" for n, y, r in zip(X[:, 0], Y, X[:, 1], strict=True))]
    (tmp_path / "t.csv").write_text("\n".join(lines))
    options = "columns=n,r,w&categorical=w&bins=5"
    ours, theirs = load_dataset(f"parquet:{path}#{options}"), load_dataset(f"csv:{tmp_path / 't.csv'}#{options}")
    assert ours.identity == theirs.identity and ours.info["columns"] == theirs.info["columns"]
    with pytest.raises(DataError, match="column 'when' holds binary; numbers and text are read"):
      load_dataset(f"parquet:{path}#categorical=w")

  def test_missing_values_are_counted(self, tmp_path):
    path = self.write(tmp_path / "t.parquet", a=[1, None, 3, None], b=[0.5, None, 1.0, 2.0], c=["x", "y", None, "z"])
    with pytest.raises(DataError, match="missing values: a 2, b 1, c 1 of 4 rows"):
      load_dataset(f"parquet:{path}#categorical=c")
    path.write_bytes(b"PAR1 no table")
    with pytest.raises(DataError, match="cannot be read"):
      load_dataset(f"parquet:{path}")


@pytest.mark.filterwarnings("ignore")  # the library's own
class TestDatasets:
  @pytest.fixture(autouse=True)
  def offline(self, monkeypatch, tmp_path):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    self.datasets = datasets

  def test_a_table(self, tmp_path):
    rows = {"a": X[:, 0].tolist(), "b": X[:, 1].tolist(), "kind": Y.tolist()}
    features = self.datasets.Features({"a": self.datasets.Value("int64"), "b": self.datasets.Value("int64"),
                                       "kind": self.datasets.ClassLabel(names=["zero", "one", "two"])})
    self.datasets.Dataset.from_dict(rows, features=features).save_to_disk(str(tmp_path / "saved"))
    dataset = load_dataset(f"hf:{tmp_path / 'saved'}#label=kind")
    assert dataset.spec.event == (2,) and dataset.info["labels"] == ["zero", "one", "two"]
    np.save(tmp_path / "x.npy", X[:, :2])
    np.testing.assert_array_equal(dataset.split("test")["x"],
                                  load_dataset(f"npy:{tmp_path / 'x.npy'}").split("test")["x"])
    with pytest.raises(ConfigError, match="is a table, which has no option resize"):
      load_dataset(f"hf:{tmp_path / 'saved'}#resize=4")

  def test_images_in_splits(self, tmp_path):
    pixels = RNG.integers(0, 256, (30, 8, 8), dtype=np.uint8)

    def part(start, stop):
      encoded = []
      for i in range(start, stop):
        file = io.BytesIO()
        Image.fromarray(pixels[i]).save(file, "PNG")
        encoded.append({"bytes": file.getvalue(), "path": None})
      features = self.datasets.Features({"picture": self.datasets.Image(),
                                         "label": self.datasets.ClassLabel(names=["even", "odd"])})
      return self.datasets.Dataset.from_dict(
          {"picture": encoded, "label": [i % 2 for i in range(start, stop)]}, features=features)

    saved = self.datasets.DatasetDict({"train": part(0, 20), "validation": part(20, 24), "test": part(24, 30)})
    saved.save_to_disk(str(tmp_path / "saved"))
    dataset = load_dataset(f"hf:{tmp_path / 'saved'}")
    np.testing.assert_array_equal(dataset.split("test")["x"][..., 0], pixels[24:])
    np.testing.assert_array_equal(dataset.split("valid")["y"], [0, 1, 0, 1])
    assert dataset.info["labels"] == ["even", "odd"] and dataset.spec.event == (8, 8, 1)
    assert load_dataset(f"hf:{tmp_path / 'saved'}#resize=4").spec.event == (4, 4, 1)
    with pytest.raises(ConfigError, match=r"option image=pictures of hf must be .*did you mean 'picture'"):
      load_dataset(f"hf:{tmp_path / 'saved'}#image=pictures")

  def test_what_cannot_be_opened(self, tmp_path):
    with pytest.raises(DataError, match=r"cannot be opened: .*Name a folder that save_to_disk wrote"):
      load_dataset(f"hf:{tmp_path}")
