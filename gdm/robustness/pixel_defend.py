"""PixelDefend: an input is moved, value by value, to where an autoregressive model expects data (Song et al.,
arXiv:1710.10766, algorithm 1)."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key, Num

from gdm import checks
from gdm.dataspec import DataSpec
from gdm.errors import ConfigError
from gdm.likelihood import bits_per_dim
from gdm.model import Carry, HasConditionals, HasLogLikelihood, Params


@dataclasses.dataclass(frozen=True)
class PixelDefend:
  """Greedy purification by a model with `conditional_step`: one pass over the values in raster order.

  Each value becomes the likeliest one within epsilon of the input's, given the purified values before it. With
  `most_bits` inputs that the model expects anyway are left alone, as clean ones mostly are (adaptive PixelDefend,
  section 4.2).

  Attributes:
    model: of integers.
    epsilon: how far a value may move, in levels.
    most_bits: bits/dim of an input from which on it is purified; None to purify all.

  Raises:
    ConfigError: the model has no conditionals in raster order, or no likelihood to hold `most_bits` against.
    SpecError: its data are real numbers.

  Example:
    purifier = PixelDefend(pixelcnn, epsilon=16)
    clean = purifier.purify(params, carry, jax.random.key(0), x)
  """

  model: Any
  epsilon: int | float
  most_bits: int | float | None = None

  def __post_init__(self) -> None:
    name = type(self.model).__name__
    self.spec.require_discrete("PixelDefend")
    checks.at_least("epsilon", self.epsilon, 0)
    if not isinstance(self.model, HasConditionals) or self.model.num_steps != self.spec.num_dims:
      raise ConfigError(f"{name} has no conditionals of its {self.spec.num_dims} values in raster order to purify by; "
                        "choose an autoregressive model of images, such as gated_pixelcnn.")
    if self.most_bits is not None:
      checks.positive("most_bits", self.most_bits)
      if not isinstance(self.model, HasLogLikelihood):
        raise ConfigError(f"most_bits is {self.most_bits}, but {name} has no log-likelihood to hold it against; set it "
                          "to None.")

  @property
  def spec(self) -> DataSpec:
    return self.model.spec

  def purify(self, params: Params, carry: Carry, key: Key[Array, ""],
             x: Num[Array | np.ndarray, "batch *event"]) -> Int[Array, "batch *event"]:
    """Return purified examples, within epsilon of x; nothing is drawn but a likelihood's own noise."""
    purified = self._greedy(params, x)
    if self.most_bits is None:
      return purified
    likelihood = self.model.log_likelihood(params, carry, {"x": x}, key)
    expected = jnp.asarray(bits_per_dim(likelihood.nats, likelihood.num_dims) <= self.most_bits)
    return jnp.where(expected.reshape(-1, *(1,) * (x.ndim - 1)), x.astype(jnp.int32), purified)

  def _greedy(self, params: Params, x: Num[Array | np.ndarray, "batch *event"]) -> Int[Array, "batch *event"]:
    levels = jnp.arange(self.spec.require_discrete("PixelDefend"))
    values = jnp.asarray(x).reshape(len(x), -1).astype(jnp.int32).T

    def step(state: tuple[Any, Array], inputs: tuple[Array, Array]) -> tuple[tuple[Any, Array], Array]:
      cache, previous = state
      index, value = inputs
      cache, logits = self.model.conditional_step(params, cache, previous, index)
      within = jnp.abs(levels - value[:, None]) <= self.epsilon
      chosen = jnp.argmax(jnp.where(within, logits, -jnp.inf), axis=1).astype(jnp.int32)
      return (cache, chosen), chosen

    start = (self.model.init_cache(params, len(x)), jnp.zeros(len(x), jnp.int32))
    _, chosen = jax.lax.scan(step, start, (jnp.arange(len(values)), values))
    return chosen.T.reshape(x.shape)


def threshold_of(nats: Float[Array, " examples"], num_dims: int, share: float = 0.95) -> float:
  """Return the bits/dim that a share of examples, of held-back data say, do not exceed: a value for `most_bits`.

  Args:
    nats: log-likelihoods of clean examples.
    num_dims: of each.
    share: of clean examples that are to be left alone, in [0, 1).
  """
  checks.rate("share", share)
  return float(jnp.quantile(-jnp.asarray(nats), share)) / (num_dims * math.log(2.0))
