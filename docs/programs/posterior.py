"""Simulation-based inference: a flow of parameters given an observation, learned from simulations alone."""

import jax
import numpy as np
import optax

import gdm

MIXING = np.array([[1.0, 0.5], [-0.3, 1.2], [0.8, -0.6]])


def simulate(first):
  for number in range(first, 10**9):
    rng = np.random.default_rng(number)
    theta = rng.normal(size=(512, 2)).astype(np.float32)
    yield {"x": theta, "context": (theta @ MIXING.T + 0.5 * rng.normal(size=(512, 3))).astype(np.float32)}


flow = gdm.flows.MAF(gdm.DataSpec((2,), None, context_dims=3), num_layers=2, hidden=(64,), activation="silu")
optimizers = {"model": optax.adam(optax.cosine_decay_schedule(5e-3, 3000))}
step = gdm.training.make_train_step(flow, optimizers)
state = gdm.training.init_state(flow, optimizers, jax.random.key(0), next(simulate(0)))
state, _ = gdm.training.fit(step, state, gdm.training.Iterated(simulate), key=jax.random.key(0), num_steps=3000)
observed = np.array([1.0, 0.2, -0.5], np.float32)
print(flow.sample(state.params, state.carry, jax.random.key(1), 5000, {"context": observed}).x.mean(axis=0))
