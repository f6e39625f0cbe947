"""An inverse problem: measurements of examples, the operator that made them, and the deviation of their noise."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Num

from gdm import checks
from gdm.errors import ConfigError, DataError, SpecError
from gdm.inverse.operators.composition import LinearComposition
from gdm.inverse.operators.operator import Leaf, LinearOperator, Operator, registered
from gdm.inverse.spectrum import Spectrum, spectrum_of
from gdm.model import Denoiser


@registered("operator", "y", "noise", "spectrum", static=())
@dataclasses.dataclass(frozen=True)
class Problem:
  """Measurements y = A(x_0) + noise of unknown values x_0.

  Attributes:
    operator: A, which acts on values.
    y: the measurements.
    noise: deviation of their Gaussian noise, in the units of y.
    spectrum: singular values of A; None where it is not linear, or was not decomposed.

  Example:
    operator = gdm.inverse.operators.downsampling((8, 8, 1), 2)
    problem = Problem(operator, jnp.zeros((16, 4, 4, 1)), jnp.asarray(0.0), spectrum_of(operator))
    x = problem.kept(jax.random.normal(key, (16, 8, 8, 1)))  # whose blocks of 2 x 2 pixels have the mean 0
  """

  operator: Any  # an Operator
  y: Leaf  # Float[Array, "batch *measured"]
  noise: Leaf  # Float[Array, ""]
  spectrum: Any  # a Spectrum or None

  def repeated(self, num: int) -> "Problem":
    """Return the problem with all measurements `num` times, one round after the other."""
    return dataclasses.replace(self, y=jnp.tile(self.y, (num, *(1,) * (self.y.ndim - 1))))

  def residual(self, x: Float[Array, "batch *event"]) -> Float[Array, "batch *measured"]:
    """Return y - A(x)."""
    return self.y - self.operator.forward(x)

  def kept(self, x: Float[Array, "batch *event"]) -> Float[Array, "batch *event"]:
    """Return x moved to the nearest values that have the measurements, where these are without noise."""
    return jnp.where(self.noise == 0.0, x + self.spectrum.inverse(self.residual(x)), x)


@registered("operator", "centre", "scale", static=())
@dataclasses.dataclass(frozen=True)
class OfValues:
  """An operator that acts on data, given values.

  Attributes:
    operator: what acts on data.
    centre, scale: data are centre + scale * values.
  """

  operator: Any  # an Operator
  centre: Leaf  # Array
  scale: Leaf  # Array

  @property
  def event(self) -> tuple[int, ...]:
    return self.operator.event

  @property
  def measured(self) -> tuple[int, ...]:
    return self.operator.measured

  def forward(self, x: Float[Array, "batch *event"]) -> Float[Array, "batch *measured"]:
    return self.operator.forward(self.centre + self.scale * x)


@registered("scale")
@dataclasses.dataclass(frozen=True)
class Scaled:
  """Each entry times a factor of its own.

  Attributes:
    scale: the factors.
    event: shape of an example.
  """

  scale: Leaf  # Float[Array, "*event"]
  event: tuple[int, ...]

  @property
  def measured(self) -> tuple[int, ...]:
    return self.event

  def forward(self, x: Float[Array, "batch *event"]) -> Float[Array, "batch *event"]:
    return self.scale * x

  def adjoint(self, y: Float[Array, "batch *event"]) -> Float[Array, "batch *event"]:
    return self.scale * y


def posed(denoiser: Denoiser, operator: Operator, y: Num[Array | np.ndarray, "batch *measured"], noise: float,
          decompose: bool = True) -> Problem:
  """Return the problem in a denoiser's values, of measurements in the data's units.

  Args:
    denoiser: whose values are sought; its scaling must be known, not traced.
    operator: what was measured of data.
    y: the measurements.
    noise: deviation of their noise, in the data's units.
    decompose: whether to find the singular values of a linear operator.

  Raises:
    SpecError: the measurements have another shape than the operator's.
    DataError: they hold NaN or infinity.
    ConfigError: the noise is negative.
    SpecError: the operator is too large to be decomposed.

  Example:
    model = gdm.diffusion.edm(DataSpec((2,), None))
    params, carry = model.init(key, {"x": jax.random.normal(key, (16, 2))})
    operator = gdm.inverse.operators.mask(np.array([True, False]))
    problem = posed(model.denoising(params, carry), operator, jnp.zeros((16, 1)), noise=0.1)
  """
  require_measurements(operator, y)
  checks.at_least("noise", noise, 0.0, "(a deviation, in the data's units)")
  y = jnp.asarray(y, jnp.float32)
  scale = jnp.asarray(denoiser.scale, jnp.float32)
  if not isinstance(operator, LinearOperator):
    centre = jnp.broadcast_to(jnp.asarray(denoiser.centre, jnp.float32), operator.event)
    return Problem(OfValues(operator, centre, scale), y, jnp.asarray(noise, jnp.float32), None)
  centre = jnp.broadcast_to(jnp.asarray(denoiser.centre, jnp.float32), (1, *operator.event))
  y = y - operator.forward(centre)
  if scale.size == 1:  # y / scale measures values by the same operator
    unit = jnp.reshape(scale, ())
    y, deviation, of_values = y / unit, noise / unit, operator
  else:
    scale, deviation = jnp.broadcast_to(scale, operator.event), noise
    of_values = LinearComposition(Scaled(scale, tuple(operator.event)), operator)
  spectrum: Spectrum | None = spectrum_of(of_values) if decompose else None
  return Problem(of_values, y, jnp.asarray(deviation, jnp.float32), spectrum)


def measure(operator: Operator, x: Num[Array | np.ndarray, "batch *event"], noise: float,
            key: jax.Array) -> Float[Array, "batch *measured"]:
  """Return measurements of data with Gaussian noise of a deviation, in the data's units.

  Raise SpecError where the operator is of another event, ConfigError where the noise is negative.

  Example:
    operator = gdm.inverse.operators.downsampling((8, 8, 1), 2)
    y = measure(operator, jnp.ones((16, 8, 8, 1)), noise=0.1, key=key)  # [16, 4, 4, 1]
  """
  require_event(operator, x.shape[1:])
  checks.at_least("noise", noise, 0.0, "(a deviation, in the data's units)")
  y = operator.forward(jnp.asarray(x, jnp.float32))
  return y + noise * jax.random.normal(key, y.shape)


def require_event(operator: Operator, event: tuple[int, ...]) -> None:
  """Raise SpecError where an operator is of another event."""
  if tuple(operator.event) != tuple(event):
    raise SpecError(f"the operator is of events {tuple(operator.event)}, but the examples are {tuple(event)}; make it "
                    "for that shape.")


def require_measurements(operator: Operator, y: Num[Array | np.ndarray, "batch *measured"]) -> None:
  """Raise SpecError where measurements have another shape than an operator's, DataError where they are not finite."""
  if tuple(y.shape[1:]) != tuple(operator.measured):
    raise SpecError(f"the measurements have shape {tuple(y.shape)}; it must be (number, "
                    f"{', '.join(map(str, operator.measured))}), as {type(operator).__name__} measures.")
  wrong = np.flatnonzero(~np.isfinite(np.asarray(y).reshape(len(y), -1)).all(axis=1))
  if wrong.size:
    raise DataError(f"measurement {wrong[0]} holds NaN or infinity; leave out what was not measured by a mask.")


def require_memory(needed: int, available: int | None, num_particles: int) -> None:
  """Raise ConfigError where particles need more bytes than there are."""
  if available is not None and needed > available:
    fits = max(1, math.floor(num_particles * available / needed))
    raise ConfigError(f"num_particles is {num_particles}, which needs {needed / 2**30:.2f} GiB, but "
                      f"{available / 2**30:.2f} GiB are free; set it to at most {fits}, or restore fewer examples at a "
                      "time.")
