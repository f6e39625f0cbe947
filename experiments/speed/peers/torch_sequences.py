"""PyTorch's side, as its users write it: `nn.LSTM` and the like, `scaled_dot_product_attention`, fused AdamW.

Run by the python of an environment of its own (`pip install torch==2.13.0`); nothing here imports it.
"""

import torch  # pyright: ignore[reportMissingImports]
from torch import nn  # pyright: ignore[reportMissingImports]
from torch.nn import functional as F  # pyright: ignore[reportMissingImports]

from experiments.speed.peers.protocol import TRAINING, Case, serve

HEADS = 4


class TorchRecurrent(nn.Module):
  """Time-major, which is the faster layout here."""

  def __init__(self, case: Case):
    super().__init__()
    self.embedding = nn.Embedding(case.levels + 1, case.width)
    layers = {"rnn": nn.RNN, "lstm": nn.LSTM, "gru": nn.GRU}
    self.layers = layers[case.model](case.width, case.width, case.num_layers)
    self.readout = nn.Linear(case.width, case.levels)

  def forward(self, previous):
    return self.readout(self.layers(self.embedding(previous.T))[0])


class TorchBlock(nn.Module):
  def __init__(self, width: int):
    super().__init__()
    self.norms = nn.ModuleList([nn.LayerNorm(width, bias=False) for _ in range(2)])
    self.qkv, self.out = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)
    self.expand, self.contract = nn.Linear(width, 4 * width, bias=False), nn.Linear(4 * width, width, bias=False)

  def forward(self, x):
    batch, steps, width = x.shape
    q, k, v = (part.view(batch, steps, HEADS, width // HEADS).transpose(1, 2)
               for part in self.qkv(self.norms[0](x)).split(width, dim=2))
    attended = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    x = x + self.out(attended.transpose(1, 2).reshape(batch, steps, width))
    return x + self.contract(F.gelu(self.expand(self.norms[1](x)), approximate="tanh"))


class TorchTransformer(nn.Module):
  """nanoGPT's arrangement without biases."""

  def __init__(self, case: Case):
    super().__init__()
    self.embedding = nn.Embedding(case.levels + 1, case.width)
    self.positions = nn.Parameter(0.02 * torch.randn(case.context, case.width))
    self.blocks = nn.ModuleList([TorchBlock(case.width) for _ in range(case.num_layers)])
    self.norm = nn.LayerNorm(case.width, bias=False)

  def forward(self, previous):
    x = self.embedding(previous) + self.positions
    for block in self.blocks:
      x = block(x)
    return self.norm(x) @ self.embedding.weight[:-1].T


def build(case: Case):
  torch.set_num_threads(case.threads)
  torch.manual_seed(0)
  recurrent = case.model != "transformer"
  model = (TorchRecurrent if recurrent else TorchTransformer)(case)
  optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
  x = torch.randint(0, case.levels, (case.batch, case.context))
  previous = F.pad(x, (1, 0), value=case.levels)[:, :-1]
  target = (x.T if recurrent else x).reshape(-1)

  def take(steps: int) -> None:
    for _ in range(steps):
      optimizer.zero_grad(set_to_none=True)
      F.cross_entropy(model(previous).flatten(0, 1), target).backward()
      optimizer.step()

  return sum(p.numel() for p in model.parameters()), {TRAINING: take}


if __name__ == "__main__":
  serve(build)
