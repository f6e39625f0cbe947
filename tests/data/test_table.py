"""Tables as text: columns by their names, each kind of value, the way back, and every way in which one can be wrong."""

import json
import re

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest

from gdm.data.columns import as_table, bins, into_bins
from gdm.data.description import Description
from gdm.data.load import load_dataset, load_like
from gdm.errors import ConfigError, DataError

RNG = np.random.default_rng(0)
COLOURS, SIZES = ("red", "green", "dark, blue"), ("S", "M", "L")
ROWS = [(f"{RNG.normal(1e3, 3):.6f}", str(RNG.integers(1990, 2025)), COLOURS[RNG.integers(3)], SIZES[RNG.integers(3)],
         f"{RNG.normal():.6g}") for _ in range(120)]
HEADER = ("height", "year", "colour", "size", "dose")


@pytest.fixture
def write(tmp_path):
  def save(rows=ROWS, header=HEADER, name="t.csv", delimiter=","):
    quoted = [[f'"{cell}"' if delimiter in cell else cell for cell in row] for row in [header, *rows]]
    path = tmp_path / name
    path.write_text("\n".join(delimiter.join(row) for row in quoted) + "\n")
    return str(path)
  return save


def table_of(dataset):
  """Return the rows of all splits, written back."""
  return [row for name in dataset.splits
          for row in as_table(dataset.info, dataset.spec, dataset.split(name)["x"], dataset.split(name).get("y"))[1:]]


def test_numbers_come_back_in_their_own_units(write):
  dataset = load_dataset(f"csv:{write()}#columns=height,dose", transforms=("standardize",))
  assert dataset.spec.event == (2,) and not dataset.spec.is_discrete
  assert abs(dataset.split("train")["x"].mean()) < 1e-6
  theirs = sorted((float(row[0]), float(row[4])) for row in ROWS)
  np.testing.assert_allclose(sorted([float(a), float(b)] for a, b in table_of(dataset)), theirs, rtol=1e-6)
  assert as_table(dataset.info, dataset.spec, np.zeros((1, 2)))[0] == ["height", "dose"]
  binned = load_dataset(f"csv:{write()}#columns=height,dose", transforms=("standardize", "quantize:1000"))
  rough = np.array([[float(a), float(b)] for a, b in table_of(binned)])
  np.testing.assert_allclose(np.sort(rough, axis=0), np.sort(theirs, axis=0), atol=0.05)


def test_categories_and_integers_come_back_as_they_were(write):
  dataset = load_dataset(f"csv:{write()}#columns=colour,year,size&categorical=colour,size")
  years = [int(row[1]) for row in ROWS]
  assert dataset.spec.levels == max(years) - min(years) + 1
  assert dataset.info["levels"] == f"column 'year' has {dataset.spec.levels}"
  assert dataset.info["columns"][0] == {"name": "colour", "kind": "category", "values": ["dark, blue", "green", "red"]}
  assert sorted(map(tuple, table_of(dataset))) == sorted((row[2], row[1], row[3]) for row in ROWS)
  # what a column does not have is no value of it
  assert as_table(dataset.info, dataset.spec, np.array([[5, 0, 2]]))[1] == ["", str(min(years)), "S"]


def test_mixed_columns_by_bins(write):
  dataset = load_dataset(f"csv:{write()}#columns=colour,height,year&categorical=colour&bins=8")
  assert dataset.spec.levels == 8 and [each["kind"] for each in dataset.info["columns"]] == ["category", "bins", "bins"]
  counts = np.bincount(dataset.split("train")["x"][:, 1])
  assert len(counts) == 8 and counts.min() >= counts.sum() // 8 - 1
  heights, years = {float(row[0]) for row in ROWS}, {row[1] for row in ROWS}
  for colour, height, year in table_of(dataset):
    assert colour in COLOURS and year in years and min(abs(float(height) - each) for each in heights) < 1e-2


