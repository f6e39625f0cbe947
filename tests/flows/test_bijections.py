"""Every bijection of the table: inverted, held against autodiff, seen to learn, and sane at the edges."""

import functools

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers.flow_cases import CASES

from gdm.errors import ConfigError, DataError, SpecError
from gdm.flows.bijections.bijection import Chain, Inverse
from gdm.flows.bijections.coupling import Alternate, Checkerboard, Coupling, Halves
from gdm.flows.bijections.elementwise import Logit, Standardize, require_unit_interval
from gdm.flows.bijections.linear import InvertibleLinear, LULinear
from gdm.flows.bijections.normalization import ActNorm, BatchNorm
from gdm.flows.bijections.reshaping import Reshape, Split, Squeeze, multi_scale
from gdm.flows.bijections.transforms import Additive, Affine
from gdm.flows.bijections.whitening import Whiten
from gdm.networks.residual_convolution import ResidualConvolution

KEY = jax.random.key(0)
NUM = 6
each = pytest.mark.parametrize("name", CASES)
# Cases that differ from another in a flag alone; the fast tier inverts the others.
VARIANTS = ("linear_vector", "lu_linear_vector", "act_norm_inverse", "batch_norm_plain", "affine_halves_flip",
            "affine_alternate_flip", "checkerboard_flip", "maf_context", "maf_residual", "maf_additive", "continuous")
each_slowly_variants = pytest.mark.parametrize("name", [
    pytest.param(name, marks=pytest.mark.slow if name in VARIANTS else ()) for name in CASES])


def draw(case, dtype, seed=1):
  """Inputs, base values and contexts of NUM examples."""
  rng = np.random.default_rng(seed)
  context = rng.normal(size=(NUM, case.context)) if case.context else None
  arrays = case.inputs(rng, (NUM, *case.event)), rng.normal(size=(NUM, *case.event)), context
  return [None if a is None else jnp.asarray(a, dtype) for a in arrays]


@functools.cache
def made(name):
  """The case's bijection with variables, in float32, away from where they start: nothing holds because of zeros."""
  case = CASES[name]
  bijection = case.build()
  with jax.enable_x64(False):  # whoever asks first may be of float64
    x, _, context = draw(case, jnp.float32)
    variables = flax.core.unfreeze(jax.jit(bijection.init)(KEY, x, context))
  params, tree = jax.tree.flatten(variables.get("params", {}))
  rng = np.random.default_rng(2)
  params = [p + 0.2 * rng.normal(size=p.shape).astype(np.float32) for p in params]
  return case, bijection, {**variables, "params": jax.tree.unflatten(tree, params)}


@functools.cache
def compiled(name, wide):
  """Forward with autodiff's log-det beside it, and inverse, each of an input and a context, in one floating type."""
  _, bijection, variables = made(name)
  variables = jax.tree.map(lambda a: jnp.asarray(a, jnp.float64 if wide else jnp.float32), variables)

  def forward(variables, x, context):
    there = bijection.apply(variables, x, context, method="forward")
    if not wide:
      return there, None

    def one(x, context):
      def value(x):
        return bijection.apply(variables, x[None], context, method="forward").value.ravel()

      context = None if context is None else context[None]
      return jax.jacrev(value)(x).reshape(x.size, x.size)

    return there, jnp.linalg.slogdet(jax.vmap(one)(x, context))[1]

  def inverse(variables, y, context):
    return bijection.apply(variables, y, context, method="inverse")

  return tuple(functools.partial(jax.jit(f), variables) for f in (forward, inverse))


def round_trips(name, wide, x, y, context):
  """From x there and back, from y down and up, and autodiff's log-det at x."""
  forward, inverse = compiled(name, wide)
  there, truth = forward(x, context)
  y = y.reshape(there.value.shape)
  down = inverse(y, context)
  return (there, inverse(there.value, context)), (y, down, forward(down.value, context)[0]), truth


def check_round_trips(name, wide, tolerance):
  case, _, _ = made(name)
  dtype = jnp.float64 if wide else jnp.float32
  x, y, context = draw(case, dtype)
  (there, back), (y, down, up), truth = round_trips(name, wide, x, y, context)
  np.testing.assert_allclose(back.value, x, atol=tolerance, rtol=tolerance)
  np.testing.assert_allclose(up.value, y, atol=tolerance, rtol=tolerance)
  np.testing.assert_allclose(there.log_det, -back.log_det, atol=10 * tolerance)
  np.testing.assert_allclose(up.log_det, -down.log_det, atol=10 * tolerance)
  assert {a.dtype for a in (*there, *back, *down, *up)} == {jnp.dtype(dtype)}
  return there, truth


