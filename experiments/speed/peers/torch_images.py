"""PyTorch's side, as its users write it: `nn.Conv2d` with masked weights, in channels_last, and fused AdamW.

The same layers as this project's, with the values' thermometer codes as inputs. Run by the python of an environment of
its own (`pip install torch==2.13.0`); nothing here imports it.
"""

import torch  # pyright: ignore[reportMissingImports]
from torch import nn  # pyright: ignore[reportMissingImports]
from torch.nn import functional as F  # pyright: ignore[reportMissingImports]

from experiments.speed.peers.protocol import TRAINING, Case, serve

FIRST, KERNEL = 7, 3
MAX_RAMPS = 16


class MaskedConv2d(nn.Conv2d):
  """Sees what comes before its centre in raster order, and with mask B the centre."""

  def __init__(self, inputs: int, outputs: int, size: int, mask: str):
    super().__init__(inputs, outputs, size, padding=size // 2)
    kept = torch.zeros(size, size)
    kept[:size // 2] = 1.0
    kept[size // 2, :size // 2 + (mask == "B")] = 1.0
    self.register_buffer("mask", kept)

  def forward(self, x):
    return F.conv2d(x, self.weight * self.mask, self.bias, padding=self.padding)


class TorchResidual(nn.Module):
  def __init__(self, width: int):
    super().__init__()
    self.narrow, self.widen = nn.Conv2d(2 * width, width, 1), nn.Conv2d(width, 2 * width, 1)
    self.convolution = MaskedConv2d(width, width, KERNEL, "B")

  def forward(self, x):
    return x + self.widen(F.relu(self.convolution(F.relu(self.narrow(F.relu(x))))))


class TorchPixelCNN(nn.Module):
  def __init__(self, case: Case, inputs: int):
    super().__init__()
    self.first = MaskedConv2d(inputs, 2 * case.width, FIRST, "A")
    self.blocks = nn.Sequential(*(TorchResidual(case.width) for _ in range(case.num_layers)))
    self.hidden = nn.Conv2d(2 * case.width, 2 * case.width, 1)
    self.readout = nn.Conv2d(2 * case.width, case.levels, 1)

  def forward(self, codes):
    x = self.blocks(self.first(codes))
    return self.readout(F.relu(self.hidden(F.relu(x))))


def gate(x):
  a, b = x.chunk(2, dim=1)
  return torch.tanh(a) * torch.sigmoid(b)


class TorchGatedLayer(nn.Module):
  """Convolutions of the size of what they see: the rows above by padding at the top, what is left by padding there."""

  def __init__(self, inputs: int, case: Case, size: int, is_first: bool, is_last: bool):
    super().__init__()
    width, reach = case.width, size // 2
    self.is_first, self.is_last, self.reach = is_first, is_last, reach
    self.vertical = nn.Conv2d(inputs, 2 * width, (reach if is_first else reach + 1, size))
    self.across = nn.Conv2d(2 * width, 2 * width, 1, bias=False)
    self.horizontal = nn.Conv2d(inputs, 2 * width, (1, reach if is_first else reach + 1))
    self.to_skip = nn.Conv2d(width, 2 * width, 1)
    self.to_residual = None if is_last else nn.Conv2d(width, width, 1)

  def forward(self, v, x):
    reach = self.reach
    down = self.vertical(F.pad(v, (reach, reach, reach, 0)))
    left = self.horizontal(F.pad(x, (reach, 0, 0, 0)))
    if self.is_first:  # neither sees its own row, nor its own pixel
      down, left = down[:, :, :-1], left[..., :-1]
    z = gate(left + self.across(down))
    added = z if self.to_residual is None else self.to_residual(z)
    return gate(down), added if self.is_first or self.is_last else x + added, self.to_skip(z)


class TorchGatedPixelCNN(nn.Module):
  def __init__(self, case: Case, inputs: int):
    super().__init__()
    middle, last = case.num_layers - 2, TorchGatedLayer(case.width, case, KERNEL, False, True)
    between = [TorchGatedLayer(case.width, case, KERNEL, False, False) for _ in range(middle)]
    self.layers = nn.ModuleList([TorchGatedLayer(inputs, case, FIRST, True, False), *between, last])
    self.hidden = nn.Conv2d(2 * case.width, 2 * case.width, 1)
    self.readout = nn.Conv2d(2 * case.width, case.levels, 1)

  def forward(self, codes):
    v, x, total = codes, codes, 0.0
    for layer in self.layers:
      v, x, skip = layer(v, x)
      total = total + skip
    return self.readout(F.relu(self.hidden(F.relu(total))))


MODELS = {"pixelcnn": TorchPixelCNN, "gated_pixelcnn": TorchGatedPixelCNN}


def build(case: Case):
  torch.set_num_threads(case.threads)
  torch.manual_seed(0)
  ramps = min(case.levels - 1, MAX_RAMPS)
  marks = torch.linspace(0.0, case.levels - 1.0, ramps + 1)
  model = MODELS[case.model](case, ramps + 1).to(memory_format=torch.channels_last)
  optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
  x = torch.randint(0, case.levels, (case.batch, case.context, case.context))

  def codes():
    rising = ((x[..., None].float() - marks[:-1]) / (marks[1] - marks[0])).clamp(0.0, 1.0)
    both = torch.cat([rising, torch.ones_like(rising[..., :1])], dim=-1)
    return both.permute(0, 3, 1, 2)  # channels last in memory

  def take(steps: int) -> None:
    for _ in range(steps):
      optimizer.zero_grad(set_to_none=True)
      F.cross_entropy(model(codes()), x).backward()
      optimizer.step()

  return sum(p.numel() for p in model.parameters()), {TRAINING: take}


if __name__ == "__main__":
  serve(build)
