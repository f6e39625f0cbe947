"""VDM: variational diffusion models, whose noise schedule is learned by the bound (Kingma et al., arXiv:2107.00630)."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from gdm.dataspec import DataSpec
from gdm.diffusion import bound
from gdm.diffusion.diffusion import Diffusion
from gdm.diffusion.likelihoods import reconstruction
from gdm.diffusion.paths.learned import Learned, LearnedEnds, MonotoneNetwork
from gdm.diffusion.paths.path import Path, expand, noised, normalized_log_snr
from gdm.diffusion.times import draw
from gdm.errors import ConfigError, nearest
from gdm.model import Batch, Carry, LossOutput, Mean, Objective, Params

# Modules of t, by the log-SNRs to start with.
SCHEDULES: dict[str, type[nn.Module]] = {"line": LearnedEnds, "network": MonotoneNetwork}


class Parametrization(NamedTuple):
  """How many numbers the network gives for each of an example, and the noise that they imply: (path, x_t, t, raw)."""

  outputs: Callable[[DataSpec], int]
  noise: Callable[[Path, Array, Array, Array], Array]


def from_noise(path: Path, x: Float[Array, "batch *event"], t: Float[Array, " batch"],
               raw: Float[Array, "batch *event"]) -> Float[Array, "batch *event"]:
  """The noise as x_t, which it nearly is late on the path, and what the network adds (the paper's code)."""
  return x + raw


def from_levels(path: Path, x: Float[Array, "batch *event"], t: Float[Array, " batch"],
                raw: Float[Array, "batch *wide"]) -> Float[Array, "batch *event"]:
  """The noise by a distribution over the levels of each number, whose mean is the prediction of the data.

  The network gives log-probabilities as from all other numbers; what x_t says of its own number is known, a normal, and
  multiplied in. So the network need not learn to tell levels apart where there is little noise. Predicting continuous
  data through categories is score interpolation (Dieleman et al., arXiv:2211.15089, section 3.2).
  """
  level = path.level(t).like(x)
  logits = raw.reshape(*x.shape, -1)
  values = jnp.linspace(-1.0, 1.0, logits.shape[-1], dtype=x.dtype)
  snr = expand(jnp.exp(path.log_snr(t)), x)[..., None]
  own = -0.5 * snr * ((x / level.alpha)[..., None] - values) ** 2
  data = jnp.sum(jax.nn.softmax(logits + own) * values, axis=-1)
  return (x - level.alpha * data) / level.sigma


PARAMETRIZATIONS = {
    "noise": Parametrization(lambda spec: 1, from_noise),
    "levels": Parametrization(lambda spec: spec.require_discrete("parametrization 'levels'"), from_levels),
}


@dataclasses.dataclass(frozen=True)
class VDM(Diffusion):
  """Trained on the variational bound in continuous time, whose noise levels at both ends are learned with it.

  The schedule's parameters are groups of their own: "ends", which the bound moves, and of a network "interior", on
  which the bound does not depend: it is moved to make the bound's estimate vary less (appendix I.2).

  Attributes:
    parametrization: noise, as in the paper, or levels: see `from_levels`.
    schedule: line, linear in log-SNR between learned ends, or network, monotone between them.
    log_snr_max, log_snr_min: of the ends at first; 2 log(4 (levels - 1)) keeps levels apart.
    fourier: exponents n of the features sin and cos of 2^n pi z that the network sees beside z (appendix C); those of
      about log2(levels) tell levels apart.
  """

  parametrization: str = "noise"
  schedule: str = "line"
  log_snr_max: float = 13.3
  log_snr_min: float = -5.0
  fourier: tuple[int, ...] = ()

  default_sampler: ClassVar[str] = "ancestral"

  def __post_init__(self) -> None:
    for name, known in (("schedule", SCHEDULES), ("parametrization", PARAMETRIZATIONS)):
      if getattr(self, name) not in known:
        raise ConfigError(f"{name} is {getattr(self, name)!r}; {nearest(getattr(self, name), known)}")
    super().__post_init__()

  @property
  def schedule_module(self) -> nn.Module:
    return SCHEDULES[self.schedule](log_snr_max=self.log_snr_max, log_snr_min=self.log_snr_min)

  @property
  def objectives(self) -> tuple[Objective, ...]:
    moves_all = Objective(groups=("model", "ends"), loss=self.loss, unit="nats per dim")
    variance = Objective(groups=("interior",), loss=self.variance, unit="squared nats per dim")
    return (moves_all,) if self.schedule == "line" else (moves_all, variance)

  def init(self, key: Key[Array, ""], batch: Batch) -> tuple[Params, Carry]:
    params, carry = super().init(key, batch)
    out: Any = self.schedule_module.init(jax.random.fold_in(key, 1), jnp.zeros(1))
    schedule = dict(out["params"])
    ends = schedule.pop("line", None)
    return {**params, **({"ends": schedule} if ends is None else {"ends": ends, "interior": schedule})}, carry

  @property
  def default_steps(self) -> int:
    return 250

  def path(self, params: Params) -> Path:
    schedule = {"line": params["ends"], **params["interior"]} if "interior" in params else params["ends"]
    return Learned(self.schedule_module, schedule)

  def sampling_path(self, params: Params) -> Path:
    return self.path(params)  # its first noise level is learned

  def network_time(self, path: Path, t: Float[Array, " batch"]) -> Float[Array, " batch"]:
    return normalized_log_snr(path, t)

  def features(self, x: Float[Array, "batch *event"]) -> Float[Array, "batch *wide"]:
    waves = [wave(2.0**n * math.pi * x) for n in self.fourier for wave in (jnp.sin, jnp.cos)]
    return jnp.concatenate([x, *waves], axis=-1)

  @property
  def outputs(self) -> int:
    return PARAMETRIZATIONS[self.parametrization].outputs(self.spec)

  def predict(self, params: Params, path: Path, x: Float[Array, "batch *event"], t: Float[Array, " batch"],
              context: Float[Array, "batch width"] | None = None,
              key: Key[Array, ""] | None = None) -> Float[Array, "batch *event"]:
    """The noise."""
    raw = self.raw(params, path, x, t, context, key)
    return PARAMETRIZATIONS[self.parametrization].noise(path, x, t, raw)

  def loss(self, params: Params, carry: Carry, batch: Batch, key: Key[Array, ""], step: Array) -> LossOutput:
    """The bound in nats per dimension, a mean over the batch (equation 11)."""
    path, scaling = self.path(params), self.scaling(carry)
    data = scaling.values(jnp.asarray(batch["x"]))
    diffusion = self._diffusion(params, path, data, batch, key)
    first = jnp.zeros(len(data), data.dtype)
    noise = jax.random.normal(jax.random.fold_in(key, 1), data.shape, data.dtype)
    x = noised(path, data, noise, first).x
    parts = {"prior": bound.prior_loss(path, data), "diffusion": diffusion,
             "reconstruction": reconstruction(self, path, x, data, batch)}
    log_det = jnp.zeros(()) if self.spec.is_discrete else scaling.log_det(self.spec)
    nats = parts["prior"] + parts["diffusion"] + parts["reconstruction"] - log_det
    metrics = {"nll": Mean.of(nats), **{name: Mean.of(part) for name, part in parts.items()}}
    return LossOutput(jnp.mean(nats) / self.spec.num_dims, metrics, carry)

  def variance(self, params: Params, carry: Carry, batch: Batch, key: Key[Array, ""], step: Array) -> LossOutput:
    """The mean square of the diffusion loss per dimension: its variance but for a constant (appendix I.2)."""
    path = self.path(params)
    data = self.scaling(carry).values(jnp.asarray(batch["x"]))
    squares = (self._diffusion(params, path, data, batch, key) / self.spec.num_dims) ** 2
    return LossOutput(jnp.mean(squares), {"mean_square": Mean.of(squares)}, carry)

  def _diffusion(self, params: Params, path: Path, data: Float[Array, "batch *event"], batch: Batch,
                 key: Key[Array, ""]) -> Float[Array, " batch"]:
    """The diffusion loss at one time for each example, in nats."""
    time_key, noise_key, label_key, dropout_key = jax.random.split(key, 4)
    t, density = draw(self.times, path, time_key, len(data))
    sample = noised(path, data, jax.random.normal(noise_key, data.shape, data.dtype), t)
    context = self._dropped(self.context(batch.get("y")), label_key)
    value = self.predict(params, path, sample.x, t, context, dropout_key)
    return bound.diffusion_loss(path, t, sample.noise, value, density, self.spec.levels)