@pytest.mark.fast_cases("scale_shift")
@each
def test_inverts_in_float32(name):
  check_round_trips(name, False, 1e-4)


@pytest.mark.fast_cases("reshape")
@each
def test_inverts_and_agrees_with_autodiff_in_float64(name):
  with jax.enable_x64(True):
    there, truth = check_round_trips(name, True, 1e-9)
    np.testing.assert_allclose(there.log_det, truth, atol=1e-9)


@pytest.mark.fast_cases("scale_shift", "standardize", "logit_sharp", "batch_norm")
@each_slowly_variants
def test_extremes_are_finite_and_inverted(name):
  case, _, _ = made(name)
  values = np.resize(np.asarray(case.extremes), NUM).reshape(NUM, *(1,) * len(case.event)) * np.ones(case.event)
  _, y, context = draw(case, jnp.float32)
  trip, _, _ = round_trips(name, False, jnp.asarray(values, jnp.float32), y, context)
  assert all(np.all(np.isfinite(a)) for a in jax.tree.leaves(trip))
  with jax.enable_x64(True):
    _, y, context = draw(case, jnp.float64)
    trip, _, _ = round_trips(name, True, jnp.asarray(values), y, context)
    np.testing.assert_allclose(trip[1].value, values, rtol=1e-6, atol=1e-6)
    assert all(np.all(np.isfinite(a)) for a in jax.tree.leaves(trip))


@pytest.mark.fast_cases("act_norm_inverse", "batch_norm")
@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.learned])
def test_every_parameter_moves(name):
  case, bijection, variables = made(name)
  assert variables["params"]
  x, _, context = draw(case, jnp.float32)
  params, others = variables["params"], {k: v for k, v in variables.items() if k != "params"}
  optimizer = optax.adam(1e-2)

  def loss(params):
    (y, log_det), _ = bijection.apply({"params": params, **others}, x, context, mutable=["statistics"])
    return jnp.mean(jnp.sum(0.5 * jnp.square(y.reshape(NUM, -1)), axis=-1) - log_det)

  @jax.jit
  def step(params, state):
    updates, state = optimizer.update(jax.grad(loss)(params), state)
    return optax.apply_updates(params, updates), state

  moved, state = params, optimizer.init(params)
  for _ in range(3):
    moved, state = step(moved, state)
  for path, before in flax.traverse_util.flatten_dict(params).items():
    after = flax.traverse_util.flatten_dict(moved)[path]
    assert np.all(np.isfinite(after)), path
    still = np.asarray(after) == np.asarray(before)
    if case.masked is not None:
      still &= ~case.masked(path, before.shape)
    assert not np.any(still), path


@pytest.mark.fast_cases(
    "additive_halves", "affine_alternate_flip", "spline_coupling", "maf_context", "autoregressive_spline", "iaf")
@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.context])
def test_output_depends_on_the_context(name):
  x, _, context = draw(CASES[name], jnp.float32)
  forward, _ = compiled(name, False)
  one, other = (forward(x, c)[0] for c in (context, context + 1.0))
  assert np.all(np.any((one.value != other.value).reshape(NUM, -1), axis=-1))


def test_act_norm_starts_normalized_in_either_direction():
  x = 3.0 + 5.0 * jax.random.normal(KEY, (7, 2, 3, 4))
  for bijection in (ActNorm(), Inverse(ActNorm())):
    y = jax.jit(bijection.init_with_output)(KEY, x)[0].value
    np.testing.assert_allclose(jnp.mean(y, axis=(0, 1, 2)), 0.0, atol=1e-5)
    np.testing.assert_allclose(jnp.var(y, axis=(0, 1, 2)), 1.0, atol=1e-4)


@pytest.mark.fast_cases("0.1", "10000.0")
@pytest.mark.parametrize("value", [0.0, 0.1, 1e4])
def test_act_norm_centres_a_constant_channel_and_keeps_its_scale(value):
  x = jnp.stack([jnp.full(7, value), 1e-6 * jnp.arange(7.0)], axis=-1)
  norm = ActNorm()
  (y, log_det), variables = jax.jit(norm.init_with_output)(KEY, x)
  np.testing.assert_allclose(variables["params"]["log_scale"][0], 0.0)
  np.testing.assert_allclose(y[:, 0], 0.0, atol=1e-2)
  np.testing.assert_allclose(jnp.std(y[:, 1]), 1.0, rtol=1e-4)
  assert np.all(np.isfinite(log_det))