@hypothesis.given(st.lists(st.floats(-1e6, 1e6, allow_subnormal=False), min_size=2, max_size=60), st.integers(2, 9))
def test_bins_are_all_used_and_their_values_lie_inside(numbers, most):
  train = np.array(numbers)
  column = bins("a", train, most)
  values = np.array(column["values"])
  assert len(values) == len(column["edges"]) + 1 <= most
  np.testing.assert_array_equal(into_bins(column, values), np.arange(len(values)))
  assert set(values) <= set(train)
  if len(np.unique(train)) <= most:
    np.testing.assert_array_equal(values[into_bins(column, train)], train)


def test_labels_and_context(write):
  dataset = load_dataset(f"csv:{write()}#columns=height&label=size&context=dose,year",
                         transforms=("standardize?", "standardize_context?"))
  assert dataset.spec.num_classes == 3 and dataset.info["labels"] == ["L", "M", "S"]
  assert dataset.spec.context_dims == 2 and dataset.info["context_columns"] == ["dose", "year"]
  train = dataset.split("train")
  np.testing.assert_allclose(train["context"].mean(0), 0, atol=1e-6)
  table = as_table(dataset.info, dataset.spec, train["x"], train["y"])
  assert table[0] == ["height", "size"]
  facts = dataset.info["standardize_context"]
  doses = train["context"][:, 0] * facts["std"][0] + facts["mean"][0]
  for (height, size), dose in zip(table[1:], doses, strict=True):
    near = min(ROWS, key=lambda row: abs(float(row[0]) - float(height)))
    assert near[3] == size and abs(float(near[4]) - dose) < 1e-5


def test_all_columns_but_label_and_context_by_default(write):
  dataset = load_dataset(f"csv:{write()}#label=colour&context=dose&categorical=size&bins=4")
  assert [each["name"] for each in dataset.info["columns"]] == ["height", "year", "size"]


def test_integers_as_real_numbers(write):
  path = write([row[1:2] for row in ROWS], header=("year",))
  assert load_dataset(f"csv:{path}").spec.is_discrete
  assert not load_dataset(f"csv:{path}#numbers=real").spec.is_discrete


def test_the_order_of_rows_changes_nothing(write):
  ours = load_dataset(f"csv:{write()}#columns=colour,height&categorical=colour&bins=8")
  theirs = load_dataset(f"csv:{write(ROWS[::-1])}#columns=colour,height&categorical=colour&bins=8")
  assert ours.info == theirs.info
  for name in ours.splits:
    assert sorted(ours.split(name)["x"].tolist()) == sorted(theirs.split(name)["x"].tolist())


def test_other_forms_of_text(write, tmp_path):
  numbers = [(row[0], row[4]) for row in ROWS]
  plain = load_dataset(f"csv:{write(numbers, ('a', 'b'))}")
  for name, delimiter, options in (("t.tsv", "\t", ""), ("s.csv", ";", "#delimiter=;"),
                                   ("u.csv", "\t", "#delimiter=tab")):
    other = load_dataset(f"{name[-3:]}:{write(numbers, ('a', 'b'), name, delimiter)}{options}")
    assert other.identity == plain.identity
  bare = load_dataset(f"csv:{write(numbers[1:], numbers[0], 'bare.csv')}#header=no")
  assert bare.identity == plain.identity and [each["name"] for each in bare.info["columns"]] == ["1", "2"]
  lines = ["\ufeffa,b", *map(",".join, numbers), "", ""]
  (tmp_path / "bom.csv").write_bytes("\r\n".join(lines).encode())
  assert load_dataset(f"csv:{tmp_path / 'bom.csv'}").identity == plain.identity
  (tmp_path / "raw.tsv").write_text("spam\tit's \"free\n" + "ham\thello\n" * 3)
  told = load_dataset(f"tsv:{tmp_path / 'raw.tsv'}#header=no&categorical=1,2&split=rows")
  assert told.info["columns"][1]["values"] == ["hello", 'it\'s "free']


