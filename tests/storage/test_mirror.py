"""Runs in a bucket are trained, resumed and read as those in a folder. The bucket lives in memory."""

import json
import shutil

import numpy as np
import pytest
from helpers.tiny import get_config

import gdm
from experiments.faults.compare import difference
from gdm.errors import StorageError, UserError, WorkdirError
from gdm.runs import exits
from gdm.runs.settings import with_defaults
from gdm.runs.training import train
from gdm.runs.workdir import Workdir
from gdm.storage import Mirror, local_copy, push_all
from gdm.storage import mirror as mirrors
from gdm.storage.urls import parse_url
from gdm.training.preemption import Interruption


@pytest.fixture(autouse=True)
def staging(tmp_path, monkeypatch):
  monkeypatch.setenv("GDM_STAGING_DIR", str(tmp_path / "staging"))


@pytest.fixture
def url(tmp_path):
  return f"memory://bucket/{tmp_path.name}/run 1ü"


def config_of(num_steps=12):
  config = with_defaults(get_config("digits"))
  config.training.num_steps, config.data.batch_size = num_steps, 96
  return config


def run(place, interruption=None, num_steps=12):
  config = config_of(num_steps)
  with interruption or Interruption(exits.stop) as asked:
    return train(config, Workdir(place), None, asked)


def forget_all():
  """Delete every local copy, as a machine that is taken away does."""
  for mirror in mirrors._open.values():
    shutil.rmtree(mirror.path, ignore_errors=True)
  mirrors._open.clear()
  mirrors._known.clear()


class AfterRows(Interruption):
  """An interruption that asks for the end once the log has so many rows."""

  def __init__(self, metrics, rows):
    super().__init__(exits.stop)
    self._metrics, self._rows = metrics, rows

  def __call__(self):
    return self._metrics.exists() and self._metrics.read_text().count("\n") >= self._rows


@pytest.mark.slow
def test_a_run_in_a_bucket_is_that_in_a_folder_also_when_it_was_interrupted(tmp_path, url, capsys):
  assert run(tmp_path / "folder") == 0
  workdir = Workdir(url)
  assert run(url, AfterRows(workdir.metrics, 3)) == exits.EXIT_RESUME_ME
  forget_all()
  assert run(url) == 0
  assert "resuming from step" in capsys.readouterr().out
  forget_all()
  assert run(url) == 0  # which says that it is finished
  assert f"{url} is finished already, at step 12." in capsys.readouterr().out
  forget_all()
  mirror = Mirror.of(parse_url(url, "workdir"))
  mirror.fetch_run()
  assert difference(mirror.path, tmp_path / "folder") is None
  names = mirror.names()
  assert {"config.json", "metrics.jsonl", "finished.json", "curves.png"} <= set(names)
  assert any(name.startswith("tensorboard/") for name in names)
  assert mirror.steps("checkpoints") == gdm.training.checkpoint.list_steps(tmp_path / "folder" / "checkpoints")
  forget_all()
  here, there = gdm.load(url), gdm.load(tmp_path / "folder")
  assert here.step == there.step
  np.testing.assert_array_equal(here.sample(4, seed=1), there.sample(4, seed=1))


@pytest.mark.slow
def test_a_step_without_its_manifest_or_with_other_bytes_does_not_count(url):
  assert run(url, num_steps=8) == 0
  mirror = Mirror.of(parse_url(url, "workdir"))
  newest = mirror.steps("checkpoints")[-1]
  mirror.store.delete(["finished.json"])
  name = next(name for name in mirror.store.list(f"checkpoints/{newest}") if name.endswith("metadata"))
  mirror.store.write(name, b"{}")
  forget_all()
  assert gdm.load(url, "last").step < newest
  forget_all()
  assert run(url, num_steps=8) == 0  # from the step before
  mirror = Mirror.of(parse_url(url, "workdir"))
  assert mirror.steps("checkpoints")[-1] == newest
  mirror.store.delete([f"checkpoints/{newest}/manifest.json"])
  assert newest not in mirror.steps("checkpoints")


def test_a_bucket_that_gives_other_bytes_fails_the_save(url, monkeypatch):
  mirror = Mirror.of(parse_url(url, "workdir"))
  folder = mirror.path / "checkpoints" / "5"
  folder.mkdir(parents=True)
  (folder / "state").write_bytes(b"right")
  gdm.training.checkpoint.write_manifest(folder)
  monkeypatch.setattr(type(mirror.store), "digest", lambda self, name, size: "0" * 64)
  with pytest.raises(StorageError, match="checkpoints/5/state was written twice, and each time read back with other"):
    mirror.push_step(folder)
  assert mirror.steps("checkpoints") == []


def test_a_bucket_with_something_else_is_left_alone(url):
  mirror = Mirror.of(parse_url(url, "workdir"))
  mirror.store.write("thesis.tex", b"years of work")
  with pytest.raises(WorkdirError, match=r"holds thesis.tex but no config.json; name an empty folder"):
    run(url)
  assert mirror.store.list() == {"thesis.tex": 13}


def test_a_run_that_cannot_begin_leaves_no_trace(url):
  config = config_of()
  config.model.heads = "none"
  with pytest.raises(UserError), Interruption(exits.stop) as asked:
    train(config, Workdir(url), None, asked)
  assert Mirror.of(parse_url(url, "workdir")).store.list() == {}


def test_another_config_is_refused(url):
  assert run(url, num_steps=4) == 0
  forget_all()
  config = config_of(4)
  config.optimizer.learning_rate = 0.5
  with pytest.raises(WorkdirError, match=f"workdir {url} belongs to another config"), Interruption(exits.stop) as asked:
    train(config, Workdir(url), None, asked)


def test_reading_a_run_that_is_not_there(url):
  with pytest.raises(WorkdirError, match=f"workdir {url} does not exist; name a folder that experiments.train made"):
    gdm.load(url)


def test_files_are_fetched_written_and_sent(url):
  mirror = Mirror.of(parse_url(url, "workdir"))
  mirror.store.write("report.json", b"{}")
  forget_all()
  assert local_copy(f"{url}/report.json", "argument").read_bytes() == b"{}"
  out = local_copy(f"{url}/deep/out.npz", "--out")
  assert out.parent.is_dir() and not out.exists()
  out.write_bytes(b"123")
  push_all()
  assert mirror.store.list() == {"report.json": 2, "deep/out.npz": 3}
  sent = []
  mirror.store.guard = lambda: sent.append(1)
  push_all()
  assert not sent  # nothing has changed
  assert json.loads((local_copy(url, "argument") / "report.json").read_text()) == {}
