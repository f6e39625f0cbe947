"""Posterior samplers by name, and their requirements: samplers for denoisers, and models' own methods."""

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from gdm import checks
from gdm.errors import ConfigError, SpecError, nearest
from gdm.inverse.operators.operator import LinearOperator, Operator
from gdm.inverse.samplers import by_model
from gdm.inverse.samplers.ddrm import ddrm
from gdm.inverse.samplers.dps import dps
from gdm.inverse.samplers.particles import particles
from gdm.inverse.samplers.pigdm import pigdm
from gdm.inverse.samplers.projection import projection
from gdm.inverse.samplers.repaint import repaint
from gdm.inverse.samplers.replacement import replacement
from gdm.inverse.samplers.steps import Draws
from gdm.inverse.samplers.twisted import twisted
from gdm.model import HasComplete, HasDenoiser, HasPosterior

# Settings -> the least value and the largest, None for no limit.
_LIMITS: dict[str, tuple[float, float | None]] = {
    "num_steps": (1, None), "num_resamples": (1, None), "num_particles": (2, None), "eta": (0.0, 1.0),
    "eta_measured": (0.0, 1.0), "strength": (0.0, 1.0), "step_size": (0.0, None)}


@dataclasses.dataclass(frozen=True)
class Method:
  """A posterior sampler.

  Attributes:
    function: (denoiser, problem, key, num, settings by keyword) -> draws.
    linear: whether it needs a linear operator.
    noiseless: whether it needs measurements without noise.
    noisy: whether it needs measurements with noise.
    particles: whether its memory is that of `num_particles` for each measurement.
  """

  function: Callable[..., Draws]
  linear: bool = True
  noiseless: bool = False
  noisy: bool = False
  particles: bool = False

  @property
  def settings(self) -> Mapping[str, Any]:
    """Settings and their defaults."""
    parameters = inspect.signature(self.function).parameters.values()
    return {each.name: each.default for each in parameters if each.kind is each.KEYWORD_ONLY}

  def require(self, name: str, operator: Operator, noise: float, settings: Mapping[str, Any]) -> None:
    """Raise SpecError where it cannot take an operator, ConfigError for noise or a setting that it cannot take."""
    if self.linear and not isinstance(operator, LinearOperator):
      raise SpecError(f"sampler is {name!r}, which needs a linear operator, but {type(operator).__name__} is not "
                      "linear; choose dps.")
    if self.noiseless and noise > 0.0:
      raise ConfigError(f"noise is {noise}, but sampler {name!r} takes measurements as exact; set noise to 0, or "
                        "choose ddrm, pigdm, dps or particles.")
    if self.noisy and noise == 0.0:
      raise ConfigError(f"noise is 0, but sampler {name!r} needs measurements with noise; set noise above 0, or choose "
                        "particles, ddrm or pigdm.")
    for setting, value in settings.items():
      if setting not in self.settings:
        raise ConfigError(f"sampler {name} has no setting {setting!r}; {nearest(setting, self.settings)}")
      low, high = _LIMITS[setting]
      checks.at_least(setting, value, low)
      if high is not None and value > high:
        raise ConfigError(f"{setting} is {value}; it must be at most {high}.")


@dataclasses.dataclass(frozen=True)
class ModelMethod:
  """A posterior sampler that calls a method of the model and needs no denoiser.

  Attributes:
    function: (model, params, carry, measurements, key, num, condition) -> draws, in the data's units.
    needs: the protocol that the model must satisfy.
    noisy: whether measurements must have noise; otherwise they must have none.
  """

  function: Callable[..., Draws]
  needs: type
  noisy: bool

  def require(self, name: str, noise: float, settings: Mapping[str, Any]) -> None:
    """Raise ConfigError for noise or a setting that it cannot take."""
    if self.noisy != (noise > 0.0):
      needed = "with noise; set noise above 0" if self.noisy else "without noise; set noise to 0"
      raise ConfigError(f"noise is {noise}, but sampler {name!r} needs measurements {needed}, or choose another "
                        "sampler.")
    for setting in settings:
      raise ConfigError(f"sampler {name} has no setting {setting!r}; leave it out.")


MODEL_SAMPLERS: dict[str, ModelMethod] = {
    "completion": ModelMethod(by_model.completion, HasComplete, noisy=False),
    "posterior": ModelMethod(by_model.posterior, HasPosterior, noisy=True),
}

SAMPLERS: dict[str, Method] = {
    "replacement": Method(replacement, noiseless=True),
    "repaint": Method(repaint, noiseless=True),
    "projection": Method(projection),
    "ddrm": Method(ddrm),
    "pigdm": Method(pigdm),
    "dps": Method(dps, linear=False),
    "particles": Method(particles, particles=True),
    "twisted": Method(twisted, noisy=True, particles=True),
}


def fitting(model: Any) -> tuple[str, ...]:
  """Return the names of the samplers that a model can be restored by, the one to take first at the front.

  Example:
    names = fitting(gdm.diffusion.ddpm(DataSpec((8, 8, 1), 17)))
    names[0]  # pigdm
  """
  of_denoiser = ("pigdm", *(name for name in SAMPLERS if name != "pigdm")) if isinstance(model, HasDenoiser) else ()
  return (*of_denoiser, *(name for name, method in MODEL_SAMPLERS.items() if isinstance(model, method.needs)))


def require_fitting(model: Any, name: str = "") -> None:
  """Raise ConfigError where a model cannot be restored by a sampler, or by any for "", or there is none of the name."""
  names, kind = fitting(model), type(model).__name__
  if name and name not in SAMPLERS | MODEL_SAMPLERS:
    raise ConfigError(f"sampler is {name!r}; {nearest(name, [*SAMPLERS, *MODEL_SAMPLERS])}")
  if not names:
    raise ConfigError(f"{kind} has no denoiser to restore by, and neither completes examples nor draws given "
                      "measurements; choose the run of a diffusion model, an energy, a flow or an autoregressive "
                      "model.")
  if name and name not in names:
    needed = "a denoiser" if name in SAMPLERS else f"what {MODEL_SAMPLERS[name].needs.__name__} says"
    raise ConfigError(f"sampler is {name!r}, which needs {needed}; {kind} has none: choose {' or '.join(names)}.")
