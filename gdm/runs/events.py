"""Scalars for TensorBoard, written at once.

tensorboardX's own SummaryWriter hands events to a thread; when the disk is full that thread dies and the next event
waits for it forever. It also starts a file of the same second anew, and a kill loses two minutes.
"""

import socket
import time
from collections.abc import Mapping
from pathlib import Path

# protobuf makes these names at run time, where no type checker sees them
from tensorboardX.proto.event_pb2 import Event, SessionLog  # pyright: ignore[reportAttributeAccessIssue]
from tensorboardX.proto.summary_pb2 import Summary  # pyright: ignore[reportAttributeAccessIssue]
from tensorboardX.record_writer import RecordWriter


class Events:
  """One event file; TensorBoard reads all files of a folder as one run, in the order of their names."""

  def __init__(self, folder: Path, first_step: int):
    """Open a new file whose rows begin at `first_step`: what older files hold from there on is shown no more."""
    folder.mkdir(parents=True, exist_ok=True)
    name = f"events.out.tfevents.{int(time.time()):010d}.{socket.gethostname()}.{len(list(folder.iterdir())):04d}"
    self._file = RecordWriter(str(folder / name))
    self._write(file_version="brain.Event:2")
    self._write(step=first_step, session_log=SessionLog(status=SessionLog.START))

  def write(self, step: int, row: Mapping[str, float]) -> None:
    """Write a row of scalars, name -> value."""
    self._write(step=step, summary=Summary(value=[Summary.Value(tag=name, simple_value=value)
                                                  for name, value in row.items()]))

  def close(self) -> None:
    self._file.close()

  def _write(self, **fields) -> None:
    self._file.write(Event(wall_time=time.time(), **fields).SerializeToString())
    self._file.flush()
