"""Music as a picture: pitch against time, a colour for each voice, pale where it was given."""

import os
from collections.abc import Mapping, Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from gdm.errors import SpecError
from gdm.visualization.figures import FAINT, INK, save_figure

# (start and stop in steps, pitch, voice, whether it was given)
Bar = tuple[int, int, int, int, bool]

NAMES = ("C", "C♯", "D", "E♭", "E", "F", "F♯", "G", "A♭", "A", "B♭", "B")
_ALPHA = 0.35  # of what was given


def pitch_name(pitch: int) -> str:
  """Return the name of a MIDI pitch: 60 is C4."""
  return f"{NAMES[pitch % 12]}{pitch // 12 - 1}"


def save_score(path: str | os.PathLike, pieces: Mapping[str, Sequence[Bar]], *, steps_per_quarter: int,
               quarters_per_bar: int = 4) -> None:
  """Write pieces below each other under their titles.

  Args:
    path: the file.
    pieces: title -> notes, each (start, stop, pitch, voice, given).
    steps_per_quarter: steps of a quarter note.
    quarters_per_bar: quarter notes between two lines.

  Raise SpecError where there are no pieces, WorkdirError where the file cannot be written.
  """
  if not pieces:
    raise SpecError("no music to draw; at least one piece is needed.")
  every = [note for notes in pieces.values() for note in notes]
  end = max((note[1] for note in every), default=1)
  low, high = min((note[2] for note in every), default=60) - 1, max((note[2] for note in every), default=60) + 1
  width = min(14.0, 2.0 + 0.12 * end)
  figure = Figure(figsize=(width, 0.4 + len(pieces) * (0.6 + 0.055 * (high - low))), dpi=100, layout="constrained")
  colours = mpl.color_sequences["tab10"]
  for axes, (title, notes) in zip(figure.subplots(len(pieces), 1, squeeze=False, sharex=True)[:, 0], pieces.items(),
                                  strict=True):
    for start, stop, pitch, voice, given in notes:
      axes.broken_barh([(start + 0.05, stop - start - 0.1)], (pitch - 0.42, 0.84), color=colours[voice % 10],
                       alpha=_ALPHA if given else 1.0, linewidth=0)
    axes.set_title(title, loc="left", fontsize=9, color=INK)
    axes.set_ylim(low, high)
    axes.set_xlim(0, end)
    octaves = [pitch for pitch in range(low, high + 1) if pitch % 12 == 0]
    axes.set_yticks(octaves, [pitch_name(pitch) for pitch in octaves], fontsize=8)
    bar = steps_per_quarter * quarters_per_bar
    axes.set_xticks(np.arange(0, end + 1, bar), np.arange(0, end + 1, bar) // bar + 1, fontsize=7)
    axes.grid(color=FAINT, linewidth=0.5)
    axes.set_axisbelow(True)
  figure.supxlabel("bar", fontsize=9, color=INK)
  save_figure(path, figure, dpi=100)
