"""PyTorch's side of energies, as its users write it: chains by `autograd.grad` of the summed energy, fused AdamW.

Run by the python of an environment of its own (`pip install torch==2.13.0`); nothing here imports it. Weights ask for
no gradient while the chains walk, steps are made in place, and data and chains share one pass of the network.
"""

import itertools
import math

import torch  # pyright: ignore[reportMissingImports]
from torch import nn  # pyright: ignore[reportMissingImports]

from experiments.speed.peers.energy_case import (
  CHAIN_SHARDS,
  CHAINS_PER_SHARD,
  LEARNING_RATE,
  NOISE,
  NUM_STEPS,
  PENALTY,
  RESTART,
  STEP_SIZE,
  hidden,
)
from experiments.speed.peers.protocol import TRAINING, Case, serve
from experiments.speed.peers.torch_step import choose_threads


def perceptron(case: Case) -> nn.Module:
  sizes = (case.context, *hidden(case.model, case.num_layers, case.width))
  layers = [layer for pair in itertools.pairwise(sizes) for layer in (nn.Linear(*pair), nn.SiLU())]
  return nn.Sequential(*layers, nn.Linear(sizes[-1], 1))


def convolutions(case: Case) -> nn.Module:
  channels = (1, *hidden(case.model, case.num_layers, case.width))
  layers, side = [], case.context
  for i, pair in enumerate(itertools.pairwise(channels)):
    layers += [nn.Conv2d(*pair, 3, stride=1 + (i > 0), padding=1), nn.SiLU()]
    side = side if i == 0 else -(-side // 2)
  return nn.Sequential(*layers, nn.Flatten(), nn.Linear(side**2 * channels[-1], 1))


NETWORKS = {"mlp": perceptron, "convolutional": convolutions}


def build(case: Case):
  torch.set_num_threads(1)
  torch.manual_seed(0)
  event = (case.context,) if case.model == "mlp" else (1, case.context, case.context)
  network = NETWORKS[case.model](case)
  optimizer = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, fused=True)
  x = torch.randint(0, case.levels, (case.batch, *event)).float() if case.levels else torch.randn(case.batch, *event)
  axes = (0, 1, 2, 3) if case.levels else (0,)
  centre, scale = x.mean(axes), x.std(axes)
  u = (x - centre) / scale
  mean, deviation, low, high = u.mean(0), u.std(0), u.min().item(), u.max().item()
  drift, diffusion = STEP_SIZE * deviation**2, math.sqrt(2.0 * STEP_SIZE) * NOISE * deviation
  chains = torch.randn(CHAIN_SHARDS * CHAINS_PER_SHARD, *event)
  calls = 0

  def energy(u):
    return network(u).squeeze(1) + 0.5 * u.flatten(1).square().sum(1)

  def walk(state):
    network.requires_grad_(False)
    state.requires_grad_(True)
    for _ in range(NUM_STEPS):
      gradient, = torch.autograd.grad(energy(state).sum(), state)
      with torch.no_grad():
        state.addcmul_(gradient, drift, value=-1.0).addcmul_(torch.randn_like(state), diffusion)
    network.requires_grad_(True)
    return state.detach()

  def step() -> None:
    real = x + torch.rand_like(x) if case.levels else x
    picked = torch.randperm(len(chains))[:case.batch]
    fresh = (mean + deviation * torch.randn(case.batch, *event)).clamp_(low, high)
    anew = (torch.rand(case.batch) < RESTART).view(-1, *(1 for _ in event))
    moved = walk(torch.where(anew, fresh, chains[picked]))
    energies = energy(torch.cat([(real - centre) / scale, moved]))
    of_data, of_chains = energies.split(case.batch)
    loss = of_data.mean() - of_chains.mean() + PENALTY * (of_data.square().mean() + of_chains.square().mean())
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    chains[picked] = moved

  def train(steps: int) -> None:
    for _ in range(steps):
      step()

  def tuned(steps: int) -> None:
    nonlocal calls
    calls += 1
    if calls == 2:  # after the step whose time to the first is told
      choose_threads(train, case.threads)
    train(steps)

  return sum(p.numel() for p in network.parameters()), {TRAINING: tuned}


if __name__ == "__main__":
  serve(build)
