"""Diffusion models whose noise comes in a number of steps."""

import abc
import dataclasses
from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Array, Float

from gdm.diffusion import bound
from gdm.diffusion.diffusion import Diffusion
from gdm.diffusion.paths.between import Between
from gdm.diffusion.paths.discrete import require_steps
from gdm.diffusion.paths.path import Path, expand, noised
from gdm.diffusion.predictions import Denoise
from gdm.diffusion.samplers.clipping import Clipped
from gdm.diffusion.times import DiscreteUniform, Times
from gdm.errors import ConfigError, SpecError, nearest
from gdm.model import Batch, Params

# What decodes integers from x at time 1 / T.
DECODERS = ("discretized_gaussian", "uniform_prior")


@dataclasses.dataclass(frozen=True)
class DiscreteTime(Diffusion):
  """T steps of noise, trained at their ends i / T; the bound's first step is the reconstruction.

  Attributes:
    num_noise_steps: T.
    decoder: p(data | x) of integers, given x at time 1 / T: discretized_gaussian, the papers', a normal around the
      predicted data, integrated over each level's bin; uniform_prior, in proportion to q(x | data), which uses no
      network. auto is discretized_gaussian of integers. Real data has a decoder of its own, and auto alone.
  """

  num_noise_steps: int = 1000
  decoder: str = "auto"

  default_sampler: ClassVar[str] = "ancestral"

  def __post_init__(self) -> None:
    require_steps(self.num_noise_steps)
    if self.num_noise_steps < 2:
      raise ConfigError(f"num_noise_steps is {self.num_noise_steps}; it must be at least 2.")
    if self.decoder != "auto":
      if self.decoder not in DECODERS:
        raise ConfigError(f"decoder is {self.decoder!r}; {nearest(self.decoder, (*DECODERS, 'auto'))}")
      if not self.spec.is_discrete:
        raise SpecError(f"decoder is {self.decoder!r}, which is of integers, but the data is continuous (spec.levels "
                        "is None); set it to 'auto'.")
    _ = self.whole_path  # it checks its fields
    super().__post_init__()

  @property
  @abc.abstractmethod
  def whole_path(self) -> Path:
    """The path, all of whose times i / T are the steps'."""

  @property
  def default_steps(self) -> int:
    return self.num_noise_steps

  def path(self, params: Params) -> Path:
    return self.whole_path

  def sampling_path(self, params: Params) -> Path:
    return Between(self.whole_path, 1.0 / self.num_noise_steps, 1.0)

  @property
  def times(self) -> Times:
    return DiscreteUniform(self.num_noise_steps)

  @property
  def bound_steps(self) -> int:
    return self.num_noise_steps - 1

  def clipped(self, params: Params, path: Path, context: Float[Array, "batch width"] | None) -> Denoise:
    """Return the prediction of the data that samples and the bound are made of; integers' is kept in [-1, 1].

    The papers' code evaluates the bound so. Where hardly any data is left in x, an error of the predicted noise would
    else be divided by a small alpha: the last step of a cosine schedule weighs it by 1,000.
    """
    denoise = self.denoiser(params, path, context)
    return Clipped(denoise) if self.spec.is_discrete else denoise

  def step_loss(self, params: Params, path: Path, s: Float[Array, " batch"], t: Float[Array, " batch"],
                data: Float[Array, "batch *event"], noise: Float[Array, "batch *event"],
                context: Float[Array, "batch width"] | None) -> Float[Array, " batch"]:
    sample = noised(path, data, noise, t)
    level = sample.level.like(data)
    predicted = self.clipped(params, path, context)(sample.x, t)
    return bound.step_loss(path, s, t, noise, (sample.x - level.alpha * predicted) / level.sigma, self.spec.levels)

  @property
  def predicts_levels(self) -> bool:
    """Whether integers are decoded by the discretized normal around the predicted data."""
    return self.spec.is_discrete and self.decoder in ("auto", "discretized_gaussian")

  @property
  def reconstruction_name(self) -> str:
    if not self.spec.is_discrete:
      return super().reconstruction_name
    return f"reconstruction_{'discretized_gaussian' if self.predicts_levels else self.decoder}"

  def reconstruction(self, params: Params, path: Path, x: Float[Array, "batch *event"],
                     data: Float[Array, "batch *event"], batch: Batch,
                     context: Float[Array, "batch width"] | None) -> Float[Array, " batch"]:
    if not self.predicts_levels:
      return super().reconstruction(params, path, x, data, batch, context)
    t = jnp.full(len(x), 1.0 / self.num_noise_steps, x.dtype)
    mean, log_variance = self.last_step(params, path, x, t, context)
    levels = self.spec.require_discrete("a decoder")
    return bound.discretized_gaussian_loss(mean, log_variance, jnp.asarray(batch["x"], jnp.int32), levels)

  def last_step(self, params: Params, path: Path, x: Float[Array, "batch *event"], t: Float[Array, " batch"],
                context: Float[Array, "batch width"] | None
                ) -> tuple[Float[Array, "batch *event"], Float[Array, "batch *event"]]:
    """Return mean and log-variance of the normal that decodes x at t = 1 / T (arXiv:2006.11239, equation 13).

    The mean of equation 7 is the predicted data, since nothing of x is left in it. The variance is the step's beta
    (section 3.2), which is right where the first noise hides which of several levels a value has.
    """
    mean = self.clipped(params, path, context)(x, t)
    return mean, jnp.broadcast_to(expand(2.0 * jnp.log(path.sigma(t)), x), x.shape)
