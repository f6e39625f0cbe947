"""Operators: adjoints, singular values, pseudo-inverses, and what cannot be measured."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gdm.errors import ConfigError, SpecError
from gdm.inverse.operators import composed, fourier, mask, operator_of, projection, radon
from gdm.inverse.operators.operator import LinearOperator, TightOperator
from gdm.inverse.spectrum import DenseSpectrum, TightSpectrum, matrix_of, spectrum_of

EVENT = (6, 8, 3)
LINEAR = ("mask:0.4", "mask:box", "mask:1", "lowest:2", "blur:0.8", "downsample:2", "grey", "project:7",
          "fourier:2", "fourier:1", "radon:5", "blur:1+downsample:2", "grey+radon:3", "downsample:2+mask:0.5")


def normal(seed, *shape):
  return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


@pytest.mark.fast_cases("blur:0.8", "project:7", "grey", "mask:box")
@pytest.mark.parametrize("text", LINEAR)
def test_the_adjoint_is_the_transpose(text):
  operator = operator_of(text, EVENT)
  assert isinstance(operator, LinearOperator)
  x, y = normal(0, 4, *EVENT), normal(1, 4, *operator.measured)
  forward, back = operator.forward(x), operator.adjoint(y)
  assert forward.shape == y.shape and back.shape == x.shape
  np.testing.assert_allclose(jnp.sum(forward * y), jnp.sum(x * back), rtol=1e-4, atol=1e-4)
  transposed = jax.linear_transpose(operator.forward, jax.ShapeDtypeStruct(x.shape, x.dtype))(y)[0]
  np.testing.assert_allclose(back, transposed, atol=1e-5)


@pytest.mark.fast_cases("mask:box", "mask:1", "grey", "downsample:2")
@pytest.mark.parametrize("text", LINEAR)
def test_the_spectrum_is_the_matrix(text):
  operator = operator_of(text, EVENT)
  spectrum = spectrum_of(operator)
  matrix = np.asarray(matrix_of(operator), np.float64)
  singular = np.linalg.svd(matrix, compute_uv=False)
  num = spectrum.singular.shape[0]
  np.testing.assert_allclose(np.sort(spectrum.singular)[::-1], singular[:num], rtol=1e-4)
  assert np.all(singular[num:] <= 2e-4 * singular[0])
  x, y = normal(0, 3, *EVENT), normal(1, 3, *operator.measured)
  flat = np.asarray(x).reshape(3, -1)
  np.testing.assert_allclose(spectrum.apply(lambda s: 1.0 + s**2, x).reshape(3, -1),
                             flat + flat @ matrix.T @ matrix, rtol=1e-3, atol=1e-3)
  rows = np.asarray(y).reshape(3, -1)
  solved = np.linalg.solve(0.5 * np.eye(len(matrix)) + matrix @ matrix.T, rows.T).T
  left = spectrum.left(lambda s: 1.0 / (0.5 + s**2), y).reshape(3, -1)
  np.testing.assert_allclose(left, solved, rtol=1e-3, atol=1e-3)
  # A A^+ A = A of examples that are measured.
  forward = operator.forward(x)
  np.testing.assert_allclose(operator.forward(spectrum.inverse(forward)), forward, atol=2e-3)


def test_orthogonal_rows_need_no_decomposition():
  for text, gain in (("mask:0.4", 1.0), ("downsample:2", 0.25), ("grey", 1 / 3), ("fourier:2", 1.0)):
    operator = operator_of(text, EVENT)
    assert isinstance(operator, TightOperator) and isinstance(spectrum_of(operator), TightSpectrum)
    assert operator.gain == pytest.approx(gain)
  assert isinstance(spectrum_of(operator_of("blur:1", EVENT)), DenseSpectrum)


def test_all_lines_of_fourier_are_a_basis():
  operator = fourier((5, 4, 1), 1.0)
  assert math.prod(operator.measured) == 20
  x = normal(0, 2, 5, 4, 1)
  np.testing.assert_allclose(operator.adjoint(operator.forward(x)), x, atol=1e-5)


def test_measurements_are_what_their_names_promise():
  x = normal(0, 2, *EVENT)
  np.testing.assert_allclose(operator_of("downsample:2", EVENT).forward(x)[0, 1, 2], x[0, 2:4, 4:6].mean((0, 1)),
                             rtol=1e-5)
  ones = jnp.ones((1, *EVENT))
  np.testing.assert_allclose(operator_of("blur:1.3", EVENT).forward(ones), 1.0, atol=1e-5)
  # Every ray's sum at every angle counts each pixel once.
  np.testing.assert_allclose(radon(EVENT, 4).forward(x).sum(axis=2), np.broadcast_to(
      x.sum(axis=(1, 2))[:, None] / 8, (2, 4, 3)), rtol=1e-3, atol=1e-3)
  # At angle 0 rays run along columns.
  seen = radon((4, 4, 1), 2).forward(normal(2, 1, 4, 4, 1))
  assert np.count_nonzero(np.abs(np.asarray(seen[0, 0, :, 0])) > 1e-4) <= 6
  np.testing.assert_array_equal(operator_of("lowest:2", EVENT).forward(x), np.asarray(x)[:, 4:].reshape(2, -1))
  box = operator_of("mask:box", (8, 8, 1))
  assert box.measured == (48,)
  steps = operator_of("quantize:0.5", EVENT)
  np.testing.assert_allclose(steps.forward(x), np.round(np.asarray(x) / 0.5) * 0.5, atol=1e-6)
  np.testing.assert_allclose(jax.grad(lambda x: jnp.sum(steps.forward(x)))(x), 1.0)
  assert not isinstance(steps, LinearOperator)
  assert not isinstance(operator_of("grey+quantize:1", EVENT), LinearOperator)


def test_one_program_serves_masks_of_one_size():
  traced = []

  @jax.jit
  def measured(operator, x):
    traced.append(0)
    return operator.forward(x)

  x = normal(0, 2, 4)
  for known in ([1, 0, 1, 0], [0, 1, 1, 0]):
    y = measured(mask(np.array(known, bool)), x)
    np.testing.assert_array_equal(y, np.asarray(x)[:, np.array(known, bool)])
  assert len(traced) == 1


@pytest.mark.parametrize(("text", "event", "message"), [
    ("downsampel:2", EVENT, "did you mean 'downsample'?"), ("downsample", EVENT, "it must be downsample:<factor>"),
    ("downsample:x", EVENT, "it must be downsample:<factor>"), ("downsample:4", EVENT, "must divide the height, 6"),
    ("grey:2", EVENT, "it must be grey, without"), ("grey", (4, 4, 1), "has one channel"),
    ("mask:1.5", EVENT, "must be in [0, 1]"), ("mask:middle", EVENT, "mask is 'middle'"),
    ("mask:box", (8,), "hides a region of images"), ("lowest:6", EVENT, "rows of lowest is 6; it must be from 1 to 5"),
    ("blur:0", EVENT, "deviation of blur is 0"),
    ("blur:1", (8,), "measures images"), ("project:0", EVENT, "number of projections is 0"),
    ("fourier:0.5", EVENT, "acceleration of fourier is 0.5"), ("radon:0", EVENT, "number of angles of radon is 0"),
    ("quantize:-1", EVENT, "step of quantize is -1")])
def test_operators_that_cannot_be(text, event, message):
  with pytest.raises((ConfigError, SpecError)) as error:
    operator_of(text, event)
  assert message in str(error.value)


def test_what_does_not_fit_together():
  with pytest.raises(SpecError, match="the first one measures"):
    composed(operator_of("downsample:2", EVENT), operator_of("blur:1", EVENT))
  with pytest.raises(SpecError, match="one for each of the 144"):
    projection(EVENT, np.ones((2, 5)))
  with pytest.raises(SpecError, match="at most 4096"):
    spectrum_of(operator_of("blur:1", (70, 70, 1)))
