"""Claims of a folder where files cannot be locked, as on Lustre or on NFS without its lock service."""

import errno
import json
import os

import pytest

from gdm.errors import WorkdirError
from gdm.runs import claims
from gdm.runs.claims import CONFIG, LEASES, LOCK, locked_folder


@pytest.fixture
def without_locks(monkeypatch):
  def refuse(number):
    def flock(file, operation):
      raise OSError(number, os.strerror(number))

    monkeypatch.setattr(claims.fcntl, "flock", flock)

  monkeypatch.setenv("GDM_LEASE_SECONDS", "6")
  return refuse


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_lease_is_taken_where_there_are_no_locks(tmp_path, without_locks, caplog, number):
  without_locks(number)
  place = tmp_path / "run"
  with caplog.at_level("WARNING", "gdm"), locked_folder(place):
    assert f"({os.strerror(number)}); a lease is taken in its place" in caplog.text
    with pytest.raises(WorkdirError, match="is in use by another process"), locked_folder(place):
      pass
    (place / CONFIG).write_text(json.dumps({}))
  with locked_folder(place):  # given back: free at once
    assert os.listdir(place / LEASES / "lease") == ["00000002.json"]


def test_of_a_claim_that_came_to_nothing_nothing_is_left(tmp_path, without_locks):
  without_locks(errno.ENOLCK)
  with locked_folder(tmp_path / "run"):
    assert (tmp_path / "run" / LOCK).exists()
  assert not (tmp_path / "run").exists()


def test_another_failure_of_a_lock_is_one_line(tmp_path, without_locks):
  without_locks(errno.EIO)
  with pytest.raises(WorkdirError, match="cannot be locked: Input/output error"), locked_folder(tmp_path / "run"):
    pass
