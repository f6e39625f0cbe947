"""The base of all denoising networks, and their layers: embedding of time and class, dropout."""

import dataclasses
import math
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from gdm import checks
from gdm.errors import ConfigError, SpecError
from gdm.mesh import constrain_batch
from gdm.networks.dropout import dropout
from gdm.networks.from_data import from_data
from gdm.networks.linear import Linear

STEPS = 1000.0  # times in [0, 1] are embedded as steps of a schedule of so many
LONGEST = 10_000.0  # radians: the longest period over 2 pi, in steps
FOURIER_SCALE = 16.0


def sinusoidal(t: Float[Array, " batch"], width: int) -> Float[Array, "batch width"]:
  """Sines and cosines of 1000 t at frequencies from 1 down to 1/10,000, a geometric sequence.

  Vaswani et al. (arXiv:1706.03762), section 3.5; Ho et al. (arXiv:2006.11239), appendix B. The width is even.
  """
  half = width // 2
  frequencies = np.exp(-math.log(LONGEST) * np.arange(half) / half)
  return _waves(STEPS * t, frequencies)


def fourier(t: Float[Array, " batch"], width: int, scale: float = FOURIER_SCALE) -> Float[Array, "batch width"]:
  """Sines and cosines of 2 pi f t at random frequencies f, normal with standard deviation `scale`.

  Tancik et al. (arXiv:2006.10739); Song et al. (arXiv:2011.13456), appendix C.1. The frequencies are always the same
  ones, and not parameters. The width is even.
  """
  frequencies = np.random.default_rng(0).normal(scale=scale, size=width // 2)
  return _waves(t, 2.0 * np.pi * frequencies)


EMBEDDINGS = {"sinusoidal": sinusoidal, "fourier": fourier}


class TimeEmbedding(nn.Module):
  """Times [batch] and classes -> [batch, width]: two layers with silu between them, and a product with the one-hots.

  A row of the context that is all zeros, as without any context, adds nothing: no label, in classifier-free guidance
  (Ho & Salimans, arXiv:2207.12598).

  Attributes:
    width: of the output.
    features: of the time, even.
    context: width of the one-hot context; 0 for none.
    kind: "sinusoidal" or "fourier".
  """

  width: int
  features: int
  context: int = 0
  kind: str = "sinusoidal"

  def __post_init__(self) -> None:
    if self.features < 2 or self.features % 2:
      raise ConfigError(f"features is {self.features}; it must be even and at least 2: sines and cosines of the time.")
    checks.at_least("context", self.context, 0, "(the number of classes, or 0 for none)")
    checks.one_of("embedding", self.kind, EMBEDDINGS)
    super().__post_init__()

  @nn.compact
  def __call__(self, time: Float[Array, " batch"],
               context: Float[Array, "batch classes"] | None = None) -> Float[Array, "batch width"]:
    found = 0 if context is None else context.shape[-1]
    if found not in (0, self.context):
      raise SpecError(f"the context has width {found}, but the network takes one of {self.context} (0 is none), or "
                      "None for no label.")
    h = EMBEDDINGS[self.kind](time, self.features)
    h = Linear(self.width, self.features**-0.5, use_bias=True, name="first")(h)
    h = Linear(self.width, self.width**-0.5, use_bias=True, name="second")(constrain_batch(jax.nn.silu(h)))
    if not self.context:
      return h
    given = jnp.zeros((time.shape[0], self.context)) if context is None else context
    return h + Linear(self.width, 1.0, name="context")(given)


class DenoisingNetwork(nn.Module):
  """x_t [batch, *event], times [batch] and a context -> [batch, *event] with a last axis of size `outputs`.

  Attributes:
    outputs: size of the output's last axis; the model sets it.
    context: width of the context, 0 for none; the model sets it.
    prefix: how many columns of the context, the first ones, are numbers of tokens, and how many values a token has;
      networks with `takes_prefix` alone have any. The model sets it.
    embedding: of the time: "sinusoidal" or "fourier".
    dropout: rate in the hidden layers, where an rng named "dropout" is given.
  """

  outputs: int = from_data(1)
  _: dataclasses.KW_ONLY
  context: int = from_data(0)
  prefix: tuple[int, int] = from_data((0, 0))
  embedding: str = "sinusoidal"
  dropout: float = 0.0

  takes_prefix: ClassVar[bool] = False  # whether tokens are read one by one

  def __post_init__(self) -> None:
    checks.at_least("outputs", self.outputs, 1)
    checks.rate("network.dropout", self.dropout)
    checks.one_of("network.embedding", self.embedding, EMBEDDINGS)
    super().__post_init__()

  def condition(self, time: Float[Array, " batch"], context: Float[Array, "batch classes"] | None, width: int,
                features: int) -> Float[Array, "batch width"]:
    """Return the embedding of time and class, of this width, from as many features of the time."""
    own = self.context - self.prefix[0]
    return jax.nn.silu(TimeEmbedding(width, features, own, self.embedding, name="embedding")(time, context))


def drop(module: nn.Module, x: Float[Array, "*shape"], rate: float) -> Float[Array, "*shape"]:
  """Return x after dropout at `rate`, where the module was given an rng named "dropout"."""
  key = module.make_rng("dropout") if rate > 0.0 and module.has_rng("dropout") else None
  return dropout(key, x, rate)


def _waves(t: Float[Array, " batch"], frequencies: np.ndarray) -> Float[Array, "batch width"]:
  angles = t[:, None] * jnp.asarray(frequencies, t.dtype)
  return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)
