"""Scalars, settings and pictures for TensorBoard, written at once.

tensorboardX's own SummaryWriter hands events to a thread; when the disk is full that thread dies and the next event
waits for it forever. It also starts a file of the same second anew, and a kill loses two minutes.
"""

import json
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image
from tensorboardX import summary

# protobuf makes these names at run time, where no type checker sees them
from tensorboardX.proto.event_pb2 import Event, SessionLog  # pyright: ignore[reportAttributeAccessIssue]
from tensorboardX.proto.summary_pb2 import Summary  # pyright: ignore[reportAttributeAccessIssue]
from tensorboardX.record_writer import RecordWriter


class Events:
  """One event file; TensorBoard reads all files of a folder as one run, in the order of their names."""

  def __init__(self, folder: Path, first_step: int | None = None):
    """Open a new file.

    Args:
      folder: of the run's files.
      first_step: where its rows begin: what older files hold from there on is shown no more; None leaves all.
    """
    folder.mkdir(parents=True, exist_ok=True)
    name = f"events.out.tfevents.{int(time.time()):010d}.{socket.gethostname()}.{len(list(folder.iterdir())):04d}"
    self._file = RecordWriter(str(folder / name))
    self._write(file_version="brain.Event:2")
    if first_step is not None:
      self._write(step=first_step, session_log=SessionLog(status=SessionLog.START))

  def write(self, step: int, row: Mapping[str, float]) -> None:
    """Write a row of scalars, name -> value."""
    self._write(step=step, summary=Summary(value=[Summary.Value(tag=name, simple_value=value)
                                                  for name, value in row.items()]))

  def settings(self, fields: Mapping[str, Any], metrics: Mapping[str, float]) -> None:
    """Write a run's settings, dotted field -> value, as hyperparameters and as text.

    `metrics` are the names of the scalars that hyperparameters are shown beside.
    """
    values = {name: value if isinstance(value, bool | int | float | str) else str(value)
              for name, value in fields.items()}
    for each in summary.hparams(values, dict(metrics)):
      self._write(summary=Summary.FromString(each.SerializeToString()))
    lines = "\n".join(f"    {line}" for line in json.dumps(values, indent=2).splitlines())  # as code, in markdown
    self._write(summary=Summary.FromString(summary.text("config", lines).SerializeToString()))

  def picture(self, step: int, path: Path) -> None:
    """Write a PNG file as an image named after it."""
    with Image.open(path) as image:
      width, height = image.size
    image = Summary.Image(height=height, width=width, colorspace=3, encoded_image_string=path.read_bytes())
    self._write(step=step, summary=Summary(value=[Summary.Value(tag=path.stem, image=image)]))

  def close(self) -> None:
    self._file.close()

  def _write(self, **fields) -> None:
    self._file.write(Event(wall_time=time.time(), **fields).SerializeToString())
    self._file.flush()
