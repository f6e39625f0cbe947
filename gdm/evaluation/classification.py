"""Scores of a model as a classifier of a split's labels: every example once, by p(y | x)."""

import dataclasses
import functools
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, Bool, Float, Int

from gdm import mesh as meshes
from gdm.batches import nan_unless_valid
from gdm.errors import DataError
from gdm.evaluation.intervals import Interval, mean_half, share_interval
from gdm.likelihood import require_finite
from gdm.model import Carry, HasLabelProbs, Params
from gdm.precision import highest_precision

HostBatch = Mapping[str, np.ndarray | Array]

NUM_BINS = 10


class Average(NamedTuple):
  """A mean over examples.

  Attributes:
    value: the mean.
    ci95: its 95 % interval; None for a single example's number, which shows no spread.
  """

  value: float
  ci95: Interval | None


class Bins(NamedTuple):
  """Examples by how sure the model is of its likeliest label.

  Attributes:
    counts: examples in each bin.
    confidence: mean probability of the likeliest label; 0 in an empty bin.
    share: of right labels; 0 in an empty bin.
    ends: 95 % intervals of the shares; [0, 1] in an empty bin.
  """

  counts: Int[np.ndarray, " bins"]
  confidence: Float[np.ndarray, " bins"]
  share: Float[np.ndarray, " bins"]
  ends: Float[np.ndarray, "bins 2"]


@dataclasses.dataclass(frozen=True, eq=False)
class SplitClassification:
  """Log-probabilities of every label of a split, in the split's order.

  Attributes:
    nats: log p(y | x) of the true label.
    right: whether the likeliest label is the true one.
    confidence: the likeliest label's probability.
    squares: squared distance of the probabilities from 1 at the true label and 0 elsewhere, at most 2.
  """

  nats: Float[np.ndarray, " examples"]
  right: Bool[np.ndarray, " examples"]
  confidence: Float[np.ndarray, " examples"]
  squares: Float[np.ndarray, " examples"]

  @property
  def accuracy(self) -> Average:
    """The share of examples whose likeliest label is the true one, with Clopper and Pearson's interval."""
    share = float(np.mean(self.right))
    return Average(share, share_interval(share, len(self.right)))

  @property
  def label_nats(self) -> Average:
    """log p(y | x), in nats, with Student's interval."""
    mean, half = float(np.mean(self.nats)), mean_half(self.nats)
    return Average(mean, None if half is None else Interval.around(mean, half))

  @property
  def calibration_error(self) -> float:
    """Mean distance of the share of right labels from the confidence, over ten bins of confidence of equal width,
    weighed over examples (Guo et al., arXiv:1706.04599, equation 3)."""
    bins = self.bins
    return float(np.sum(bins.counts * np.abs(bins.share - bins.confidence)) / len(self.nats))

  @property
  def bins(self) -> "Bins":
    """Ten bins of confidence of equal width."""
    places = np.minimum((self.confidence * NUM_BINS).astype(int), NUM_BINS - 1)
    counts = np.bincount(places, minlength=NUM_BINS)
    confidence, right = (np.bincount(places, weights=values, minlength=NUM_BINS) / np.maximum(counts, 1)
                         for values in (self.confidence, self.right))
    ends = [share_interval(float(share), int(num)) if num else (0.0, 1.0)
            for share, num in zip(right, counts, strict=True)]
    return Bins(counts, confidence, right, np.array(ends))

  @property
  def brier(self) -> Average:
    """The mean squared distance of the probabilities from the truth (Brier, 1950), in [0, 2], with Student's interval.
    It is least, on average, for the true p(y | x)."""
    mean, half = float(np.mean(self.squares)), mean_half(self.squares)
    return Average(mean, None if half is None else Interval.around(mean, half))

  @property
  def summary(self) -> dict[str, float | list[float] | None]:
    """The numbers, for a report."""
    accuracy, nats, brier = self.accuracy, self.label_nats, self.brier
    return {"accuracy": accuracy.value, "accuracy_ci95": accuracy.ci95 and list(accuracy.ci95),
            "nats_mean": nats.value, "nats_ci95": nats.ci95 and list(nats.ci95),
            "calibration_error": self.calibration_error,
            "brier": brier.value, "brier_ci95": brier.ci95 and list(brier.ci95)}


@highest_precision()
def evaluate_labels(model: HasLabelProbs, params: Params, carry: Carry, batches: Iterable[HostBatch], *,
                    num_examples: int | None = None, mesh: Mesh | None = None) -> SplitClassification:
  """Classifies every example of `batches` exactly once.

  Args:
    model: a model of p(y | x).
    params: its parameters.
    carry: its carry.
    batches: one pass over the split, with labels "y"; entries where "mask" is 0 are padding and do not count.
    num_examples: size of the split, where it is known, to be held against what `batches` served.
    mesh: devices to split each batch over, those of `params`; by default one device.

  Raises:
    ConfigError: the devices cannot share a batch.
    DataError: the split is empty, has no labels, or is of another size than `num_examples`.
    NotFiniteError: log p(y | x) of an example (its index is named) is NaN or infinite.
  """
  mesh = mesh or meshes.make_mesh(devices=jax.local_devices()[:1])
  sharding = meshes.batch_sharding(mesh, leading_axes=0)
  parts: list[tuple[np.ndarray, ...]] = []
  count = 0
  for batch in batches:
    if "y" not in batch:
      raise DataError("the split to classify has no labels y; choose one that has.")
    meshes.require_divisible(mesh, meshes.whole_batch_size(mesh, len(batch["x"])), "evaluation.batch_size")
    with jax.set_mesh(mesh):
      placed = meshes.put_batch({"mask": np.ones(len(batch["x"]), np.float32), **batch}, sharding)
      *found, mask = map(np.asarray, _classified(model, params, carry, placed))
    real = mask > 0
    nats, right, confidence, squares = (values[real] for values in found)
    require_finite(nats, count, "log p(y | x)")
    parts.append((nats.astype(np.float64), right, confidence.astype(np.float64), squares.astype(np.float64)))
    count += len(nats)
  if not count:
    raise DataError("the split to classify has no examples; it must have at least one.")
  if num_examples not in (None, count):
    raise DataError(f"{count} examples were classified, but the split has {num_examples}; every example must be "
                    "classified exactly once.")
  return SplitClassification(*(np.concatenate(values) for values in zip(*parts, strict=True)))


# The model is static, so that repeated evaluations of one model compile once.
@functools.partial(jax.jit, static_argnames=("model",))
def _classified(model: Any, params: Params, carry: Carry, batch: HostBatch) -> tuple[Array, ...]:
  """Return log p(y | x), whether the likeliest label is y, its probability, the squared distance from the truth, and
  the mask: all of it on every process."""
  log_probs = model.log_label_probs(params, carry, batch)
  nats = jnp.take_along_axis(log_probs, jnp.asarray(batch["y"])[:, None], axis=1)[:, 0]
  nats = nan_unless_valid(model.spec, batch, nats, given=("y",))
  truth = jax.nn.one_hot(jnp.asarray(batch["y"]), log_probs.shape[1])
  squares = jnp.sum(jnp.square(jnp.exp(log_probs) - truth), axis=1)
  found = (nats, jnp.argmax(log_probs, axis=1) == batch["y"], jnp.exp(jnp.max(log_probs, axis=1)), squares,
           batch["mask"])
  return jax.tree.map(lambda x: jax.lax.with_sharding_constraint(x, PartitionSpec()), found)
