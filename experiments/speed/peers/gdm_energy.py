"""This project's side of energies: an EBM trained with persistent chains by the one train step."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax

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
from experiments.speed.peers.gdm_step import training
from experiments.speed.peers.protocol import Case, serve
from gdm.dataspec import DataSpec
from gdm.energy.continuous.ebm import EBM
from gdm.energy.continuous.networks import ConvolutionalEnergy, MLPEnergy
from gdm.inference import langevin
from gdm.runs.allocation import keep_freed_memory


def model(case: Case) -> EBM:
  event = (case.context,) if case.model == "mlp" else (case.context, case.context, 1)
  network = (MLPEnergy if case.model == "mlp" else ConvolutionalEnergy)(hidden(case.model, case.num_layers, case.width))
  return EBM(spec=DataSpec(event, case.levels or None), network=network, num_steps=NUM_STEPS, step_size=STEP_SIZE,
             noise=NOISE, restart=RESTART,
             chain_shards=CHAIN_SHARDS, chains_per_shard=CHAINS_PER_SHARD, energy_penalty=PENALTY, range_margin=2.0)


def data(case: Case) -> np.ndarray:
  """Return a batch of noise."""
  generator, shape = np.random.default_rng(0), (case.batch, *model(case).spec.event)
  return generator.integers(0, case.levels, shape, np.uint8) if case.levels else generator.normal(size=shape)


def walk(case: Case, num: int) -> Callable[[], jax.Array]:
  """Return a call that moves so many chains by the Langevin steps of a training step."""
  made, key = model(case), jax.random.key(0)
  params, carry = jax.jit(made.init)(key, {"x": data(case)})
  chains = made.base_of(params, carry).sample(key, num)

  @jax.jit
  def move(params, carry, chains):
    energy, sizes = made.energy(params, carry), jnp.full(NUM_STEPS, STEP_SIZE)
    return langevin.walk(key, chains, lambda u: -energy(u), sizes, NOISE**2, made.spread(params))

  return lambda: move(params, carry, chains)


def build(case: Case):
  return training(model(case), data(case), optax.adamw(LEARNING_RATE))


if __name__ == "__main__":
  keep_freed_memory()
  serve(build)
