"""What a kill at any moment, or a full disk, leaves of checkpoints and rows."""

import json
import logging
import resource
import signal
import sys
import time

import jax
import jax.numpy as jnp
import pytest

from gdm.errors import CheckpointError, WorkdirError
from gdm.training import checkpoint
from gdm.training.metrics import MetricsFile, read_metrics


def state(step):
  return {"x": jnp.full(3, step)}


def good_steps(directory):
  return [step for step in checkpoint.list_steps(directory) if checkpoint.find_fault(directory / str(step)) is None]


def test_the_last_good_step_stays_until_the_next_is_sealed(tmp_path):
  writer = checkpoint.Checkpointer(tmp_path / "c", keep=1)
  writer.save(1, state(1), {})
  writer.finish()
  writer.save(2, state(2), {})
  writer._manager.wait_until_finished()  # committed by Orbax, not yet sealed: a kill now must not leave nothing
  assert good_steps(tmp_path / "c") == [1]
  writer.finish()
  assert checkpoint.list_steps(tmp_path / "c") == good_steps(tmp_path / "c") == [2]
  writer.close()


def test_a_save_that_ended_is_sealed_by_a_poll(tmp_path):
  writer = checkpoint.Checkpointer(tmp_path / "c")
  writer.poll()  # nothing under way
  writer.save(1, state(1), {})
  writer._manager.wait_until_finished()
  assert good_steps(tmp_path / "c") == []
  writer.poll()  # begins; in the background, for digests of large files take long
  _until(lambda: good_steps(tmp_path / "c") == [1])
  _until(lambda: writer.poll() or not writer.is_busy)
  writer.close()


def test_a_save_is_sealed_after_the_one_it_names(tmp_path, monkeypatch):
  best = checkpoint.Checkpointer(tmp_path / "best")
  writer = checkpoint.Checkpointer(tmp_path / "c", after=best)
  sealed, seal = [], checkpoint.write_manifest
  monkeypatch.setattr(checkpoint, "write_manifest", lambda folder: (sealed.append(folder.parent.name), seal(folder)))
  best.save(1, state(1), {})
  writer.save(1, state(1), {})
  writer._manager.wait_until_finished()
  for _ in range(3):  # the best is not polled
    writer.poll()
  assert sealed == []
  _until(lambda: best.poll() or writer.poll() or not writer.is_busy)
  assert sealed == ["best", "c"]
  best.save(2, state(2), {})
  writer.save(2, state(2), {})
  writer.close()
  assert sealed == ["best", "c"] * 2
  best.close()


def _until(condition, seconds=20.0):
  end = time.monotonic() + seconds
  while not condition():
    assert time.monotonic() < end
    time.sleep(0.01)


@pytest.fixture
def echoes(monkeypatch):
  """Keep TensorStore's calls into a closed loop, which come some time after a failed read, from other tests."""
  monkeypatch.setattr(sys, "unraisablehook", lambda unraisable: None)
  yield
  time.sleep(0.5)


def test_a_save_whose_arrays_cannot_be_read_back_is_not_whole(tmp_path, monkeypatch, echoes):
  """As in a folder whose name Orbax takes for a pattern; the save before stays the newest good one."""
  monkeypatch.setattr(checkpoint, "require_usable", lambda directory: None)
  writer = checkpoint.Checkpointer(tmp_path / "lr[1e-3]")
  writer.save(1, state(1), {})
  with pytest.raises(CheckpointError, match=r"lr\[1e-3\]/1 was written, but cannot be read back: .*; what was saved"):
    writer.finish()
  assert good_steps(tmp_path / "lr[1e-3]") == []


