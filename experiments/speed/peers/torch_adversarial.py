"""PyTorch's side of adversarial models, as its users write them: channels_last, and fused Adam.

The same layers as this project's; a case's layers are the critic's steps. Run by the python of an environment of its
own (`pip install torch==2.13.0`); nothing here imports it.
"""

import torch  # pyright: ignore[reportMissingImports]
from torch import nn  # pyright: ignore[reportMissingImports]
from torch.nn import functional as F  # pyright: ignore[reportMissingImports]

from experiments.speed.peers.protocol import TRAINING, Case, serve

LATENTS, SMALLEST, PENALTY = 64, 7, 10.0


def sides_and_widths(case: Case) -> tuple[list[int], list[int]]:
  sides = [case.context]
  while sides[-1] > SMALLEST:
    sides.append(-(-sides[-1] // 2))
  return sides, [case.width * 2**i for i in range(len(sides))]


class Generator(nn.Module):
  """A linear layer to a small image, and transposed convolutions of 4x4, all with batch normalization."""

  def __init__(self, case: Case):
    super().__init__()
    self.sides, self.widths = sides_and_widths(case)
    smallest, width = self.sides[-1], self.widths[-1]
    self.image = nn.Linear(LATENTS, smallest**2 * width)
    self.first = nn.BatchNorm2d(width)
    pairs = list(zip(self.widths[:0:-1], self.widths[-2::-1], strict=True))
    self.up = nn.ModuleList(nn.ConvTranspose2d(*pair, 4, stride=2, padding=1) for pair in pairs)
    self.norms = nn.ModuleList(nn.BatchNorm2d(pair[1]) for pair in pairs)
    self.last = nn.Conv2d(case.width, 1, 3, padding=1)

  def forward(self, z):
    h = self.image(z).view(-1, self.widths[-1], self.sides[-1], self.sides[-1])
    h = F.relu(self.first(h.contiguous(memory_format=torch.channels_last)))
    for i, (up, norm) in enumerate(zip(self.up, self.norms, strict=True)):
      side = self.sides[-2 - i]
      h = F.relu(norm(up(h)[:, :, :side, :side]))
    return torch.tanh(self.last(h))


def critic(case: Case) -> nn.Module:
  """3x3 convolutions, all but the first with a stride of 2 and a normalization."""
  sides, widths = sides_and_widths(case)
  layers, inputs = [], 1
  for i, width in enumerate(widths):
    layers.append(nn.Conv2d(inputs, width, 3, stride=1 + (i > 0), padding=1))
    if i:
      layers.append(nn.BatchNorm2d(width) if case.model == "dcgan" else nn.GroupNorm(1, width))
    layers.append(nn.LeakyReLU(0.2))
    inputs = width
  return nn.Sequential(*layers, nn.Flatten(), nn.Linear(inputs * sides[-1]**2, 1))


def penalty(score: nn.Module, real, fake):
  weight = torch.rand(len(real), 1, 1, 1)
  between = (weight * real + (1.0 - weight) * fake).requires_grad_()
  gradient, = torch.autograd.grad(score(between).sum(), between, create_graph=True)
  return PENALTY * ((gradient.flatten(1).norm(dim=1) - 1.0) ** 2).mean()


def build(case: Case):
  torch.set_num_threads(case.threads)
  torch.manual_seed(0)
  make, score = (module.to(memory_format=torch.channels_last) for module in (Generator(case), critic(case)))
  makes, scores = (torch.optim.Adam(module.parameters(), lr=2e-4, betas=(0.5, 0.999), fused=True)
                   for module in (make, score))
  x = torch.randint(0, case.levels, (case.batch, 1, case.context, case.context))

  def noise():
    return torch.randn(case.batch, LATENTS)

  def take(steps: int) -> None:
    for _ in range(steps):
      for _ in range(case.num_layers):
        scores.zero_grad(set_to_none=True)
        real = 2.0 * (x.float() + torch.rand(x.shape)) / case.levels - 1.0
        fake = make(noise()).detach()
        of_real, of_fake = score(real), score(fake)
        loss = (F.softplus(-of_real) + F.softplus(of_fake)).mean() if case.model == "dcgan" else (
            (of_fake - of_real).mean() + penalty(score, real, fake))
        loss.backward()
        scores.step()
      makes.zero_grad(set_to_none=True)
      of_fake = score(make(noise()))
      (F.softplus(-of_fake) if case.model == "dcgan" else -of_fake).mean().backward()
      makes.step()

  params = sum(p.numel() for module in (make, score) for p in module.parameters())
  return params, {TRAINING: take}


if __name__ == "__main__":
  serve(build)