TEXT = "a,b,c\n" + "1,2.5,x\n2,3.5,y\n3,4.5,x\n4,5.5,y\n"


@pytest.mark.parametrize(("text", "options", "error", "message"), [
    (TEXT + "5,6.5\n", "", DataError, r"t.csv, line 6: 2 cells, but line 1 has 3"),
    ('a,b\n1,"x\ny"\n2\n', "", DataError, "line 4: 1 cells"),
    (TEXT, "", DataError, "column 'c' holds text, as 'x'; say that its values are categories by #categorical=c"),
    (TEXT, "columns=a,d", ConfigError, "option columns of csv names 'd', but csv file .* has no such column; known: a"),
    (TEXT.replace("a,b", "alpha,b"), "columns=alfa", ConfigError, "did you mean 'alpha'"),
    (TEXT, "label=a,b", ConfigError, "option label=a,b of csv must name one column"),
    (TEXT, "columns=a&label=a", ConfigError, "column 'a' of csv file .* is named twice"),
    (TEXT, "columns=a&categorical=c", ConfigError, "categorical names 'c', which is none of the columns of x: a"),
    (TEXT, "context=c", DataError, "column 'c' holds text, as 'x'; a context column must hold numbers"),
    (TEXT, "columns=b,c&categorical=c", ConfigError, "'b' holds real numbers, 'c' categories. Choose .*&bins=16"),
    (TEXT, "columns=b&numbers=levels", ConfigError, "numbers=levels, but column 'b' of .* has fractions"),
    (TEXT, "columns=a&context=b&label=c&bins=1", ConfigError, "bins='1' of csv must be an integer of at least 2"),
    (TEXT.replace("2,3.5", ",NA") + "?,,z\n", "categorical=c", DataError, "missing values: a 2, b 2 of 5 rows; fill"),
    (TEXT + "5,inf,x\n", "columns=b", DataError, "column 'b' holds inf"),
    (TEXT + "90000,1,x\n", "columns=a", DataError, "column 'a' reach from 1 to 90000.*#numbers=real"),
    (TEXT.replace("a,b", "a,a"), "", DataError, "two columns are called 'a'"),
    (TEXT.replace("a,b", ",b"), "", DataError, r"column 1 has no name; .*to_csv\(index=False\)"),
    (TEXT.replace(",", ";"), "", DataError, "line 1 is one cell, 'a;b;c'; .*#delimiter=;"),
    ("1,2\n3,4\n", "", DataError, "line 1 holds numbers, 1, 2.*#header=no"),
    ("a,b\n", "", DataError, "has no rows"),
    ("", "", DataError, "is empty"),
    ('a,b\n1,"2\n', "", DataError, "line 2: unexpected end of data"),
    (TEXT, "delimiter=ab", ConfigError, "delimiter='ab' of csv must be one character"),
    (TEXT, "column=a", ConfigError, "no option 'column'; did you mean 'columns'"),
    (TEXT, "columns=a,b,c&label=", DataError, "holds text"),
    ("a\n1\n1_000\n", "", DataError, "column 'a' holds text, as '1_000'"),
    # Numbers that float64 would round are refused, whatever makes real numbers of them.
    (f"a\n{2**63}\n{2**63 + 1}\n", "", DataError, f"holds the integer {2**63 + 1}, which float64 would round"),
    (f"a,b\n{2**60 + 1},1\n3,2.5\n", "", DataError, f"column 'a' holds the integer {2**60 + 1}"),
    (f"a\n3\n{2**60 + 1}\n", "bins=2", DataError, f"holds the integer {2**60 + 1}"),
    (f"a,b\n3,1\n{2**60 + 1},2\n", "context=a", DataError, f"holds the integer {2**60 + 1}"),
])
def test_bad_tables_get_a_sentence(tmp_path, text, options, error, message):
  (tmp_path / "t.csv").write_text(text)
  with pytest.raises(error, match=message):
    load_dataset(f"csv:{tmp_path}/t.csv#{options}")


