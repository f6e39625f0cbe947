"""bfloat16 products: only products are narrow, everywhere they stand, and the results are near those of float32."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers.small_models import each_small, small_batch, small_model
from jax.extend.core import ClosedJaxpr, Jaxpr

from gdm.errors import ConfigError
from gdm.stages import end_of_stage
from gdm.training.precision import bfloat16_products
from gdm.training.state import init_state, optimizers_for
from gdm.training.step import REMATERIALIZATIONS, make_train_step

KEY = jax.random.key(0)
# Relative error of the whole gradient; densities of reals amplify the rounding of their narrow scales, and a GAN's has
# a penalty of the gradient within.
TOLERANCE = {"rnade": 0.2, "gan": 0.1}
PRODUCTS = ("dot_general", "conv_general_dilated")


def equations(jaxpr):
  """All equations, at any depth."""
  for equation in jaxpr.eqns:
    yield equation
    for inner in jax.tree.leaves(equation.params, is_leaf=lambda x: isinstance(x, Jaxpr | ClosedJaxpr)):
      if isinstance(inner, Jaxpr | ClosedJaxpr):
        yield from equations(inner.jaxpr if isinstance(inner, ClosedJaxpr) else inner)


def everything(w, x, key):
  """Products in a scan, a branch, a loop, a rematerialized part, a custom derivative and a convolution."""
  still = jax.lax.stop_gradient(w)
  y, _ = jax.lax.scan(lambda c, k: (jax.nn.silu(c @ w) + 0.1 * jax.random.normal(k, ()), None), x,
                      jax.random.split(key, 3))
  y = jax.lax.cond(y.sum() > 0, lambda y: y @ w, lambda y: y - y @ w, y)
  y += jax.lax.while_loop(lambda c: c[1] < 2, lambda c: (c[0] @ still, c[1] + 1), (jax.lax.stop_gradient(y), 0))[0]
  image = jax.lax.conv_general_dilated(y.reshape(2, 2, 2, 1), w.reshape(2, 2, 1, 4), (1, 1), "SAME",
                                       dimension_numbers=("NHWC", "HWIO", "NHWC"))
  y = jax.checkpoint(lambda y: jax.nn.relu(y @ w))(y)
  return jnp.sum(jax.nn.logsumexp(y, axis=-1)) + jnp.sum(jnp.tanh(image)) + jnp.sum(jax.jit(jnp.matmul)(y, w))


ARGS = (jax.random.normal(jax.random.key(1), (4, 4)) / 2, jnp.ones((2, 4)), jax.random.key(2))


def test_every_product_is_narrow_and_nothing_else():
  gradient = jax.value_and_grad(everything)
  wide, narrow = (list(equations(jax.make_jaxpr(f)(*ARGS).jaxpr)) for f in (gradient, bfloat16_products(gradient)))
  products = [equation for equation in narrow if equation.primitive.name in PRODUCTS]
  assert len(products) >= sum(equation.primitive.name in PRODUCTS for equation in wide) > 10
  for equation in products:
    assert {x.aval.dtype for x in equation.invars} == {jnp.dtype(jnp.bfloat16)}
    assert equation.outvars[0].aval.dtype == jnp.float32
  others = {equation.primitive.name for equation in narrow
            if any(x.aval.dtype == jnp.bfloat16 for x in (*equation.invars, *equation.outvars)
                   if hasattr(x.aval, "dtype"))} - set(PRODUCTS)
  assert others == {"convert_element_type"}


@pytest.mark.slow
def test_results_keep_their_types_and_are_near():
  gradient = jax.value_and_grad(everything)
  wide, narrow = jax.jit(gradient)(*ARGS), jax.jit(bfloat16_products(gradient))(*ARGS)
  assert jax.tree.map(lambda x: x.dtype, wide) == jax.tree.map(lambda x: x.dtype, narrow)
  np.testing.assert_allclose(narrow[0], wide[0], rtol=0.03)
  np.testing.assert_allclose(narrow[1], wide[1], atol=0.05 * np.abs(wide[1]).max())
  assert np.any(np.asarray(narrow[1]) != np.asarray(wide[1]))


def test_integers_and_other_precisions_are_left_alone():
  x = jnp.arange(4)
  assert bfloat16_products(jnp.dot)(x, x) == 14
  halves = x.astype(jnp.float16)
  assert bfloat16_products(jnp.dot)(halves, halves).dtype == jnp.float16


def _step(name, **options):
  model = small_model(name)
  optimizers = optimizers_for(model, optax.sgd(0.1, momentum=0.9))
  batch = small_batch(model, (sum(objective.repeats for objective in model.objectives),))
  state = init_state(model, optimizers, KEY, {key: x[0] for key, x in batch.items()})
  return jax.jit(make_train_step(model, optimizers, **options)).lower(state, batch, KEY), state, batch


@pytest.mark.slow
@pytest.mark.parametrize("name", each_small())
def test_every_model_trains_with_bfloat16_products_and_float32_parameters(name):
  ends = {}
  for precision in ("float32", "bfloat16"):
    lowered, state, batch = _step(name, precision=precision)
    ends[precision], metrics = lowered.compile()(state, batch, KEY)
    assert all(leaf.dtype != jnp.bfloat16 for leaf in jax.tree.leaves(ends[precision]))
    assert all(np.isfinite(mean.value) for name, mean in metrics.items() if name.rpartition("/")[2] == "loss")
  wide, narrow = (np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(end.opt_state)]) for end in ends.values())
  assert np.linalg.norm(narrow - wide) < TOLERANCE.get(name, 0.02) * np.linalg.norm(wide)


@pytest.mark.slow
@pytest.mark.parametrize("remat", ["products", "stages"])
@pytest.mark.parametrize("name", each_small())
def test_rematerialization_changes_no_gradient(name, remat):
  states = {}
  for option in ("none", remat):
    lowered, state, batch = _step(name, remat=option)
    states[option], _ = lowered.compile()(state, batch, KEY)
  for a, b in zip(*(jax.tree.leaves(state.opt_state) for state in states.values()), strict=True):
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_rematerialization_keeps_less_for_the_backward_pass():
  """Blocks that are wide within: eight times what lies between them. (XLA's CPU compiler merges it all again.)"""
  depth, batch, width = 6, 32, 16

  def loss(params, x):
    for outer, inner in params:
      x = end_of_stage(x + jnp.tanh(jnp.sin(x @ outer)) @ inner)
    return jnp.mean(x**2)

  keys = jax.random.split(KEY, depth)
  params = [(jax.random.normal(k, (width, 8 * width)), jax.random.normal(k, (8 * width, width))) for k in keys]
  x = jnp.ones((batch, width))
  whole = sum(leaf.nbytes for leaf in jax.tree.leaves((params, x)))
  kept = {name: sum(leaf.nbytes for leaf in jax.tree.leaves(jax.vjp(remat(loss), params, x)[1])) - whole
          for name, remat in REMATERIALIZATIONS.items()}
  assert kept["stages"] < kept["products"] < kept["none"]
  assert kept["stages"] <= 1.5 * depth * x.nbytes


@pytest.mark.parametrize("option", ["precision", "remat"])
def test_unknown_options_are_named(option):
  model = small_model("fvsbn")
  with pytest.raises(ConfigError, match=f"training.{option} is 'bfloat' *"):
    make_train_step(model, optimizers_for(model, optax.sgd(0.1)), **{option: "bfloat"})