def test_act_norm_that_saw_no_data_is_refused():
  with pytest.raises(ConfigError, match="start from data"):
    ActNorm().apply({}, jnp.ones((2, 3)))


def test_act_norm_sees_its_own_depth():
  x = jax.random.normal(KEY, (50, 3))
  (y, _), variables = jax.jit(Chain([Standardize(0.0, 0.01), ActNorm()]).init_with_output)(KEY, x)
  np.testing.assert_allclose(jnp.std(y, axis=0), 1.0, atol=1e-4)
  assert np.all(np.asarray(variables["params"]["parts_1"]["log_scale"]) > 4.0)


@pytest.mark.parametrize("bijection", [ActNorm(), BatchNorm(), Whiten()], ids=["act_norm", "batch_norm", "whiten"])
def test_one_example_does_not_start_a_normalization(bijection):
  with pytest.raises(ConfigError, match="batch has 1 example"):
    bijection.init(KEY, jnp.ones((1, 3)))


@pytest.mark.slow
def test_batch_norm_in_training_and_after():
  first, second = (jax.random.normal(key, (40, 3)) * 4.0 + 1.0 for key in jax.random.split(KEY))
  norm = BatchNorm(momentum=0.75, epsilon=0.0)
  variables = norm.init(KEY, first)
  np.testing.assert_allclose(variables["statistics"]["mean"], jnp.mean(first, 0), rtol=1e-5)
  (y, log_det), state = norm.apply(variables, second, mutable=["statistics"])
  np.testing.assert_allclose(jnp.mean(y, 0), 0.0, atol=1e-5)
  np.testing.assert_allclose(jnp.std(y, 0), 1.0, rtol=1e-4)
  # With the batch's own statistics held constant, as RealNVP has it.
  np.testing.assert_allclose(log_det, -jnp.sum(jnp.log(jnp.std(second, 0))), rtol=1e-5)
  expected = 0.75 * jnp.var(first, 0) + 0.25 * jnp.var(second, 0)
  np.testing.assert_allclose(state["statistics"]["variance"], expected, rtol=1e-5)
  after = norm.apply({**variables, **state}, second).value
  mean = 0.75 * jnp.mean(first, 0) + 0.25 * jnp.mean(second, 0)
  np.testing.assert_allclose(after, (second - mean) / jnp.sqrt(expected), rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_lu_is_the_plain_map_of_its_matrix():
  x = jax.random.normal(KEY, (3, 2, 2, 5))
  lu = LULinear(seed=4)
  variables = jax.jit(lu.init)(KEY, x)
  matrix = lu.apply(variables, 5, method="matrix")
  np.testing.assert_allclose(matrix @ matrix.T, np.eye(5), atol=1e-5)  # it starts at a rotation
  assert np.abs(matrix - np.eye(5)).max() > 0.3
  variables = jax.tree.map(lambda p: p + 0.3, variables)
  plain = {"params": {"matrix": lu.apply(variables, 5, method="matrix")}}
  for method in ("forward", "inverse"):
    one, other = lu.apply(variables, x, method=method), InvertibleLinear().apply(plain, x, method=method)
    np.testing.assert_allclose(one.value, other.value, atol=1e-4)
    np.testing.assert_allclose(one.log_det, other.log_det, atol=1e-4)


@pytest.mark.fast_cases("plain")
@pytest.mark.parametrize("bijection", [InvertibleLinear(), LULinear()], ids=["plain", "lu"])
def test_linear_maps_take_bfloat16(bijection):
  x = jax.random.normal(KEY, (3, 4))
  variables = jax.tree.map(lambda p: p.astype(jnp.bfloat16), jax.jit(bijection.init)(KEY, x))
  there = bijection.apply(variables, x.astype(jnp.bfloat16))
  back = bijection.apply(variables, there.value, method="inverse")
  assert there.value.dtype == back.value.dtype == jnp.bfloat16
  np.testing.assert_allclose(back.value.astype(jnp.float32), x, atol=0.1)


def test_squeeze_puts_a_block_into_one_pixel():
  x = jnp.arange(2 * 4 * 6 * 3.0).reshape(2, 4, 6, 3)
  y = Squeeze().apply({}, x).value
  assert y.shape == (2, 2, 3, 12)
  np.testing.assert_array_equal(y[1, 1, 2].reshape(2, 2, 3), x[1, 2:4, 4:6])


@pytest.mark.fast_cases("2-Halves")
@pytest.mark.parametrize("kind", [Halves, Alternate])
@pytest.mark.parametrize("size", [2, 5])
def test_two_couplings_move_everything(kind, size):
  x = jnp.arange(float(size))[None]
  for flip in (False, True):
    partition = kind(flip=flip)
    _, moved = partition.split(x)
    assert moved.shape[1:] == partition.moved((size,))
    np.testing.assert_array_equal(partition.merge(x, moved), x)
    x = partition.merge(x, jnp.full_like(moved, -1.0))
  np.testing.assert_array_equal(x, -1.0)


@pytest.mark.slow
def test_multi_scale_lets_half_leave_at_each_scale():
  x = jax.random.normal(KEY, (2, 8, 8, 1))
  flow = multi_scale([Squeeze(), Squeeze(), Squeeze()], [(4, 4, 4), (2, 2, 8), (1, 1, 16)])
  y, log_det = flow.apply({}, x)
  assert y.shape == (2, 64)
  first = Squeeze().apply({}, x).value
  np.testing.assert_array_equal(y[:, :32], first[..., :2].reshape(2, -1))
  second = Squeeze().apply({}, first[..., 2:]).value
  np.testing.assert_array_equal(y[:, 32:48], second[..., :4].reshape(2, -1))
  np.testing.assert_array_equal(log_det, 0.0)
  np.testing.assert_array_equal(flow.apply({}, y, method="inverse").value, x)


@pytest.mark.slow
def test_values_outside_the_unit_interval_are_refused():
  x = jnp.array([[0.5, 0.5], [0.5, 1.01], [-1e-3, 0.0], [jnp.nan, 0.5]])
  log_det = Logit().apply({}, x).log_det
  np.testing.assert_array_equal(np.isnan(log_det), [False, True, True, True])
  assert np.isnan(Logit(0.0).apply({}, jnp.array([[0.0, 0.5]])).log_det[0])
  with pytest.raises(DataError, match=r"example 1 holds 1.01"):
    require_unit_interval(np.asarray(x), "Logit")
  require_unit_interval(np.asarray(x[:1]), "Logit")


@pytest.mark.fast_cases(
    "odd", "vector", "halves", "alternate", "pixels", "channels", "inner", "constants", "entries", "context")
@pytest.mark.parametrize(("build", "message"), [
    (lambda: Squeeze().apply({}, jnp.ones((1, 4, 7, 1))), "width of the event .4, 7, 1. is 7"),
    (lambda: Squeeze().apply({}, jnp.ones((1, 4))), "event is .4,."),
    (lambda: Halves().moved((1,)), "at least 2 entries"),
    (lambda: Alternate().moved((1,)), "at least 2 entries"),
    (lambda: Checkerboard().moved((1, 1, 3)), "at least 2 pixels"),
    (lambda: Split((2, 2, 3), Reshape((2, 2, 1))), "even number of channels"),
    (lambda: Split((2, 2, 2), Standardize(0.0, 1.0)).apply({}, jnp.ones((1, 2, 2, 2))), "must end in a vector"),
    (lambda: Standardize((0.0, 1.0)).apply({}, jnp.ones((1, 3))), "mean of Standardize has 2 entries"),
    (lambda: Reshape((2, 3), (5,)), "6 entries and not 5"),
    (lambda: Coupling(Halves(), Additive(), ResidualConvolution(3, hidden=2, num_blocks=1)).init(
        KEY, jnp.ones((2, 2, 2, 4))), "need 2 on its last axis"),
    (lambda: ResidualConvolution(3, hidden=2, num_blocks=1, context=4).init(
        KEY, jnp.ones((2, 2, 2, 4)), jnp.ones((2, 3))), "the context has width 3"),
], ids=["odd", "vector", "halves", "alternate", "pixels", "channels", "inner", "constants", "entries",
        "outputs", "context"])
def test_what_does_not_fit_is_named(build, message):
  with pytest.raises(SpecError, match=message):
    build()


@pytest.mark.parametrize("build", [lambda: Logit(0.5), lambda: Standardize(0.0, 0.0), lambda: BatchNorm(momentum=1.0),
                                   lambda: Affine(0.0)])
def test_constants_that_cannot_be_used_are_refused(build):
  with pytest.raises(ConfigError):
    build()
