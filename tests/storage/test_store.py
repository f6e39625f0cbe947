"""Objects below a URL, on the file system that lives in memory."""

import pytest

from gdm.errors import StorageError, UserError
from gdm.storage import store as stores
from gdm.storage.store import Store
from gdm.storage.urls import is_url, parse_url


def store(name: str) -> Store:
  return Store(parse_url(f"memory://{name}/run", "workdir"))


@pytest.mark.parametrize(("text", "url"), [("gs://b/runs/a/", "gs://b/runs/a"), ("s3:/b//k", "s3://b/k"),
                                           ("memory://b", "memory://b"),
                                           ("gs://b/läufe 1/a=b,c", "gs://b/läufe 1/a=b,c")])
def test_urls_are_taken_apart_and_put_together(text, url):
  assert is_url(text) and str(parse_url(text, "workdir")) == url


@pytest.mark.parametrize("text", ["gs://", "gs://b/lr[1]", "gs://b/a*", "s3://b/a?x", "gs://b/a#1", "gs://b/a\\b",
                                  "gs://b/../c", "gs://b/a\n", "gs://b/\ud800", "gs://b/x:/y"])
def test_places_that_no_bucket_can_have_are_refused_in_one_line(text):
  with pytest.raises(StorageError, match=r"^workdir is ") as caught:
    parse_url(text, "workdir")
  assert "\n" not in str(caught.value)


@pytest.mark.parametrize("path", ["runs/a", "/a/b", "gs", "ftp://b/x", "gsx://b/k", "a/gs://b"])
def test_other_paths_are_no_urls(path):
  assert not is_url(path)


def test_objects_are_written_read_listed_and_deleted(tmp_path):
  objects = store("objects")
  assert objects.read("a") is None and objects.list() == {} and objects.digest("a") is None
  objects.write("a", b"1")
  objects.write("sub/b", b"22")
  objects.write("subway", b"333")
  assert objects.read("a") == b"1" and objects.list() == {"a": 1, "sub/b": 2, "subway": 3}
  assert objects.list("sub") == {"sub/b": 2}
  assert not objects.download("none", tmp_path / "none") and not (tmp_path / "none").exists()
  assert objects.download("sub/b", tmp_path / "deep" / "b") and (tmp_path / "deep" / "b").read_bytes() == b"22"
  objects.delete(["a", "a", "none"])
  assert set(objects.list()) == {"sub/b", "subway"}


def test_one_alone_creates_an_object():
  objects = store("create")
  assert [objects.create("lease", bytes([k])) for k in range(3)] == [True, False, False]
  assert objects.read("lease") == b"\0"


def test_large_files_go_through_and_their_digest_is_that_of_the_bytes(tmp_path):
  import hashlib
  data = bytes(range(256)) * 40_000
  (tmp_path / "big").write_bytes(data)
  objects = store("large")
  objects.upload(tmp_path / "big", "big")
  assert objects.digest("big") == hashlib.sha256(data).hexdigest()


class Unwilling:
  """A file system whose calls fail some times before they work."""

  def __init__(self, system, times, error):
    self._system, self.times, self._error = system, times, error

  def __getattr__(self, name):
    if self.times > 0:
      self.times -= 1
      raise self._error
    return getattr(self._system, name)


def test_a_bucket_that_worked_is_waited_for(monkeypatch, caplog):
  monkeypatch.setattr(stores.time, "sleep", lambda seconds: None)
  objects = store("patience")
  objects.write("a", b"1")
  objects._system = Unwilling(objects._system, 4, PermissionError("denied for a while"))
  with caplog.at_level("INFO", "gdm"):
    objects.write("a", b"2")
  assert objects.read("a") == b"2"
  assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]


def test_patience_ends(monkeypatch):
  monkeypatch.setenv("GDM_STORAGE_SECONDS", "0.2")
  objects = store("impatience")
  objects.write("a", b"1")
  objects._system = Unwilling(objects._system, 10**9, OSError("out of order"))
  with pytest.raises(StorageError, match=r"^memory://impatience/run cannot be used, for 0.2 s: out of order.$"):
    objects.write("a", b"2")


@pytest.mark.parametrize(("error", "words"), [
    (PermissionError("no right to list"), "no right to list"),
    (RuntimeError("Unable to locate credentials"), "no valid credentials were found"),
    (FileNotFoundError("bucket"), "there is no bucket 'first'"),
])
def test_the_first_call_fails_at_once_for_what_will_last(error, words, monkeypatch):
  monkeypatch.setattr(stores.time, "sleep", lambda seconds: pytest.fail("it waited"))
  objects = store("first")
  objects._system = Unwilling(objects._system, 10**9, error)
  with pytest.raises(UserError, match=words):
    objects.list()


def test_a_bucket_that_never_answers_is_given_up(monkeypatch):
  import threading
  monkeypatch.setattr(stores, "FIRST_SECONDS", 0.2)
  objects = store("silent")
  forever = threading.Event()
  monkeypatch.setattr(objects._system, "find", lambda *args, **kwargs: forever.wait(30))
  with pytest.raises(StorageError, match=r"it gave no answer within 0.2 s"):
    objects.list()
  forever.set()


def test_missing_packages_are_named(monkeypatch):
  import sys
  monkeypatch.setitem(sys.modules, "s3fs", None)
  with pytest.raises(UserError, match=r"s3:// needs the package s3fs, .*pip install '.\[s3\]'"):
    Store(parse_url("s3://b/run", "workdir"))
