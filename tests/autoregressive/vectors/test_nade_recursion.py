"""The NADE recursion: its hand-written gradient is autodiff's, and both forms are the same function."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gdm.autoregressive.vectors.nade_recursion import blocked, recursion


def arguments(width, dropped):
  n, batch, d = 7, 5, 6
  keys = jax.random.split(jax.random.key(0), 5)
  scale = 2.0 * jax.random.bernoulli(keys[4], 0.5, (batch, d)) if dropped else jnp.ones(())
  shapes = [(n, batch, width), (n, width, d), (n, width, d), (d,)]
  return [*(jax.random.normal(key, shape) for key, shape in zip(keys[:4], shapes, strict=True)), scale]


def plainly(activation, inputs, weights, output, bias, scale):
  a, logits = bias + jnp.zeros((inputs.shape[1], 1)), []
  for x, w, v in zip(inputs, weights, output, strict=True):
    logits.append((activation(a) * scale) @ v.T)
    a = a + x @ w
  return jnp.stack(logits)


@pytest.mark.slow
@pytest.mark.parametrize(("width", "dropped"), [(1, False), (3, True)])
@pytest.mark.parametrize("activation", [jax.nn.sigmoid, jax.nn.relu])
def test_values_and_gradients(width, dropped, activation):
  args = arguments(width, dropped)
  weights = jax.random.normal(jax.random.key(1), (7, 5, width))

  def value_and_grads(form):
    return jax.jit(jax.value_and_grad(lambda *args: jnp.sum(form(activation, *args) * weights), argnums=(0, 1, 2, 3)))(
        *args)

  value, grads = value_and_grads(plainly)
  for form in (recursion, lambda *args: blocked(*args, block=3)):
    ours, our_grads = value_and_grads(form)
    np.testing.assert_allclose(ours, value, rtol=1e-5)
    for mine, theirs in zip(our_grads, grads, strict=True):
      np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-5)
