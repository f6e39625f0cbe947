"""Steps of flows in PyTorch: Adam's step, and log-density and sampling without gradients.

Small as these networks are, all threads are seldom quicker than one, and on a busy machine they wait for each other a
hundred times as long as they compute. So all tasks run in what suits training.
"""

import time
from collections.abc import Callable

import torch  # pyright: ignore[reportMissingImports]

from experiments.speed.peers.protocol import DENSITY, SAMPLING, TRAINING, Case, Tasks

TRIALS = 5
LEARNING_RATE = 1e-5  # on one batch again and again, so that nothing diverges


def choose_threads(train: Callable[[int], None], threads: int) -> None:
  """Set one thread or all, whichever takes less for some training steps in turns: their sum, for waits count too."""
  taken = {1: 0.0, threads: 0.0}
  for _ in range(TRIALS):
    for number in taken:
      torch.set_num_threads(number)
      start = time.perf_counter()
      train(1)
      taken[number] += time.perf_counter() - start
  torch.set_num_threads(min(taken, key=lambda number: taken[number]))


def tasks(case: Case, module: torch.nn.Module, log_prob: Callable, sample: Callable) -> tuple[int, Tasks]:
  """Return the number of parameters and the tasks of a flow.

  Args:
    case: its batch is of random normals.
    module: holds the parameters.
    log_prob: of a batch [batch, dims].
    sample: a batch of a number.
  """
  calls = 0
  torch.set_num_threads(1)
  torch.manual_seed(0)
  optimizer = torch.optim.Adam(module.parameters(), lr=LEARNING_RATE, fused=True)
  x = torch.randn(case.batch, case.context)

  def train(steps: int) -> None:
    for _ in range(steps):
      optimizer.zero_grad(set_to_none=True)
      (-log_prob(x).mean()).backward()
      optimizer.step()

  def density(steps: int) -> None:
    with torch.no_grad():
      for _ in range(steps):
        log_prob(x)

  def draw(steps: int) -> None:
    with torch.no_grad():
      for _ in range(steps):
        sample(case.batch)

  def tuned(steps: int) -> None:
    nonlocal calls
    calls += 1
    if calls == 2:  # after the step whose time to the first is told
      choose_threads(train, case.threads)
    train(steps)

  params = sum(p.numel() for p in module.parameters() if p.requires_grad)
  return params, {TRAINING: tuned, DENSITY: density, SAMPLING: draw}
