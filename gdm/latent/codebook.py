"""A codebook: vectors that encoder outputs are rounded to, kept as running averages of what was rounded to them.

van den Oord, Vinyals and Kavukcuoglu, arXiv:1711.00937, appendix A.1. A codebook is {"counts": [codes], "sums":
[codes, dims]}. Counts are shares of all outputs times the number of codes, so that even use is 1 each; both are linear
in the batch, so that averages over devices and micro-batches are the codebook of the whole batch.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from gdm.errors import ConfigError

Codebook = Mapping[str, Any]
_LEAST = 1e-6  # count below which it falls no further, so that the vector stays what it was


class Rounded(NamedTuple):
  """Encoder outputs rounded: the codes, and their vectors."""

  codes: Int[Array, "*places"]
  vectors: Float[Array, "*places dims"]


def init(key: Key[Array, ""], outputs: Float[Array, "num dims"], num_codes: int) -> Codebook:
  """Return a codebook of `num_codes` different outputs. Raise ConfigError where there are fewer."""
  num = outputs.shape[0]
  if num_codes > num:
    raise ConfigError(f"num_codes is {num_codes}, but the encoder makes {num} vectors of the training examples that "
                      "initialize the codebook; it must be at most that: choose fewer codes, or more "
                      "data.init_examples where there are more.")
  picked = jax.random.choice(key, num, (num_codes,), replace=False)
  return {"counts": jnp.ones(num_codes), "sums": outputs[picked]}


def vectors_of(codebook: Codebook) -> Float[Array, "codes dims"]:
  """Return the vector of each code."""
  return codebook["sums"] / codebook["counts"][:, None]


def nearest(codebook: Codebook, outputs: Float[Array, "*places dims"]) -> Rounded:
  """Return the code nearest to each output, the first of several, and its vector."""
  vectors = vectors_of(codebook)
  # |z - e|^2 without |z|^2, which is the same for all codes.
  distances = jnp.sum(jnp.square(vectors), axis=1) - 2.0 * outputs @ vectors.T
  codes = jnp.argmin(distances, axis=-1)
  return Rounded(codes, vectors[codes])


def straight_through(outputs: Float[Array, "*places dims"],
                     vectors: Float[Array, "*places dims"]) -> Float[Array, "*places dims"]:
  """Return the vectors, whose gradient goes to the outputs as it is (section 3.2)."""
  return outputs + jax.lax.stop_gradient(vectors - outputs)


def updated(codebook: Codebook, outputs: Float[Array, "num dims"], codes: Int[Array, " num"], decay: float,
            dead: float, key: Key[Array, ""]) -> Codebook:
  """Return the codebook after a batch: counts and sums move by 1 - decay; dead codes are put onto an output.

  Args:
    codebook: before the batch; its counts decide which codes are dead, so that all devices agree.
    outputs: of the encoder.
    codes: the code of each.
    decay: of the running averages.
    dead: count below which a code is dead.
    key: of the outputs that dead codes are put onto, at a count of 1; on several devices, onto the mean of one of each.
  """
  num, size = outputs.shape[0], codebook["counts"].shape[0]
  one_hot = jax.nn.one_hot(codes, size) * (size / num)
  kept = jnp.where(codebook["counts"] > _LEAST, decay, 1.0)
  counts = kept * codebook["counts"] + (1.0 - decay) * jnp.sum(one_hot, axis=0)
  sums = kept[:, None] * codebook["sums"] + (1.0 - decay) * one_hot.T @ outputs
  is_dead = codebook["counts"] < dead
  fresh = outputs[jax.random.randint(key, (size,), 0, num)]
  return {"counts": jnp.where(is_dead, 1.0, counts), "sums": jnp.where(is_dead[:, None], fresh, sums)}


def perplexity(codes: Int[Array, "*places"], size: int) -> Float[Array, ""]:
  """Return the exponential of the entropy of which codes are used: `size` where all are used alike."""
  shares = jnp.mean(jax.nn.one_hot(codes.reshape(-1), size), axis=0)
  return jnp.exp(-jnp.sum(jax.scipy.special.xlogy(shares, shares)))
