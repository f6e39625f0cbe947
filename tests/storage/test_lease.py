"""Leases: one holder at a time, whatever happens to it."""

import json
import subprocess
import sys
import threading

import pytest

from gdm.errors import WorkdirError
from gdm.storage.lease import FOLDER, Lease, LocalObjects, _machine, _started
from gdm.storage.store import Store
from gdm.storage.urls import parse_url


@pytest.fixture(params=["files", "bucket"])
def objects(request, tmp_path):
  if request.param == "files":
    return LocalObjects(tmp_path / "place")
  return Store(parse_url(f"memory://lease/{tmp_path.name}", "workdir"))


@pytest.fixture(autouse=True)
def short(monkeypatch):
  monkeypatch.setenv("GDM_LEASE_SECONDS", "0.6")


_leases = []


@pytest.fixture(autouse=True)
def released():
  yield
  while _leases:
    _leases.pop().release()


def lease(objects, lost=lambda line: None):
  _leases.append(Lease(objects, "workdir there", lost))
  return _leases[-1]


def record_of(objects):
  return json.loads(objects.read(max(objects.list(FOLDER))))


def rewrite(objects, **changes):
  name = max(objects.list(FOLDER))
  objects.write(name, json.dumps({**json.loads(objects.read(name)), **changes}).encode())


def test_a_living_holder_is_not_disturbed(objects, monkeypatch):
  monkeypatch.setenv("GDM_LEASE_SECONDS", "6")  # of which a busy machine may take a while to renew it
  holder = lease(objects)
  holder.take()
  with pytest.raises(WorkdirError, match=r"workdir there is in use by another process, process \d+ on "):
    lease(objects).take()
  holder.require()
  holder.release()


def test_what_was_given_back_is_free_at_once(objects, capsys):
  for number in range(1, 4):
    holder = lease(objects)
    holder.take()
    assert sorted(objects.list(FOLDER)) == [f"lease/{number:08d}.json"]
    holder.release()
  assert "watching" not in capsys.readouterr().out
  holder = lease(objects)
  holder.take()
  holder.forget()
  assert not objects.list(FOLDER)


def test_a_dead_holder_of_this_machine_is_known_at_once(objects, capsys):
  holder = lease(objects)
  holder.take()
  dead = subprocess.Popen([sys.executable, "-c", ""])
  dead.wait()
  holder._ending.set()
  rewrite(objects, pid=dead.pid, started="1")
  lease(objects).take()
  assert "watching" not in capsys.readouterr().out


def test_a_holder_elsewhere_that_does_not_renew_loses_it(objects, capsys, caplog):
  lines = []
  sleeper = lease(objects, lines.append)
  sleeper.take()
  sleeper._ending.set()  # as a process that is stopped
  rewrite(objects, machine="another")
  with caplog.at_level("WARNING", "gdm"):
    follower = lease(objects)
    follower.take()
  assert "watching for 0.6 s" in capsys.readouterr().out and "expired, it is taken over" in caplog.text
  sleeper._ending.clear()  # it wakes
  sleeper._renewed -= 10.0
  sleeper.require()
  assert len(lines) == 1 and "was taken over by another process" in lines[0]
  follower.require()
  follower.release()


def test_of_many_that_come_at_once_one_gets_it(objects):
  first = lease(objects)
  first.take()
  first.release()
  got, refused = [], []

  def come():
    one = lease(objects)
    try:
      one.take()
      got.append(one)
    except WorkdirError as error:
      refused.append(error)

  threads = [threading.Thread(target=come) for _ in range(8)]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  assert len(got) == 1 and len(refused) == 7
  got[0].release()


def test_a_record_that_is_being_written_does_not_confuse(objects):
  holder = lease(objects)
  holder.take()
  holder._ending.set()
  objects.write(max(objects.list(FOLDER)), b'{"owner": "ab')
  lease(objects).take()  # after watching it for the lease's time


def test_processes_are_told_apart_by_their_start():
  import os
  assert _machine() and _started(os.getpid()) and _started(os.getpid()) != _started(1)
  assert not _started(2**22 + 1)
