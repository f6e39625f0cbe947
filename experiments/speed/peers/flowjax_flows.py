"""flowjax's side of flows: the step of its own `fit_to_data`, but under `jax.jit`.

Its own `eqx.filter_jit` walks through the model in each call, which takes as long as much of a small step does. Run by
the python of an environment of its own; nothing here imports it.
"""

import functools

import equinox as eqx  # pyright: ignore[reportMissingImports]
import jax
import jax.numpy as jnp
import optax
import paramax  # pyright: ignore[reportMissingImports]
from flowjax.bijections import RationalQuadraticSpline  # pyright: ignore[reportMissingImports]
from flowjax.distributions import Normal  # pyright: ignore[reportMissingImports]
from flowjax.flows import coupling_flow, masked_autoregressive_flow  # pyright: ignore[reportMissingImports]
from flowjax.train.losses import MaximumLikelihoodLoss  # pyright: ignore[reportMissingImports]

from experiments.speed.peers.protocol import DENSITY, SAMPLING, TRAINING, Case, serve
from gdm.runs.allocation import keep_freed_memory

LEARNING_RATE = 1e-5  # on one batch again and again, so that nothing diverges

FLOWS = {
    "coupling": lambda key, case, **fields: coupling_flow(key, **fields),
    "maf": lambda key, case, **fields: masked_autoregressive_flow(key, **fields),
    "spline": lambda key, case, **fields: masked_autoregressive_flow(
        key, transformer=RationalQuadraticSpline(knots=case.levels - 1, interval=3), **fields),
}


def build(case: Case):
  key = jax.random.key(0)
  flow = FLOWS[case.model](key, case, base_dist=Normal(jnp.zeros(case.context)), flow_layers=case.num_layers,
                           nn_width=case.width, nn_depth=2)
  params, static = eqx.partition(flow, eqx.is_inexact_array,
                                 is_leaf=lambda leaf: isinstance(leaf, paramax.NonTrainable))
  x = jax.random.normal(key, (case.batch, case.context))
  optimizer, loss = optax.adam(LEARNING_RATE), MaximumLikelihoodLoss()
  state = optimizer.init(params)

  @functools.partial(jax.jit, donate_argnums=(0, 1))
  def step(params, state, x):
    value, gradients = jax.value_and_grad(loss)(params, static, x)
    updates, state = optimizer.update(gradients, state, params)
    return eqx.apply_updates(params, updates), state, value

  log_prob = jax.jit(lambda params, x: eqx.combine(params, static).log_prob(x))
  sample = jax.jit(lambda params, key: eqx.combine(params, static).sample(key, (case.batch,)))

  def train(steps: int) -> None:
    nonlocal params, state
    for _ in range(steps):
      params, state, _ = step(params, state, x)
    jax.block_until_ready((params, state))

  def density(steps: int) -> None:
    for _ in range(steps):
      jax.block_until_ready(log_prob(params, x))

  def draw(steps: int) -> None:
    for _ in range(steps):
      jax.block_until_ready(sample(params, key))

  return sum(leaf.size for leaf in jax.tree.leaves(params)), {TRAINING: train, DENSITY: density, SAMPLING: draw}


if __name__ == "__main__":
  keep_freed_memory()
  serve(build)
