"""Restoring examples from measurements, by a denoiser or by a model's own posterior or completion."""

import functools
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, Num

from gdm import checks
from gdm.errors import ConfigError, NotFiniteError
from gdm.inverse.operators.operator import Operator
from gdm.inverse.problem import Problem, posed, require_event, require_measurements, require_memory
from gdm.inverse.samplers.by_model import Measurements
from gdm.inverse.samplers.named import MODEL_SAMPLERS, SAMPLERS, Method, fitting, require_fitting
from gdm.model import Carry, Condition, Params

_STATE_COPIES = 4  # of all particles, at the least, that a sampler holds at once
_compiled: dict[Any, Any] = {}


class Restored(NamedTuple):
  """Draws of the examples that measurements were made of.

  Attributes:
    x: the draws, as served: integers are whole.
    mean: mean of the draws before they are rounded, in the data's units.
    deviation: their standard deviation, in the data's units; 0 of one draw.
    info: see `gdm.inverse.samplers.steps.Draws`.
    temporary_bytes: memory of the compiled call on a device beside its arguments and results; None where the compiler
      does not say, and of methods of a model's own.

  Example:
    model = gdm.discrete_diffusion.ardm(DataSpec((4,), 5), network=gdm.discrete_diffusion.Perceptron(hidden=(32,)))
    params, carry = model.init(key, {"x": jnp.zeros((16, 4), jnp.int32)})
    restored = restore(model, params, carry, gdm.inverse.operators.mask(np.arange(4) < 2), jnp.zeros((16, 2)), key)
    mean, deviation = restored.mean, restored.deviation  # [16, 4], of 8 draws each
  """

  x: Num[Array, "num batch *event"]
  mean: Float[Array, "batch *event"]
  deviation: Float[Array, "batch *event"]
  info: Mapping[str, Any]
  temporary_bytes: int | None = None


def restore(model: Any, params: Params, carry: Carry, operator: Operator, y: Num[Array | np.ndarray, "..."],
            key: Key[Array, ""], *, noise: float = 0.0, sampler: str = "", num: int = 8,
            condition: Condition | None = None, guidance: float = 1.0, **settings: int | float) -> Restored:
  """Draw examples given measurements of them.

  Args:
    model: the prior: any model with a denoiser, or that completes examples or draws given measurements itself.
    params, carry: the model's.
    operator: what was measured.
    y: the measurements [batch, *measured], in the data's units.
    key: of the draws.
    noise: deviation of their Gaussian noise, in the data's units.
    sampler: one of `gdm.inverse.fitting(model)`, the first for "": pigdm where there is a denoiser.
    num: draws of each measurement.
    condition: labels or contexts [batch], where the model takes them.
    guidance: of labels, 1 is none.
    settings: of the sampler, as num_steps.

  Raises:
    ConfigError: the sampler is unknown, not one of this model, or cannot take the noise, a setting or guidance; more
      particles than fit in memory.
    SpecError: the operator is of another event, or not linear where it must be; measurements of another shape.
    DataError: measurements hold NaN or infinity.
    NotFiniteError: draws are not finite.

  Example:
    run = gdm.load("runs/edm")
    operator = gdm.inverse.operators.downsampling(run.spec.event, 2)
    y = gdm.inverse.measure(operator, x, 0.5, jax.random.key(0))
    restored = gdm.inverse.restore(run.model, run.params, run.carry, operator, y, jax.random.key(1), noise=0.5)
  """
  require_fitting(model, sampler)
  sampler = sampler or fitting(model)[0]
  checks.at_least("num", num, 1)
  prior: Any = model
  require_event(operator, prior.spec.event)
  if sampler in MODEL_SAMPLERS:
    if guidance != 1.0:
      raise ConfigError(f"guidance is {guidance:g}, but {sampler} takes none; choose a sampler of a model with a "
                        "denoiser, or 1.")
    return _by_itself(prior, params, carry, operator, y, noise, key, sampler, num, condition, settings)
  method = SAMPLERS[sampler]
  method.require(sampler, operator, noise, settings)
  batch = len(y)
  scaling = prior.denoising(params, carry, batch, condition, guidance)
  problem = posed(scaling, operator, y, noise, decompose=method.linear)
  static = (model, method, num, float(guidance), tuple(sorted(settings.items())))
  arguments = (params, carry, problem, key, condition)
  free, num_particles = available_bytes(), {**method.settings, **settings}.get("num_particles", 0)
  if method.particles:
    require_memory(_STATE_COPIES * 4 * batch * math.prod(operator.event) * num_particles, free, num_particles)
  call, temporary_bytes = _program(static, arguments)
  if method.particles and temporary_bytes is not None:
    require_memory(temporary_bytes, free, num_particles)
  x, mean, deviation, info = call(*arguments)
  return _finite(Restored(x, mean, deviation, info, temporary_bytes), sampler)