@pytest.mark.parametrize("most_bytes", [1, 20, 1 << 28])
def test_every_array_is_read_back(tmp_path, most_bytes, echoes):
  leaves = {"a": jnp.arange(4.0), "b": {"c": jnp.zeros((2, 1), jnp.int8), "d": jnp.ones(3, jnp.bfloat16)},
            "e": jnp.zeros((), jnp.uint32)}
  writer = checkpoint.Checkpointer(tmp_path / "c")
  writer.save(1, leaves, {})
  writer.close()
  names = [name for group in checkpoint._in_groups(checkpoint.read_meta(tmp_path / "c", 1)["leaves"], most_bytes)
           for name in group]
  assert names == list(checkpoint.flatten(leaves))
  checkpoint.require_readable(tmp_path / "c", 1)
  largest = max((tmp_path / "c" / "1" / "state").rglob("d/*"), key=lambda path: path.stat().st_size)
  largest.write_bytes(largest.read_bytes()[:8])
  with pytest.raises(CheckpointError, match="cannot be read back"):
    checkpoint.require_readable(tmp_path / "c", 1)


def test_a_kill_while_a_step_is_deleted_leaves_no_half_of_it(tmp_path, monkeypatch):
  writer = checkpoint.Checkpointer(tmp_path / "c", keep=1)
  writer.save(1, state(1), {})
  writer.save(2, state(2), {})

  def killed(folder, ignore_errors):
    next(folder.glob("**/*.json")).unlink()
    raise OSError

  with monkeypatch.context() as patch:
    patch.setattr(checkpoint.shutil, "rmtree", killed)
    writer.close()
  assert checkpoint.list_steps(tmp_path / "c") == good_steps(tmp_path / "c") == [2]
  checkpoint.Checkpointer(tmp_path / "c").close()
  assert [entry.name for entry in (tmp_path / "c").iterdir()] == ["2"]


def test_what_the_disk_refuses_is_told_and_the_step_before_stays(tmp_path):
  noise = {"x": jax.random.normal(jax.random.key(0), (100_000,))}
  writer = checkpoint.Checkpointer(tmp_path / "c", keep=1)
  writer.save(1, noise, {})
  writer.finish()
  before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.getsignal(signal.SIGXFSZ)
  signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
  resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
  try:
    with pytest.raises(CheckpointError, match="c/2 cannot be written: File too large; what was saved before stays"):
      writer.save(2, noise, {})
      writer.finish()
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)
  assert good_steps(tmp_path / "c") == [1]


@pytest.mark.parametrize("contents", ["", "{", "[]", "{}", "\x00"])
def test_a_damaged_manifest_is_a_damaged_step(tmp_path, contents):
  writer = checkpoint.Checkpointer(tmp_path / "c")
  writer.save(1, state(1), {})
  writer.close()
  (tmp_path / "c" / "1" / checkpoint.MANIFEST).write_text(contents)
  with pytest.raises(CheckpointError, match="is damaged: its manifest is unreadable"):
    checkpoint.require_whole(tmp_path / "c", 1)


def test_a_kill_costs_no_row_but_the_one_it_cut(tmp_path, caplog):
  path = tmp_path / "metrics.jsonl"
  path.write_text('{"step": 1}\n{"step": 2}\n{"ste')
  assert read_metrics(path) == [{"step": 1}, {"step": 2}]
  assert caplog.text == ""
  with_new_row = MetricsFile(path, last_step=2)
  with_new_row.write({"step": 3})
  with_new_row.close()
  assert read_metrics(path) == [{"step": 1}, {"step": 2}, {"step": 3}]
  assert [entry.name for entry in tmp_path.iterdir()] == ["metrics.jsonl"]


@pytest.mark.parametrize("damage", [b"\xff\x00", b"{}", b"7", b'{"step": "two"}', b""])
def test_damaged_lines_are_named_and_the_file_is_kept(tmp_path, damage, caplog):
  path = tmp_path / "metrics.jsonl"
  contents = b'{"step": 1}\n' + damage + b'\n{"step": 3}\n'
  path.write_bytes(contents)
  with caplog.at_level(logging.WARNING):
    MetricsFile(path, last_step=5).close()
  assert "its lines 2 are passed over" in caplog.text
  assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [1, 3]
  assert (tmp_path / "metrics.jsonl.damaged").read_bytes() == contents


def test_a_folder_in_the_place_of_the_metrics_is_named(tmp_path):
  path = tmp_path / "metrics.jsonl"
  path.mkdir()
  for call in (lambda: MetricsFile(path, last_step=0), lambda: read_metrics(path)):
    with pytest.raises(WorkdirError, match=r"metrics\.jsonl cannot be read: Is a directory"):
      call()
