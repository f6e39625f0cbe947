"""A batch iterator of one's own, trained with checkpoints: killed and started again, the program goes on."""

import jax
import numpy as np
import optax

import gdm


def minibatches(first):
  """Yield minibatches from number `first` on: made, read from files, or from a queue."""
  for number in range(first, 10**9):
    yield {"x": np.random.default_rng(number).normal(size=(128, 3)).astype(np.float32)}


model = gdm.flows.MAF(gdm.DataSpec((3,), None), num_layers=2, hidden=(16,))
optimizers = {"model": optax.adam(1e-3)}
step = gdm.training.make_train_step(model, optimizers)
state = gdm.training.init_state(model, optimizers, jax.random.key(0), next(minibatches(0)))
state = gdm.training.train_with_checkpoints("checkpoints", step, state, minibatches, key=jax.random.key(0),
                                            num_steps=40, every=10)
print(f"step {state.step}: {model.log_prob(state.params, state.carry, next(minibatches(0))['x']).mean():.3f} nats")
