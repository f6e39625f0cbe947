"""Properties of autoregressive models of sequences and of images, as functions of a model and its parameters."""

import functools

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import optax

from gdm.autoregressive.images.pixel_codes import image_codes
from gdm.runs.registry import build_model

KEY = jax.random.key(0)


def token_model(name, spec, sections=None, **network):
  """A model of the registry with these fields of its network, and other sections or fields."""
  return build_model({"name": name, **(sections or {}), "network": network}, spec)


def moved_from_start(model, scale=0.3):
  """Parameters far from their start, so that no property holds by a zero."""
  @jax.jit
  def moved(key):
    params, carry = model.init(KEY, {"x": jnp.zeros((2, *model.spec.event), jnp.int32)})
    flat, unravel = jax.flatten_util.ravel_pytree(params)
    return unravel(flat + scale * jax.random.normal(key, flat.shape)), carry

  return moved(jax.random.key(1))


def some(spec, num=16, seed=0):
  return jnp.asarray(np.random.default_rng(seed).integers(0, spec.levels, (num, *spec.event)))


@functools.partial(jax.jit, static_argnums=0)
def in_one_pass(model, params, x):
  """Logits [batch, steps, levels] by the network as a whole."""
  return model.logits(params, x.reshape(len(x), -1))


@functools.partial(jax.jit, static_argnums=0)
def by_steps(model, params, x):
  """The same by `conditional_step`; what comes before the first value must not matter."""
  def body(state, inputs):
    cache, previous = state
    index, value = inputs
    cache, logits = model.conditional_step(params, cache, previous, index)
    return (cache, value), logits

  values = x.reshape(len(x), -1).T
  start = (model.init_cache(params, len(x)), jnp.full_like(values[0], 1))
  return jax.lax.scan(body, start, (jnp.arange(len(values)), values))[1].swapaxes(0, 1)


def dependence(model, params, x):
  """How strongly the logits of each value [output] depend on each value's code [input]: the largest gradient over x."""
  network, steps = model.network, model.num_steps

  @jax.jit
  @jax.vmap
  @jax.jacrev
  def jacobian(codes):
    outputs = network.apply({"params": params["model"]}, codes[None], method="outputs_from_codes")
    return outputs.reshape(steps, model.levels).sum(axis=1, where=jnp.arange(model.levels) % 2 == 0)

  gradients = np.abs(np.asarray(jacobian(image_codes(x, model.levels))))
  return gradients.reshape(len(x), steps, steps, -1).max(axis=(0, 3))


def train(model, params, carry, num_steps, learning_rate=1e-2):
  """Parameters after a few steps of Adam on random examples."""
  optimizer = optax.adam(learning_rate)
  state = optimizer.init(params)

  @jax.jit
  def step(params, state, key, index):
    batch = {"x": some(model.spec)}
    grads = jax.grad(lambda params: model.loss(params, carry, batch, key, index).loss)(params)
    updates, state = optimizer.update(grads, state, params)
    return optax.apply_updates(params, updates), state

  for i in range(num_steps):
    params, state = step(params, state, jax.random.key(i), jnp.int32(i))
  return params


def assert_samples_are_the_naive_ones(model, params, carry, num=8):
  """The naive path runs the network on all values so far, and draws by the same key at each value."""
  key, steps = jax.random.key(7), model.num_steps
  x = jnp.zeros((num, steps), jnp.int32)
  for index in range(steps):
    logits = in_one_pass(model, params, x.reshape(num, *model.spec.event))[:, index]
    x = x.at[:, index].set(jax.random.categorical(jax.random.fold_in(key, index), logits))
  cached = jax.jit(lambda: model.sample(params, carry, key, num).x)()
  np.testing.assert_array_equal(cached, x.reshape(num, *model.spec.event))


def assert_every_parameter_moves(model, masks, taps, blocks=None):
  """All weights move but those between channels of a pixel that a mask separates, and these stay.

  Args:
    model: its rectifiers may leave some weights of few units without a gradient, so it should not be too small.
    masks: of each layer, by its name within its block: "A", "B" or "".
    taps: how many pixels each layer sees; its own is the last, unless it is not seen by any.
    blocks: masks and taps that are others in a block, by its name.
  """
  channels = model.spec.event[-1]
  params, carry = jax.jit(model.init)(KEY, {"x": some(model.spec)})
  moved = train(model, params, carry, 3)
  for path, before in jax.tree_util.tree_leaves_with_path(params):
    after = functools.reduce(lambda tree, key: tree[key.key], path, moved)
    changed, name = np.asarray(before) != np.asarray(after), path[-2].key
    if changed.ndim != 2:
      assert changed.mean() > (0.9 if changed.ndim == 1 else 0.7), f"{path} does not move"
      continue
    own_masks, own_taps = (blocks or {}).get(path[1].key, ({}, {}))
    mask, num = own_masks.get(name, masks[name]), own_taps.get(name, taps[name])
    # [tap, group of channels of the inputs, input, group of the outputs, output]
    groups = changed.reshape(num, channels, -1, channels, changed.shape[1] // channels)
    seen = np.ones((num, channels, channels), bool)
    if mask and channels > 1:
      seen[-1] = np.tri(channels, k=-(mask == "A")).T
    np.testing.assert_array_equal(groups.any(axis=(2, 4)), seen, err_msg=str(path))
    assert changed.sum() > 0.7 * seen.mean() * changed.size, f"{path} moves in {changed.mean()} of its entries alone"
