"""Energies: training with persistent chains beside PyTorch, Langevin steps/s against chains, and sampling's share.

For PyTorch see section sequences: --peer_python names the python of its environment. Both programs take turns, so that
what else the machine does hits both alike. Where others compute too, run it on one core (`taskset -c 1 python -m
experiments.speed --sections=energy ...`): else PyTorch's threads, which wait for each other, make any ratio.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import optax

from experiments.speed.beside import num_threads, training
from experiments.speed.peers import gdm_step
from experiments.speed.peers.energy_case import CHAIN_SHARDS, LEARNING_RATE, NUM_STEPS, hidden
from experiments.speed.peers.gdm_energy import data, model, walk
from experiments.speed.peers.protocol import TRAINING, Case
from experiments.speed.rows import Row
from experiments.speed.settings import FULL, QUICK, TINY, Settings
from experiments.speed.timing import alternate, exponent, rates, ratios, summary

OURS, PEER = "experiments.speed.peers.gdm_energy", "experiments.speed.peers.torch_energy"
TARGETS = {"mlp": 1.5, "convolutional": 0.7}  # of PyTorch's speed on a CPU
STEP, WALK = "step", "walk"


@dataclasses.dataclass(frozen=True)
class Size:
  """What is trained: network, layers, width, values or 0 for real numbers, dimensions or side, batch; numbers of chains
  to walk; seconds of a timing."""

  cases: tuple[tuple[str, int, int, int, int, int], ...] = (
      ("mlp", 2, 128, 0, 2, 100), ("mlp", 2, 128, 0, 64, 100), ("convolutional", 3, 16, 17, 8, 100))
  chains: tuple[int, ...] = (16, 64, 256, 1024, 4096)
  seconds: float = 1.0


SIZES = {FULL: Size(), QUICK: Size(chains=(16, 256), seconds=0.3),
         TINY: Size(cases=(("mlp", 1, 2, 0, 2, 2),), chains=(2, 3), seconds=0.01)}


def run(settings: Settings) -> list[Row]:
  size, rows = SIZES[settings.size], []
  for network, num_layers, width, levels, side, batch in size.cases:
    case = Case(network, num_layers, width, levels, side, batch, num_threads())
    event = f"{side}-D" if network == "mlp" else f"{side}x{side}"
    what = f"{network} {'-'.join(map(str, hidden(network, num_layers, width)))}, {event}"
    rows += training(f"{what}, batch {batch}", case, OURS, PEER, settings, size.seconds, TARGETS[network],
                     choose_threads=True)
    rows += [_share(what, case, settings.repeats), *_walks(what, case, size.chains, settings.repeats)]
  return rows


def _share(what: str, case: Case, repeats: int) -> Row:
  """Return the share of a training step that the chains take: a walk of as many alone over the whole step."""
  num = -(-case.batch // CHAIN_SHARDS) * CHAIN_SHARDS
  take = gdm_step.training(model(case), data(case), optax.adamw(LEARNING_RATE))[1][TRAINING]
  calls: dict[str, Callable[[], Any]] = {STEP: lambda: take(1), WALK: walk(case, num)}
  times = alternate(calls, repeats, inner=5)
  return summary(f"{what}, batch {case.batch}: share of sampling", ratios(times[WALK], times[STEP]), "",
                 f"{NUM_STEPS} Langevin steps of {num} chains alone, over a training step")


def _walks(what: str, case: Case, chains: tuple[int, ...], repeats: int) -> list[Row]:
  times = alternate({num: walk(case, num) for num in chains}, repeats)
  rows = [summary(f"{what}: Langevin, {num} chains", rates(times[num], NUM_STEPS), "steps/s",
                  f"all chains at once, {NUM_STEPS} steps a call") for num in chains]
  growth = exponent(chains, [min(times[num]) for num in chains])
  return [*rows, Row(f"{what}: Langevin, exponent in chains", growth, "",
                     f"log-log fit of a step's time over {chains[0]} to {chains[-1]} chains")]