def test_no_table(tmp_path):
  with pytest.raises(DataError, match=r"csv file .*none.csv does not exist"):
    load_dataset(f"csv:{tmp_path / 'none.csv'}")
  (tmp_path / "latin.csv").write_bytes("a,b\nä,1\n".encode("latin-1"))
  with pytest.raises(DataError, match=re.escape("is not UTF-8: byte 4 is 0xe4")):
    load_dataset(f"csv:{tmp_path / 'latin.csv'}")


def test_what_is_no_table_has_no_way_back(write):
  digits = load_dataset("digits")
  assert as_table(digits.info, digits.spec, digits.split("test")["x"]) is None
  halves = load_dataset(f"csv:{write()}#columns=year", transforms=("quantize:4",))
  assert as_table(halves.info, halves.spec, halves.split("test")["x"]) is None


@pytest.mark.parametrize("options", [
    "columns=colour,year,size&categorical=colour,size", "columns=height,year,colour&categorical=colour&bins=5",
    "columns=year,size&categorical=size&label=colour"])
def test_other_data_are_coded_as_a_model_knows_them(write, options):
  """A few rows in another order of columns get the codes that they have among all, whatever values they lack."""
  whole = load_dataset(f"csv:{write()}#{options}")
  known = Description.from_json(json.loads(json.dumps(Description.of(whole).to_json())))
  codes = {tuple(row): tuple(x) for split in whole.splits.values()
           for row, x in zip(as_table(whole.info, whole.spec, split["x"], split.get("y"))[1:], split["x"], strict=True)}
  few = write([row[::-1] for row in ROWS if row[2] != "green" and row[1] < "2015"][:20], HEADER[::-1], "few.csv")
  for asked in ("", f"#{options}&split=rows"):
    found = load_like(known, f"csv:{few}{asked}")
    assert found.spec == whole.spec and sum(map(found.num_examples, found.splits)) == 20
    for split in found.splits.values():
      for row, x in zip(as_table(whole.info, whole.spec, split["x"], split.get("y"))[1:], split["x"], strict=True):
        assert codes[tuple(row)] == tuple(x)


@pytest.mark.parametrize(("place", "value", "message"), [
    (1, "1899", "column 'year' holds 1899, but .* trained on data where it holds integers from 199"),
    (1, "2000.5", "column 'year' holds 2000.5"),
    (2, "blue", "column 'colour' holds 'blue', which it does not in the data that the run was trained on"),
    (3, "XL", "column 'size' holds 'XL'"),
])
def test_values_that_a_model_does_not_know_get_a_sentence(write, place, value, message):
  known = Description.of(load_dataset(f"csv:{write()}#columns=year,colour&categorical=colour&label=size"))
  rows = [*ROWS[:9], tuple(value if i == place else cell for i, cell in enumerate(ROWS[9]))]
  with pytest.raises(DataError, match=message):
    load_like(known, f"csv:{write(rows, name='new.csv')}")


def test_other_data_must_mean_the_same(write):
  like = Description.of(load_dataset(f"csv:{write()}#columns=colour&categorical=colour&label=size&split=rows"))
  load_like(like, f"csv:{write(ROWS[:60])}#columns=colour&categorical=colour&label=size&split=rows")
  with pytest.raises(DataError, match=r"column 'size' is coded as .*trained on csv:t.*where it is .*'green'"):
    load_like(like, f"csv:{write()}#columns=size&categorical=size&label=colour&split=rows")
  with pytest.raises(DataError, match=r"has the labels 19.*, but the run was trained on L, M, S"):
    load_like(like, f"csv:{write()}#columns=colour&categorical=colour&label=year&split=rows")


def test_names_with_commas(write):
  path = write([(row[0], row[4]) for row in ROWS], ("height, cm", "a&b"))
  assert load_dataset(f"csv:{path}#columns=a%26b,height%2C cm").info["columns"][1]["name"] == "height, cm"
