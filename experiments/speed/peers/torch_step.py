"""What the sides of flows in PyTorch share: Adam's step, and log-density and sampling without gradients."""

from collections.abc import Callable

import torch  # pyright: ignore[reportMissingImports]

from experiments.speed.peers.protocol import DENSITY, SAMPLING, TRAINING, Case, Tasks

LEARNING_RATE = 1e-5  # on one batch again and again, so that nothing diverges


def start(case: Case) -> None:
  torch.set_num_threads(case.threads)
  torch.manual_seed(0)


def tasks(case: Case, module: torch.nn.Module, log_prob: Callable, sample: Callable) -> tuple[int, Tasks]:
  """The number of parameters and the tasks of a flow.

  Args:
    case: its batch is of random normals.
    module: holds the parameters.
    log_prob: of a batch [batch, dims].
    sample: a batch of a number.
  """
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

  params = sum(p.numel() for p in module.parameters() if p.requires_grad)
  return params, {TRAINING: train, DENSITY: density, SAMPLING: draw}
