"""PyTorch's side of classifiers, as its users write them: channels_last, and fused AdamW.

The same layers as this project's `Convolutional` with its defaults; a case's layers are the stages. Run by the python
of an environment of its own (`pip install torch==2.13.0`); nothing here imports it.
"""

import torch  # pyright: ignore[reportMissingImports]
from torch import nn  # pyright: ignore[reportMissingImports]
from torch.nn import functional as F  # pyright: ignore[reportMissingImports]

from experiments.speed.peers.protocol import TRAINING, Case, serve

CLASSES, HIDDEN, DROPOUT = 10, 128, 0.3


def classifier(case: Case) -> nn.Module:
  """Stages of a 3x3 convolution, the largest of 2x2 pixels, batch normalization; then a hidden layer."""
  layers, inputs, side = [], 1, case.context
  for i in range(case.num_layers):
    width = case.width * 2**i
    layers += [nn.Conv2d(inputs, width, 3, padding=1), nn.MaxPool2d(2, ceil_mode=True), nn.BatchNorm2d(width),
               nn.ReLU()]
    inputs, side = width, -(-side // 2)
  return nn.Sequential(*layers, nn.Flatten(), nn.Dropout(DROPOUT), nn.Linear(inputs * side**2, HIDDEN, bias=False),
                       nn.BatchNorm1d(HIDDEN), nn.ReLU(), nn.Dropout(DROPOUT), nn.Linear(HIDDEN, CLASSES))


def build(case: Case):
  torch.set_num_threads(case.threads)
  torch.manual_seed(0)
  model = classifier(case).to(memory_format=torch.channels_last).train()
  optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, fused=True)
  x = torch.randint(0, case.levels, (case.batch, 1, case.context, case.context))
  y = torch.randint(0, CLASSES, (case.batch,))

  def take(steps: int) -> None:
    for _ in range(steps):
      optimizer.zero_grad(set_to_none=True)
      F.cross_entropy(model(2.0 * x.float() / (case.levels - 1) - 1.0), y).backward()
      optimizer.step()

  return sum(p.numel() for p in model.parameters()), {TRAINING: take}


if __name__ == "__main__":
  serve(build)
