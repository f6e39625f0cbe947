"""Display of a run's progress: a bar on a terminal, a line now and then elsewhere."""

import time
from collections.abc import Callable

from tqdm import tqdm

from gdm.runs.run import Run
from gdm.training.summary import quantity


class Display:
  """Shows loss, speed and the time left of a run of `total` steps; of a fit without steps (None), its iterations.

  Args:
    run: the run, for its loss and best validation.
    start: the step it begins at.
    total: the step it ends at.
    batch_size: examples per step, over all its minibatches.
    utilization: the fraction of the devices' peak at so many steps/s; None where it is unknown.
  """

  def __init__(self, run: Run, start: int = 0, total: int | None = None, batch_size: int = 0,
               utilization: Callable[[float], float | None] = lambda rate: None):
    self._run, self._total, self._batch_size, self._utilization = run, total, batch_size, utilization
    unit, delay = (" iterations", 0.01) if total is None else (" steps", 0.0)  # a closed form has no iterations
    # Our own speed in place of tqdm's, which counts validations and saves as training.
    layout = "{percentage:3.0f}% |{bar:10}| {n_fmt}/{total_fmt} [{elapsed}]{postfix}" if total else None
    self._bar = tqdm(total=total, initial=start, unit=unit, disable=None, dynamic_ncols=True, delay=delay,
                     bar_format=layout)
    self._step, self._since, self._rate = start, time.monotonic(), 0.0

  def __enter__(self) -> "Display":
    return self

  def __exit__(self, *_: object) -> None:
    self._bar.close()

  def pause(self) -> None:
    """Start the clock anew: what was done since the last step shown is no training."""
    self._since = time.monotonic()

  def show(self, step: int) -> None:
    """Show that `step` is done."""
    words = [f"loss {self._run.last_loss:.6g}"]
    if self._total is not None:
      pace, left = self._pace(step)
      # A terminal cuts at its width: of 80 columns step, loss and time left are seen.
      words += [*pace, left] if self._bar.disable else [left, *pace]
    if best := self._run.progress.best():
      words.append(f"best valid {best}")
    if not self._bar.disable:
      self._bar.set_postfix_str(", ".join(words), refresh=False)
      self._bar.update(step - self._bar.n)
    elif self._total is not None or step % 10 == 0:  # EM has a row for each iteration
      print(f"step {step}{f'/{self._total}' if self._total else ''}: {', '.join(words)}", flush=True)

  def _pace(self, step: int) -> tuple[list[str], str]:
    """Return speed and utilization, and time left."""
    assert self._total is not None
    now = time.monotonic()
    latest = (step - self._step) / max(now - self._since, 1e-9)
    self._rate = latest if not self._rate else 0.5 * (self._rate + latest)
    self._step, self._since = step, now
    words = [f"{quantity(latest)}steps/s", f"{quantity(latest * self._batch_size)}examples/s"]
    if (fraction := self._utilization(latest)) is not None:
      words.append(f"MFU {100 * fraction:.1f} %")
    return words, f"{duration((self._total - step) / self._rate)} left"


def duration(seconds: int | float) -> str:
  """59 s, 1m40s, 2h03m."""
  seconds = round(seconds)
  if seconds < 60:
    return f"{seconds} s"
  minutes, seconds = divmod(seconds, 60)
  return f"{minutes}m{seconds:02d}s" if minutes < 60 else f"{minutes // 60}h{minutes % 60:02d}m"
