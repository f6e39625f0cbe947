"""Latents of a run's examples: encoded and decoded in batches, the ways between them, and directions of labels."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.special
from jaxtyping import Array, Float, Integer, Num

from gdm.batches import given
from gdm.errors import ConfigError
from gdm.model import HasLatent, HasPriorLatents
from gdm.training.streams import stream_key

if TYPE_CHECKING:
  from gdm.runs.trained import TrainedRun

ACTIVE = 0.01  # least variance over examples of a latent that is used (arXiv:1509.00519, section 5.2)


class Encoded(NamedTuple):
  """Examples x [num, *event], their latents z [num, *latent], and labels [num] where the data have them."""

  x: np.ndarray
  z: np.ndarray
  y: np.ndarray | None


class Latents:
  """A run's latents.

  Args:
    run: a run whose model has latents.

  Raise ConfigError where it has none.

  Example:
    latents = Latents(gdm.load("runs/vae"))
    faces = latents.encode("test", np.arange(2))
    halfway = latents.decode(line(faces.z[:1], faces.z[1:], 0.5), None)
  """

  def __init__(self, run: "TrainedRun") -> None:
    model: Any = run.model
    self._run, self._model = run, model
    if not isinstance(run.model, HasLatent | HasPriorLatents):
      raise ConfigError(f"{run.config.model.name} has no latents to look into.")
    self.is_conditional = bool(given(run.model))
    self.has_encoder = isinstance(run.model, HasLatent)
    key = stream_key(jax.random.key(0), "latent", 0)
    self._encode = jax.jit(lambda batch: model.encode(run.params, run.carry, batch, key))
    self._decode = jax.jit(lambda z, y: model.decode(run.params, run.carry, z, jax.random.key(0),
                                                     **({} if y is None else {"condition": y})))

  def encode(self, split: str, examples: Integer[np.ndarray, " num"]) -> Encoded:
    """Return examples of a split by their numbers, with latents."""
    rows = self._run.dataset.split(split).rows(examples)
    more = {name: rows[name] for name in ("y", "context") if name in rows}
    return Encoded(rows["x"], self.encode_examples(rows["x"], more), rows.get("y"))

  def encode_examples(self, x: Num[np.ndarray, "num *event"], more: Mapping[str, Array | np.ndarray]) -> np.ndarray:
    """Return the latents [num, *latent] of examples; `more` are their labels and contexts, where there are any.

    Raise ConfigError where the model has no encoder.
    """
    if not self.has_encoder:
      raise ConfigError(f"{self._run.config.model.name} makes examples of latents, and cannot tell those of examples.")
    batch = {"x": x, **{name: np.asarray(rows) for name, rows in more.items()}}
    return self._batched(lambda start, stop: self._encode({name: value[start:stop] for name, value in batch.items()}),
                         len(x))

  def from_prior(self, num: int) -> np.ndarray:
    """Draw latents [num, *latent] from the prior. Raise ConfigError where the model cannot."""
    if not isinstance(self._model, HasPriorLatents):
      raise ConfigError(f"{self._run.config.model.name} has no latents to draw.")
    key = stream_key(jax.random.key(self._run.config.sampling.seed), "prior_latents", 0)
    return np.asarray(self._model.prior_latents(self._run.params, key, num))

  def decode(self, z: Float[Array | np.ndarray, "num *latent"], y: np.ndarray | None,
             context: np.ndarray | None = None) -> np.ndarray:
    """Return what latents become, given labels and contexts where the model is conditional on them."""
    found = {name: rows for name, rows in (("context", context), ("y", y))
             if rows is not None and name in given(self._model)}
    rows = found["y"] if found.keys() == {"y"} else found or None
    return self._batched(lambda start, stop: self._decode(
        z[start:stop], jax.tree.map(lambda each: each[start:stop], rows)), len(z))

  def _batched(self, call, num: int) -> np.ndarray:
    size = self._run.config.evaluation.batch_size
    return np.concatenate([np.asarray(call(start, min(start + size, num))) for start in range(0, num, size)])


def line(a: Float[Array | np.ndarray, "num *latent"], b: Float[Array | np.ndarray, "num *latent"],
         share: int | float) -> Float[Array | np.ndarray, "num *latent"]:
  """Return points on the straight lines from a to b."""
  return (1.0 - share) * a + share * b


def great_circle(a: Float[Array | np.ndarray, "batch *latent"], b: Float[Array | np.ndarray, "batch *latent"],
                 share: int | float) -> Float[Array, "batch *latent"]:
  """Points between a and b: directions along the great circle, lengths in proportion (White, arXiv:1609.04468).

  On a straight line between two draws of a normal in many dimensions the middle is shorter than any draw.
  """
  flat_a, flat_b = jnp.reshape(a, (len(a), -1)), jnp.reshape(b, (len(b), -1))
  length_a, length_b = (jnp.linalg.norm(flat, axis=1, keepdims=True) for flat in (flat_a, flat_b))
  tiny = jnp.finfo(flat_a.dtype).tiny
  unit_a, unit_b = flat_a / jnp.maximum(length_a, tiny), flat_b / jnp.maximum(length_b, tiny)
  angle = jnp.arccos(jnp.clip(jnp.sum(unit_a * unit_b, axis=1, keepdims=True), -1.0, 1.0))
  straight = (jnp.sin(angle) < 1e-4) | (length_a == 0.0) | (length_b == 0.0)  # zeros have no direction
  safe = jnp.where(straight, 1.0, angle)
  around = (jnp.sin((1.0 - share) * safe) * unit_a + jnp.sin(share * safe) * unit_b) / jnp.sin(safe)
  length = (1.0 - share) * length_a + share * length_b
  return jnp.where(straight, (1.0 - share) * flat_a + share * flat_b, length * around).reshape(a.shape)


PATHS = {"circle": great_circle, "line": line}


def direction(encoded: Encoded, label: int, without: int | None) -> Float[np.ndarray, "*latent"]:
  """Return the mean latent of examples with a label, minus that of all others, or of those with another label.

  Raise ConfigError where the data have no labels, or none of these, or the two are the same.
  """
  if encoded.y is None:
    raise ConfigError(f"--attribute is {label}, but the data have no labels.")
  has = encoded.y == label
  if label == without:
    raise ConfigError(f"--attribute and --without are both {label}; name another label, whose images lack it.")
  lacks = ~has if without is None else encoded.y == without
  for name, number, found in (("attribute", label, has), ("without", without, lacks)):
    if not found.any():
      known = np.unique(encoded.y)
      raise ConfigError(f"--{name} is {number}, a label that no example has; they have {known.min()} to {known.max()}.")
  return encoded.z[has].mean(axis=0) - encoded.z[lacks].mean(axis=0)


def num_active(z: Float[np.ndarray, "num *latent"]) -> int:
  """Return how many dimensions of the latents vary over examples by more than `ACTIVE`."""
  return int(np.sum(np.var(z.reshape(len(z), -1), axis=0) > ACTIVE))


def plane_grid(side: int) -> Float[np.ndarray, "points 2"]:
  """Return a grid of the plane, row by row from the top, at even quantiles of a standard normal."""
  quantiles = scipy.special.ndtri((np.arange(side) + 0.5) / side)
  rows, columns = np.meshgrid(quantiles[::-1], quantiles, indexing="ij")
  return np.stack([columns, rows], axis=-1).reshape(-1, 2).astype(np.float32)