def _by_itself(model: Any, params: Params, carry: Carry, operator: Operator, y: Num[Array | np.ndarray, "..."],
               noise: float, key: Key[Array, ""], sampler: str, num: int, condition: Condition | None,
               settings: Mapping[str, Any]) -> Restored:
  """Draw by a method of the model, in the data's units; integers are rounded."""
  MODEL_SAMPLERS[sampler].require(sampler, noise, settings)
  require_measurements(operator, y)
  seen = Measurements(operator, jnp.asarray(y, jnp.float32), jnp.asarray(noise, jnp.float32))
  draws = MODEL_SAMPLERS[sampler].function(model, params, carry, seen, key, num, condition)
  if np.any(np.asarray(draws.info.get("undefined", 0.0)) > 0.0):
    raise NotFiniteError(f"{type(model).__name__} makes examples whose likelihood is NaN; its parameters or the "
                         "measurements are not finite.")
  data, levels = draws.x.astype(jnp.float32), model.spec.levels
  x = draws.x if levels is None else jnp.clip(jnp.round(data), 0, levels - 1).astype(jnp.int32)
  return _finite(Restored(x, jnp.mean(data, axis=0), jnp.std(data, axis=0), draws.info), sampler)


def _finite(found: Restored, sampler: str) -> Restored:
  """Raise NotFiniteError where draws are not finite."""
  if not np.all(np.isfinite(found.mean)):
    raise NotFiniteError(f"draws by {sampler} are not finite; try more steps, or another sampler.")
  return found


@functools.partial(jax.jit, static_argnames=("model", "method", "num", "guidance", "settings"))
def _drawn(model: Any, method: Method, num: int, guidance: float, settings: tuple, params: Params, carry: Carry,
           problem: Problem, key: Key[Array, ""], condition: Any) -> tuple[Array, Array, Array, Mapping[str, Any]]:
  """Compiled once for each shape of the measurements and the operator's arrays."""
  denoiser = model.denoising(params, carry, len(problem.y), condition, guidance)
  draws = method.function(denoiser, problem, key, num, **dict(settings))
  data = denoiser.data(draws.x)
  served = jax.vmap(lambda values: model.served(carry, values))(draws.x)
  return served, jnp.mean(data, axis=0), jnp.std(data, axis=0), draws.info


def _program(static: tuple, arguments: tuple) -> tuple[Any, int | None]:
  """Return the compiled call, compiled once for each shape and place of its arguments, and its temporary memory."""
  leaves, tree = jax.tree.flatten(arguments)
  name = (static, tree, tuple((jnp.shape(leaf), jnp.result_type(leaf), getattr(leaf, "sharding", None))
                              for leaf in leaves))
  if name not in _compiled:
    _compiled[name] = _drawn.lower(*static, *arguments).compile()
  memory = _compiled[name].memory_analysis()
  return _compiled[name], None if memory is None else memory.temp_size_in_bytes


def available_bytes() -> int | None:
  """Return the memory that is free on the device, or on a CPU in the machine; None where that is not known."""
  device = jax.local_devices()[0]
  stats = None if device.platform == "cpu" else device.memory_stats()
  if stats:
    return int(stats["bytes_limit"] - stats["bytes_in_use"])
  meminfo = Path("/proc/meminfo")
  if device.platform != "cpu" or not meminfo.exists():
    return None
  lines = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
  return int(lines["MemAvailable"].split()[0]) * 1024 if "MemAvailable" in lines else None
