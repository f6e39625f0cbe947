"""VDM: variational diffusion models, whose noise schedule is learned by the bound (Kingma et al., arXiv:2107.00630).

The bound does not depend on what the schedule is between its ends in continuous time. So VDM learns the ends by the
bound, and what is between them to make the bound's estimate less noisy (section 4.2 and appendices H and I).
"""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, Unpack

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from gdm import checks
from gdm.dataspec import DataSpec
from gdm.diffusion.diffusion import Diffusion
from gdm.diffusion.inputs import NetworkInputs
from gdm.diffusion.paths.path import ByLogSNR, NoisePath, expand, rate, require_fall
from gdm.diffusion.predictions import Parametrization
from gdm.diffusion.recipes import DiffusionFields


def vdm(spec: DataSpec, *, parametrization: str = "noise", schedule: str = "line", log_snr_max: float = 13.3,
        log_snr_min: float = -5.0, fourier: tuple[int, ...] = (), **common: Unpack[DiffusionFields]) -> Diffusion:
  """Return a VDM, trained on the variational bound in continuous time, with learned noise levels at both ends.

  The schedule's parameters are separate groups: "ends", which the bound moves, and of a network "interior", on
  which the bound does not depend: it is moved to make the bound's estimate vary less (appendix I.2).

  Example:
    model = vdm(DataSpec((8, 8, 1), 17), schedule="network", fourier=(3, 4))

  Args:
    spec: the data.
    parametrization: noise, as in the paper, or levels: see `LevelLogits`.
    schedule: line, linear in log-SNR between learned ends, or network, monotone between them.
    log_snr_max, log_snr_min: the ends at first; 2 log(4 (levels - 1)) keeps levels apart.
    fourier: exponents n of the features sin and cos of 2^n pi x_t that the network takes beside x_t (appendix C);
      about log2(levels) tells levels apart.
    common: fields of `Diffusion` that every recipe takes, see `DiffusionFields`.
  """
  checks.one_of("parametrization", parametrization, PARAMETRIZATIONS)
  return Diffusion(
      spec, LearnedSchedule(schedule, log_snr_max, log_snr_min), objective="bound", sampler="ancestral", steps=250,
      parametrization=PARAMETRIZATIONS[parametrization],
      inputs=NetworkInputs(time="log_snr", fourier=tuple(fourier)), **common)


@dataclasses.dataclass(frozen=True)
class NoiseResidual:
  """The noise as x_t, which it nearly is late on the path, and what the network adds (the paper's code)."""

  def outputs(self, spec: DataSpec) -> int:
    return 1

  def value(self, path: NoisePath, x: Float[Array, "batch *event"], t: Float[Array, " batch"],
            outputs: Float[Array, "batch *event"]) -> Float[Array, "batch *event"]:
    return x + outputs


@dataclasses.dataclass(frozen=True)
class LevelLogits:
  """The noise by a distribution over the levels of each number, whose mean is the prediction of the data.

  The network gives log-probabilities as from all other numbers; the likelihood of a number's own level given x_t is
  known, a normal, and multiplied in. So the network need not learn to tell levels apart where there is little noise.
  Predicting continuous data through categories is score interpolation (Dieleman et al., arXiv:2211.15089, section 3.2).
  """

  def outputs(self, spec: DataSpec) -> int:
    return spec.require_discrete("parametrization 'levels'")

  def value(self, path: NoisePath, x: Float[Array, "batch *event"], t: Float[Array, " batch"],
            outputs: Float[Array, "batch *wide"]) -> Float[Array, "batch *event"]:
    level = path.level(t).like(x)
    logits = outputs.reshape(*x.shape, -1)
    values = jnp.linspace(-1.0, 1.0, logits.shape[-1], dtype=x.dtype)
    # log N(x_t; alpha value, sigma^2) of each level, but for a constant.
    snr = expand(jnp.exp(path.log_snr(t)), x)[..., None]
    log_normal = -0.5 * snr * ((x / level.alpha)[..., None] - values) ** 2
    data = jnp.sum(jax.nn.softmax(logits + log_normal) * values, axis=-1)
    return (x - level.alpha * data) / level.sigma


PARAMETRIZATIONS: dict[str, Parametrization] = {"noise": NoiseResidual(), "levels": LevelLogits()}


