"""A terminal of 80 columns shows step, loss and time left, however long a run."""

import io
import re
import types

import pytest
import tqdm

from gdm.runs import progress
from gdm.runs.progress import Display


class Terminal(io.StringIO):
  def isatty(self):
    return True


@pytest.mark.parametrize(("total", "loss"), [(30, 1.5), (1_000_000, -123456.789)])
def test_what_is_seen_at_80_columns(monkeypatch, total, loss):
  terminal = Terminal()
  monkeypatch.setattr(progress, "tqdm", lambda **options: tqdm.tqdm(
      **{**options, "dynamic_ncols": False, "ncols": 80, "file": terminal, "mininterval": 0}))
  run = types.SimpleNamespace(last_loss=loss, progress=types.SimpleNamespace(best=lambda: "-88.1234 nats"))
  with Display(run, 0, total, 100) as display:
    display.show(total // 2)
    display.pause()
    display.show(total - 1)
  *_, last = terminal.getvalue().rstrip().split("\r")
  assert len(last) <= 80
  assert re.search(rf"{total - 1}/{total} \[\d+:\d+\], loss {loss:.6g}, (\d+ s|\d+m\d+s|\d+h\d+m) left", last), last
