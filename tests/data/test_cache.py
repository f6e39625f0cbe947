"""The cache of decoded data never changes what is read."""

import numpy as np
import pytest

from gdm.data import cache

ARRAYS = {"x": np.arange(1000, dtype=np.uint8).reshape(10, 100), "y": np.arange(10)}


class Counter:
  """Makes ARRAYS and counts how often."""

  calls = 0

  def __call__(self):
    self.calls += 1
    return ARRAYS


@pytest.fixture
def folder(tmp_path, monkeypatch):
  monkeypatch.setenv("GDM_CACHE_DIR", str(tmp_path / "cache"))
  return tmp_path / "cache"


def same(arrays) -> bool:
  return arrays.keys() == ARRAYS.keys() and all((arrays[key] == ARRAYS[key]).all() for key in ARRAYS)


def test_the_second_time_nothing_is_made(folder):
  make = Counter()
  assert same(cache.cached("key", make)) and same(cache.cached("key", make))
  assert make.calls == 1
  assert [path.name for path in folder.iterdir()] == ["key.npz"]


@pytest.mark.parametrize("damage", [lambda data: data[:500], lambda data: b"",
                                    lambda data: data[:700] + b"?" + data[701:]])
def test_damage_is_noticed_and_repaired(folder, damage):
  make = Counter()
  cache.cached("key", make)
  path = folder / "key.npz"
  path.write_bytes(damage(path.read_bytes()))
  assert same(cache.cached("key", make)) and make.calls == 2
  assert same(cache.cached("key", make)) and make.calls == 2


def test_where_nothing_can_be_written_nothing_is_lost(tmp_path, monkeypatch):
  blocked = tmp_path / "file"
  blocked.write_text("")
  for place in (str(blocked / "below"), ""):
    monkeypatch.setenv("GDM_CACHE_DIR", place)
    make = Counter()
    assert same(cache.cached("key", make)) and same(cache.cached("key", make))
    assert make.calls == 2
