"""Masked autoregressive bijections: triangular, inverted by one pass' worth of steps, and trained either way."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gdm.errors import ConfigError, SpecError
from gdm.flows.bijections.autoregressive import MaskedAutoregressive
from gdm.flows.bijections.bijection import Chain, Inverse
from gdm.flows.bijections.normalization import ActNorm
from gdm.flows.bijections.transforms import Additive, Affine, RationalQuadratic

KEY = jax.random.key(0)
BATCH, DIMS = 4, 5
ORDER = (3, 1, 0, 4, 2)
FLOWS = {
    "maf": MaskedAutoregressive(Affine(), (9, 9), "reversed", activation="silu"),
    "additive": MaskedAutoregressive(Additive(), (9,), context=2, activation="tanh"),
    "spline": MaskedAutoregressive(RationalQuadratic(4), (9, 9), ORDER, context=2, residual=True, activation="silu"),
}
each = pytest.mark.parametrize("name", FLOWS)


@functools.cache
def made(name):
  """The bijection, with variables away from where they start, inputs and a context."""
  bijection, (key, context_key) = FLOWS[name], jax.random.split(KEY)
  x = jax.random.normal(key, (BATCH, DIMS))
  context = jax.random.normal(context_key, (BATCH, bijection.context)) if bijection.context else None
  variables = jax.jit(bijection.init)(KEY, x, context)
  leaves, tree = jax.tree.flatten(variables)
  leaves = [p + 0.3 * jax.random.normal(jax.random.fold_in(key, i), p.shape) for i, p in enumerate(leaves)]
  return bijection, jax.tree.unflatten(tree, leaves), x, context


@pytest.mark.slow
@each
def test_the_jacobian_is_triangular_in_the_ordering(name):
  bijection, variables, x, context = made(name)
  order = bijection.order(DIMS)
  for method in ("forward", "inverse"):
    jacobian = jax.jit(jax.jacrev(lambda x, c, m=method: jnp.sum(bijection.apply(variables, x, c, method=m).value, 0)))
    by_position = np.asarray(jacobian(x, context))[order][:, :, order].transpose(1, 0, 2)
    np.testing.assert_array_equal(by_position != 0.0, np.broadcast_to(np.tri(DIMS, dtype=bool), by_position.shape))


@pytest.mark.slow
@each
def test_is_inverted_and_its_gradients_are_those_of_forward(name):
  bijection, *arrays = made(name)

  def there_and_back(variables, x, context):
    y, log_det = bijection.apply(variables, x, context)
    return y, log_det, *bijection.apply(variables, y, context, method="inverse")

  def nothing(variables, x, context):
    """x = inverse(forward(x)) whatever the parameters are: what moves one way moves back the other."""
    _, log_det, back, log_back = there_and_back(variables, x, context)
    return jnp.sum(jnp.sin(back)) + jnp.sum(log_det + log_back)

  def something(variables, x, context):
    return jnp.sum(jnp.sin(bijection.apply(variables, x, context, method="inverse").value))

  with jax.enable_x64(True):
    variables, x, context = jax.tree.map(lambda a: a.astype(jnp.float64), tuple(arrays))
    results, nothings, somethings = jax.jit(lambda *arguments: (
      there_and_back(*arguments), jax.grad(nothing)(*arguments), jax.grad(something)(*arguments)))(
        variables, x, context)
    _, log_det, back, log_back = results
    np.testing.assert_allclose(back, x, atol=1e-9)
    np.testing.assert_allclose(log_det, -log_back, atol=1e-8)
    for none, some in zip(jax.tree.leaves(nothings), jax.tree.leaves(somethings), strict=True):
      np.testing.assert_allclose(none, 0.0, atol=1e-6)
      assert np.any(np.abs(some) > 1e-3)


@pytest.mark.slow
def test_inverse_autoregressive_flow_is_the_inverse():
  bijection, variables, x, context = made("spline")
  flow = Inverse(bijection)
  wrapped = {"params": {"of": variables["params"]}}
  for one, other in (("forward", "inverse"), ("inverse", "forward")):
    ours = jax.jit(functools.partial(flow.apply, method=one))(wrapped, x, context)
    theirs = jax.jit(functools.partial(bijection.apply, method=other))(variables, x, context)
    for a, b in zip(ours, theirs, strict=True):
      np.testing.assert_allclose(a, b, atol=1e-5)


@pytest.mark.slow
def test_initializing_an_inverse_makes_the_same_parameters_and_hands_the_data_on():
  bijection, _, x, context = made("spline")
  shapes = jax.tree.map(jnp.shape, jax.eval_shape(bijection.init, KEY, x, context)["params"])
  chain = Chain([Inverse(bijection), ActNorm()])
  (y, _), variables = jax.jit(chain.init_with_output)(KEY, 3.0 * x + 1.0, context)
  assert jax.tree.map(jnp.shape, variables["params"]["parts_0"]["of"]) == shapes
  np.testing.assert_allclose(jnp.mean(y, axis=0), 0.0, atol=1e-5)
  np.testing.assert_allclose(jnp.std(y, axis=0), 1.0, atol=1e-3)


def test_the_inverse_multiplies_as_much_as_one_pass():
  bijection = MaskedAutoregressive(Affine(), (128, 128))
  y = jnp.zeros((8, 32))
  variables = jax.eval_shape(bijection.init, KEY, y)

  def products(jaxpr, times=1):
    """Multiplications of all products, those in loops as often as they run."""
    count = 0
    for equation in jaxpr.eqns:
      if equation.primitive.name == "dot_general":
        (contracted, _), _ = equation.params["dimension_numbers"]
        left = equation.invars[0].aval.shape
        count += times * np.prod([left[axis] for axis in contracted]) * np.prod(equation.outvars[0].aval.shape)
      inner = times * equation.params.get("length", 1)
      for value in equation.params.values():
        for nested in value if isinstance(value, (tuple, list)) else (value,):
          nested = getattr(nested, "jaxpr", nested)
          if hasattr(nested, "eqns"):
            count += products(nested, inner)
    return count

  forward, inverse = (products(jax.make_jaxpr(functools.partial(bijection.apply, method=method))(variables, y).jaxpr)
                      for method in ("forward", "inverse"))
  assert forward <= inverse * 1.1 and inverse < 1.3 * forward


@pytest.mark.slow
def test_dropout_has_one_pattern_along_the_inverse():
  bijection = MaskedAutoregressive(Affine(), (16, 16), dropout=0.5, output_scale=1.0)
  x = jax.random.normal(KEY, (BATCH, DIMS))
  variables = jax.jit(bijection.init)(KEY, x)
  rngs = {"dropout": jax.random.key(1)}

  @functools.partial(jax.jit, static_argnums=1)
  def run(x, method, rngs):
    return bijection.apply(variables, x, method=method, rngs=rngs)

  y, log_det = run(x, "forward", rngs)
  assert np.any(np.abs(y - run(x, "forward", {}).value) > 1e-3)
  back, log_back = run(y, "inverse", rngs)
  np.testing.assert_allclose(back, x, atol=1e-4)
  np.testing.assert_allclose(log_back, -log_det, atol=1e-4)


@pytest.mark.slow
def test_events_are_flattened():
  bijection = MaskedAutoregressive(Affine(), (8,), output_scale=1.0)
  x = jax.random.normal(KEY, (3, 2, 2, 1))
  y, variables = jax.jit(bijection.init_with_output)(KEY, x)
  flat = bijection.apply(variables, x.reshape(3, 4))
  np.testing.assert_allclose(y.value.reshape(3, 4), flat.value, rtol=1e-5)
  assert y.value.shape == x.shape


def test_what_cannot_be_is_refused():
  with pytest.raises(ConfigError, match="did you mean 'reversed'"):
    MaskedAutoregressive(Affine(), ordering="reverse")
  for order in ((0, 1), (0, 1, 1), (1, 2, 3)):
    with pytest.raises(SpecError, match="of 3 dimensions it must hold 0 to 2"):
      MaskedAutoregressive(Affine(), ordering=order).init(KEY, jnp.ones((2, 3)))
  with pytest.raises(SpecError, match="context has width 3"):
    MaskedAutoregressive(Affine(), context=2).init(KEY, jnp.ones((2, 3)), jnp.ones((2, 3)))
