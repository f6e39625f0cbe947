"""Compiled programs return what their operations return one at a time, and the check itself finds those that do not."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.small_models import SMALL, small_batch, small_model

from gdm import selfcheck
from gdm.model import HasLogLikelihood, HasUnnormalized
from gdm.selfcheck import CheckedProgram

X = np.arange(1.0, 9.0)
KINDS = ("sums", "reductions", "constants", "products", "networks", "convolutions", "loops", "indexing",
         "linear algebra", "random")


def compiled_alone(x):
  return isinstance(x, jax.core.Tracer)


@pytest.mark.fast_cases("shape", "nan", "finite", "sign", "nan_both")
@pytest.mark.parametrize("function, expected", [
    (lambda x: 2 * x, 0.0),
    (lambda x: x + compiled_alone(x), 1 / 8),
    (lambda x: {"a": x, "b": x[0] * (1 - 0.5 * compiled_alone(x))}, 0.5),
    (lambda x: x[1:] if compiled_alone(x) else x, np.inf),
    (lambda x: x * (np.nan if compiled_alone(x) else 1), np.inf),
    (lambda x: x * (1 if compiled_alone(x) else np.inf), np.inf),
    (lambda x: x * (-np.inf if compiled_alone(x) else np.inf), np.inf),
    (lambda x: jnp.where(x > 4, jnp.inf, x), 0.0),
    (lambda x: x * jnp.nan, 0.0),
], ids=["right", "shifted", "one_of_a_tree", "shape", "nan", "finite", "sign", "infinite_both", "nan_both"])
def test_the_error_is_relative_to_the_largest_value_and_infinite_for_what_is_not_finite(function, expected):
  assert selfcheck.error(CheckedProgram("test", function, (X,))) == pytest.approx(expected)


def test_the_reference_has_64_bits_and_the_compiled_program_32():
  def small(x):
    return (x * 1e8 + 1) - x * 1e8
  assert selfcheck.error(CheckedProgram("test", small, (X,))) == pytest.approx(1)
  assert selfcheck.error(CheckedProgram("test", small, (X,), reference_bits=32)) == 0


def test_programs_have_names_of_their_own_and_the_short_list_is_among_them():
  names = [program.name for program in selfcheck.programs(16)]
  assert len(set(names)) == len(names) > 300
  assert set(selfcheck.SHORT) <= set(names)
  assert {name.split("/")[0] for name in names} == set(KINDS)


def test_references_are_what_numpy_computes():
  """Not only the compiler's own operations against each other."""
  found = {program.name: program for program in selfcheck.programs(16)}
  x, a, b, c, d = found["networks/autoencoder of random parameters"].arguments
  logits = np.tanh(x @ a + b) @ c + d
  (t, noise), (z,), (i, bins) = (found[name].arguments for name in (
      "sums/expm1", "constants/equal rows", "indexing/segment sum"))
  expected = {
      "networks/autoencoder of random parameters": np.sum(x * logits - np.logaddexp(logits, 0), -1),
      "sums/expm1": np.expm1(t) * np.sum(noise * np.expm1(-0.9 * t)[:, None], -1),
      "constants/equal rows": z @ np.tile(np.arange(64) / 64, (64, 1)),
      "indexing/segment sum": np.stack([i[bins == k].sum(0) for k in range(6)]),
  }
  for name, value in expected.items():
    with jax.enable_x64(True), jax.disable_jit():
      reference = found[name].function(*map(jnp.asarray, found[name].arguments))
    np.testing.assert_allclose(reference, value, rtol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("size", [8, 256, 65536])
@pytest.mark.parametrize("kind", KINDS)
def test_compiled_programs_are_right(kind, size):
  errors = {program.name: (selfcheck.error(program), program.tolerance)
            for program in selfcheck.programs(size) if program.name.startswith(kind + "/")}
  wrong = {name: error for name, (error, tolerance) in errors.items() if not error <= tolerance}
  assert errors
  assert not wrong


@pytest.mark.slow
@pytest.mark.parametrize("closed_over", [False, True], ids=["passed_in", "closed_over"])
@pytest.mark.parametrize("name", SMALL)
def test_models_compiled_are_models_one_operation_at_a_time(name, closed_over):
  """Losses with their gradients, and likelihoods, at initialization, where many parameters are equal.

  Closed over, parameters are constants to the compiler. Randomness is by key, the same in both.
  """
  model, key = small_model(name), jax.random.key(0)
  batch = small_batch(model)
  params, carry = jax.jit(model.init)(key, batch)

  def numbers(params, carry, batch):
    found = {}
    for objective in model.objectives:
      def loss(moved, objective=objective):
        return objective.loss({**params, **moved}, carry, batch, key, jnp.int32(3)).loss
      found[objective.name] = jax.value_and_grad(loss)({group: params[group] for group in objective.groups})
    if isinstance(model, HasLogLikelihood):
      found["nats"] = model.log_likelihood(params, carry, batch, key).nats
    if isinstance(model, HasUnnormalized):
      found["unnormalized"] = model.unnormalized_log_prob(params, carry, batch)
    return found

  state = jax.device_get((params, carry, batch))
  if closed_over:
    program = CheckedProgram(name, lambda one: numbers(*jax.tree.map(jnp.asarray, state[:2]), state[2]),
                             (np.float64(1),), 1e-3, 32)
  else:
    program = CheckedProgram(name, numbers, state, 1e-3, 32)
  assert selfcheck.error(program) <= program.tolerance
