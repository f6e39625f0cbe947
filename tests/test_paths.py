"""Paths: what can be used can be used in full, everything else is refused before anything is written."""

import os
import stat
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gdm.errors import CheckpointError, ConfigError, WorkdirError
from gdm.paths import is_local, local_path, write_whole
from gdm.runs.workdir import Workdir
from gdm.training import checkpoint
from gdm.training.weights import save_weights

USABLE = ("plain", "lr=0.001,seed=0", "with space", "ünï✓", "a%20b", "{a,b}", "$HOME", "a'b\"c", "-x", ".hidden", "a:b",
          "C:", "~", "x" * 200)
UNUSABLE = ("lr[1e-3]", "a[b", "a]b", "a*b", "a?b", "a\\b", "new\nline", "tab\tb", "gs:", "\udcff")
URLS = ("ftp://bucket/run", "file:///tmp/x", "HTTP://h/x", "hdfs:/bucket", "az+x://y")


@pytest.mark.fast_cases("with space", "a%20b", "{a,b}", "$HOME", "a'b\"c", "a:b", "~")
@pytest.mark.parametrize("name", [name for name in USABLE if name != "C:"])
def test_a_state_comes_back_from_every_path_that_is_taken(tmp_path, name):
  folder = Workdir(tmp_path / name / "run").checkpoints
  state = {"x": jnp.arange(3.0)}
  writer = checkpoint.Checkpointer(folder)
  writer.save(1, state, {})
  writer.close()
  assert checkpoint.newest_good_step(folder) == 1
  np.testing.assert_array_equal(checkpoint.restore(folder, 1, state).state["x"], [0.0, 1.0, 2.0])


@pytest.mark.parametrize("below", ["", "run"])
@pytest.mark.parametrize("name", UNUSABLE)
def test_a_path_that_orbax_takes_for_a_pattern_is_refused(tmp_path, name, below):
  folder = tmp_path / name / below
  with pytest.raises(WorkdirError, match=r"workdir is .*; name a"):
    Workdir(folder)
  with pytest.raises(CheckpointError, match="checkpoints cannot lie in"):
    checkpoint.Checkpointer(folder)
  with pytest.raises(CheckpointError, match="checkpoints cannot lie in"):
    checkpoint.restore(folder, 1, {})
  assert not list(tmp_path.iterdir())


def test_a_relative_path_counts_from_where_it_is(tmp_path, monkeypatch):
  (tmp_path / "odd[1]" / "inside").mkdir(parents=True)
  monkeypatch.chdir(tmp_path / "odd[1]" / "inside")
  with pytest.raises(WorkdirError, match=r"workdir is 'run', whose path has '\['"):
    Workdir("run")
  assert Workdir("../../plain").path.resolve() == tmp_path / "plain"
  assert Workdir("../../plain/").path.resolve() == tmp_path / "plain"


def test_a_link_to_an_odd_folder_can_be_used(tmp_path):
  (tmp_path / "odd[1]").mkdir()
  (tmp_path / "link").symlink_to(tmp_path / "odd[1]")
  test_a_state_comes_back_from_every_path_that_is_taken(tmp_path, "link")
  assert (tmp_path / "odd[1]" / "run" / "checkpoints" / "1").is_dir()


@pytest.mark.parametrize("url", URLS)
def test_urls_are_refused_by_their_scheme(url):
  assert not is_local(url)
  for make in (lambda: local_path(url, "--out"), lambda: local_path(Path(url), "--out")):
    with pytest.raises(ConfigError, match=f"--out is .*, but places behind {url.partition(':')[0].replace('+', '.')}://"):
      make()
  with pytest.raises(WorkdirError, match="are not supported; give a path of this machine, or one in"):
    Workdir(url)


@pytest.mark.parametrize("path", ["run", "/a/b", "a:b/c", "C:/x", "./gs:x", "~/runs", "lr[1e-3].npz", "*.npz"])
def test_paths_of_files_may_have_what_only_checkpoints_cannot(path):
  assert is_local(path)
  assert local_path(path, "--out") == Path(path).expanduser()


def test_the_home_folder_is_found_or_named(monkeypatch):
  monkeypatch.setenv("HOME", "/home/somebody")
  assert local_path("~/runs/a", "--workdir") == Path("/home/somebody/runs/a") == Workdir("~/runs/a").path
  with pytest.raises(ConfigError, match="--workdir is '~nobody-at-all/x', but there is no home folder ~nobody-at-all"):
    local_path("~nobody-at-all/x", "--workdir")


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0o077, 0o600), (0o002, 0o664)])
def test_files_get_the_permissions_that_the_umask_leaves(tmp_path, umask, mode, monkeypatch):
  from gdm.data import cache

  monkeypatch.setenv("GDM_CACHE_DIR", str(tmp_path / "cache"))
  before = os.umask(umask)
  try:
    write_whole(tmp_path / "whole", lambda file: file.write(b"x"))
    save_weights(tmp_path / "weights", {"model": {"w": np.zeros(3, np.float32)}}, {}, {})
    save_weights(tmp_path / "weights", {"model": {"w": np.zeros(3, np.float32)}}, {}, {})  # over an earlier one
    cache.cached("data", lambda: {"x": np.zeros(3)})
    writer = checkpoint.Checkpointer(tmp_path / "checkpoints")
    writer.save(1, {"x": jax.device_put(np.zeros(3))}, {})
    writer.close()
  finally:
    os.umask(before)
  files = [path for path in tmp_path.rglob("*") if path.is_file()]
  assert len(files) > 8
  assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {mode}


def test_what_cannot_be_written_leaves_words_and_nothing_else(tmp_path):
  (tmp_path / "folder").mkdir()
  (tmp_path / "file").write_text("kept")
  for path in (tmp_path / "folder", tmp_path / "file" / "below", tmp_path / "no" / "where"):
    with pytest.raises(WorkdirError, match=rf"{path} cannot be written: \w"):
      write_whole(path, lambda file: file.write(b"x"))
  assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "folder"]
  assert (tmp_path / "file").read_text() == "kept"