class LearnedEnds(nn.Module):
  """lambda(t) = start - |range| t, both learned (arXiv:2107.00630, appendix H).

  Attributes:
    log_snr_max: at the data, to start with.
    log_snr_min: at the noise, to start with.
  """

  log_snr_max: float = 13.3
  log_snr_min: float = -5.0

  def setup(self) -> None:
    require_fall(self.log_snr_max, self.log_snr_min)
    self.start = self.param("start", nn.initializers.constant(self.log_snr_max), ())
    self.range = self.param("range", nn.initializers.constant(self.log_snr_max - self.log_snr_min), ())

  def __call__(self, t: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    return self.start - jnp.abs(self.range) * t


class MonotoneNetwork(nn.Module):
  """lambda(t) between learned ends by a network of positive weights (arXiv:2107.00630, appendix H).

  l_1(t) + l_3(sigmoid(l_2(l_1(t)))), with positive weights by absolute values, is scaled and shifted to go from 0 to 1.

  Attributes:
    width: units of the middle layer.
    log_snr_max, log_snr_min: the ends to start with.
  """

  width: int = 1024
  log_snr_max: float = 13.3
  log_snr_min: float = -5.0

  def setup(self) -> None:
    self.line = LearnedEnds(self.log_snr_max, self.log_snr_min)
    normal, zeros = nn.initializers.normal(1.0), nn.initializers.zeros
    self.weights = [self.param("weight_1", nn.initializers.ones, ()), self.param("weight_2", normal, (self.width,)),
                    self.param("weight_3", normal, (self.width,))]
    self.biases = [self.param("bias_1", zeros, ()), self.param("bias_2", normal, (self.width,))]

  def __call__(self, t: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    first, last = self._rising(jnp.zeros((), t.dtype)), self._rising(jnp.ones((), t.dtype))
    return self.line((self._rising(t) - first) / (last - first))

  def _rising(self, t: Array) -> Array:
    one, two, three = (jnp.abs(w) for w in self.weights)
    line = one * t + self.biases[0]
    return line + jnp.mean(three * nn.sigmoid(two * line[..., None] + self.biases[1]), axis=-1)


# Modules of t, by name.
SCHEDULES: dict[str, type[nn.Module]] = {"line": LearnedEnds, "network": MonotoneNetwork}


@dataclasses.dataclass(frozen=True)
class LearnedSchedule:
  """A variance-preserving path whose log-SNR is learned: a `TrainablePath`.

  Attributes:
    schedule: line or network.
    log_snr_max, log_snr_min: the ends at first.
  """

  schedule: str = "line"
  log_snr_max: float = 13.3
  log_snr_min: float = -5.0

  def __post_init__(self) -> None:
    checks.one_of("schedule", self.schedule, SCHEDULES)
    require_fall(self.log_snr_max, self.log_snr_min)

  @property
  def module(self) -> nn.Module:
    return SCHEDULES[self.schedule](log_snr_max=self.log_snr_max, log_snr_min=self.log_snr_min)

  @property
  def bound_groups(self) -> tuple[str, ...]:
    return ("ends",)

  @property
  def spread_groups(self) -> tuple[str, ...]:
    return () if self.schedule == "line" else ("interior",)

  def init(self, key: Key[Array, ""]) -> Mapping[str, Any]:
    out: Any = self.module.init(key, jnp.zeros(1))
    schedule = dict(out["params"])
    ends = schedule.pop("line", None)
    return {"ends": schedule} if ends is None else {"ends": ends, "interior": schedule}

  def bind(self, params: Mapping[str, Any]) -> "BoundSchedule":
    parameters = params["ends"] if self.schedule == "line" else {"line": params["ends"], **params["interior"]}
    return BoundSchedule(self.module, parameters)


@functools.partial(jax.tree_util.register_dataclass, data_fields=("params",), meta_fields=("module",))
@dataclasses.dataclass(frozen=True)
class BoundSchedule(ByLogSNR):
  """A schedule with its parameters as a path: a pytree, made inside the functions that use it.

  Attributes:
    module: t to log-SNR, falling from t = 0 to t = 1; `LearnedEnds` or `MonotoneNetwork`.
    params: parameters of the module; gradients flow to them.
  """

  module: nn.Module
  params: Any

  @property
  def ends(self) -> tuple[float, float]:
    return (0.0, 1.0)

  def _log_snr(self, t: Array) -> Array:
    out: Any = self.module.apply({"params": self.params}, t)
    return out

  def _time(self, log_snr: Array) -> Array:
    """Return the time by bisection, then one step of Newton's, through which the gradient flows."""
    def halve(_, bracket):
      low, high = bracket
      middle = 0.5 * (low + high)
      later = jax.lax.stop_gradient(self._log_snr(middle)) > log_snr
      return jnp.where(later, middle, low), jnp.where(later, high, middle)

    steps = jnp.finfo(log_snr.dtype).nmant
    low, high = jax.lax.fori_loop(0, steps, halve, (jnp.zeros_like(log_snr), jnp.ones_like(log_snr)))
    t = jax.lax.stop_gradient(0.5 * (low + high))
    return t - (self._log_snr(t) - log_snr) / jax.lax.stop_gradient(rate(self._log_snr, t))
