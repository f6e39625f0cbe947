"""Small denoising networks with parameters that have left their start, and their gradients."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

KEY = jax.random.key(0)
TIME = jnp.array([0.1, 0.7])
CLASSES = jnp.eye(2)  # so networks take a context of 2


class Case:
  """Two examples of a shape, parameters, the compiled network and its gradient."""

  def __init__(self, network, event):
    draw = np.random.default_rng(0).normal
    self.network, self.shape = network, (2, *event[:-1], network.outputs)
    self.x = jnp.asarray(draw(size=(2, *event)), jnp.float32)
    shapes = jax.eval_shape(network.init, KEY, self.x, TIME, CLASSES)["params"]
    self.params = jax.tree.map(lambda leaf: jnp.asarray(0.4 * draw(size=leaf.shape), jnp.float32), shapes)
    self.target = jnp.asarray(draw(size=self.shape), jnp.float32)

  @functools.partial(jax.jit, static_argnums=0)
  def run(self, params, x, time=TIME, context=CLASSES):
    return self.network.apply({"params": params}, x, time, context)

  def out(self, x=None, time=TIME, context=CLASSES):
    return self.run(self.params, self.x if x is None else x, time, context)

  @functools.partial(jax.jit, static_argnums=0)
  def gradient(self, params):
    """By the parameters, of the product of the outputs with a random target."""
    return jax.grad(lambda params: jnp.vdot(self.run(params, self.x), self.target))(params)
