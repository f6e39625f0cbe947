"""PyTorch's side of variational autoencoders, as its users write them: `nn.Linear`, `nn.Conv2d` in channels_last,
`nn.ConvTranspose2d`, and fused AdamW.

The same layers as this project's. Run by the python of an environment of its own (`pip install torch==2.13.0`); nothing
here imports it.
"""

import torch  # pyright: ignore[reportMissingImports]
from torch import nn  # pyright: ignore[reportMissingImports]
from torch.nn import functional as F  # pyright: ignore[reportMissingImports]

from experiments.speed.peers.protocol import TRAINING, Case, serve

LATENTS, HIDDEN = 40, 256


def perceptron(inputs: int, case: Case, outputs: int) -> nn.Sequential:
  layers: list[nn.Module] = []
  for _ in range(case.num_layers):
    layers += [nn.Linear(inputs, case.width), nn.ReLU()]
    inputs = case.width
  return nn.Sequential(*layers, nn.Linear(inputs, outputs))


class MLPVAE(nn.Module):
  """Networks on flattened images."""

  def __init__(self, case: Case):
    super().__init__()
    dims = case.context**2
    self.encoder, self.decoder = perceptron(dims, case, 2 * LATENTS), perceptron(LATENTS, case, dims)

  def encode(self, x):
    return self.encoder(x.flatten(1))

  def decode(self, z):
    return self.decoder(z)


class ConvolutionalVAE(nn.Module):
  """3x3 convolutions, all but the first with a stride of 2, and transposed ones of 4x4 back."""

  def __init__(self, case: Case):
    super().__init__()
    widths = [case.width, *[2 * case.width] * (case.num_layers - 1)]
    sides = [-(-case.context // 2**i) for i in range(len(widths))]
    layers, inputs = [], 1
    for i, width in enumerate(widths):
      layers += [nn.Conv2d(inputs, width, 3, stride=1 + (i > 0), padding=1), nn.ReLU()]
      inputs = width
    flat = inputs * sides[-1]**2
    self.encoder = nn.Sequential(*layers, nn.Flatten(), nn.Linear(flat, HIDDEN), nn.ReLU(),
                                 nn.Linear(HIDDEN, 2 * LATENTS))
    self.hidden = nn.Sequential(nn.Linear(LATENTS, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, flat), nn.ReLU())
    self.sides, self.inputs = sides, inputs
    back = list(zip(widths[::-1], widths[-2::-1], strict=False))
    self.up = nn.ModuleList(nn.ConvTranspose2d(*pair, 4, stride=2, padding=1) for pair in back)
    self.last = nn.Conv2d(widths[0], 1, 3, padding=1)

  def encode(self, x):
    return self.encoder(x)

  def decode(self, z):
    h = self.hidden(z).view(-1, self.inputs, self.sides[-1], self.sides[-1])
    h = h.contiguous(memory_format=torch.channels_last)
    for i, layer in enumerate(self.up):
      side = self.sides[-2 - i]
      h = F.relu(layer(h)[:, :, :side, :side])
    return self.last(h).flatten(1)


MODELS = {"mlp": MLPVAE, "convolutional": ConvolutionalVAE}


def build(case: Case):
  torch.set_num_threads(case.threads)
  torch.manual_seed(0)
  model = MODELS[case.model](case).to(memory_format=torch.channels_last)
  optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
  x = torch.randint(0, case.levels, (case.batch, 1, case.context, case.context))

  def take(steps: int) -> None:
    for _ in range(steps):
      optimizer.zero_grad(set_to_none=True)
      mean, raw = model.encode(2.0 * x.float() - 1.0).chunk(2, dim=1)
      log_scale = F.softplus(raw + 8.0) - 8.0
      z = mean + log_scale.exp() * torch.randn_like(mean)
      reconstruction = F.binary_cross_entropy_with_logits(model.decode(z), x.flatten(1).float(), reduction="sum")
      kl = (0.5 * (mean**2 + (2.0 * log_scale).exp() - 1.0) - log_scale).sum()
      ((reconstruction + kl) / case.batch).backward()
      optimizer.step()

  return sum(p.numel() for p in model.parameters()), {TRAINING: take}


if __name__ == "__main__":
  serve(build)
