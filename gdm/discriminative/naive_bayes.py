"""Naive Bayes: features are independent given the label; Bernoulli, categorical, Gaussian or multinomial."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, Num

from gdm import checks
from gdm.batches import require_labels
from gdm.dataspec import DataSpec
from gdm.discriminative.bayes import Bayes, as_flat
from gdm.discriminative.labels import Labelled
from gdm.discriminative.multinomial_naive_bayes import MultinomialNaiveBayes
from gdm.distributions import categorical
from gdm.distributions.moments import ROUNDING
from gdm.errors import DataError, SpecError
from gdm.model import Carry, Params, PyTree, Samples

KINDS = ("bernoulli", "categorical", "gaussian", "multinomial")


@dataclasses.dataclass(frozen=True)
class NaiveBayes(Bayes):
  """p(x, y) = p(y) prod_d p(x_d | y): categorical features (Bernoulli of two levels), or Gaussian ones of real numbers.

  Parameters beside "log_prior": "logits" [classes, dims, levels], log-probabilities; of real numbers "mean" and "scale"
  (standard deviation) [classes, dims].

  Attributes:
    alpha: Dirichlet pseudo-count of each level of a feature given a label (1 is Laplace's rule).
    variance_floor: least variance of a feature given a label, as a fraction of the feature's variance over all
      examples: a feature that never varies within a class would else have a density without bound.

  Example:
    model = NaiveBayes(DataSpec((57,), None, num_classes=2))
    params, carry = model.solve(key, [{"x": x, "y": y}])
    log_probs = model.known_log_label_probs(params, x, known)
  """

  variance_floor: float = 1e-6

  def __post_init__(self) -> None:
    super().__post_init__()
    checks.positive("variance_floor", self.variance_floor)

  @property
  def class_conditional(self) -> bool:
    """Draws can be given labels; without any they are of all classes."""
    return True

  def fresh(self) -> dict[str, Float[np.ndarray, "..."]]:
    """Return uniform, or standard normal features."""
    shape = (self.num_classes, self.spec.num_dims)
    if self.spec.levels is None:
      return {"mean": np.zeros(shape), "scale": np.ones(shape)}
    return {"logits": np.full((*shape, self.spec.levels), -np.log(self.spec.levels))}

  def fit(self, data: Labelled) -> dict[str, Float[np.ndarray, "..."]]:
    """Return smoothed frequencies, or moments; a DataError names a real feature that never varies, or a class of which
    there are no moments."""
    return self._moments(data) if self.spec.levels is None else self._frequencies(data, self.spec.levels)

  def log_given_labels(self, own: PyTree, x: Num[Array, "batch dims"],
                       known: Bool[Array, "batch dims"] | None) -> Float[Array, "batch classes"]:
    """Return the sum over known features: to leave a factor out is to sum over its values."""
    if self.spec.levels is None:
      each = jax.scipy.stats.norm.logpdf(x[:, None], own["mean"], own["scale"])
    else:
      by_dim = own["logits"].transpose(1, 2, 0)  # [dims, levels, classes]
      each = by_dim[jnp.arange(self.spec.num_dims), x].transpose(0, 2, 1)
    return jnp.sum(each if known is None else jnp.where(known[:, None], each, 0.0), axis=2)

  def sample(self, params: Params, carry: Carry, key: Key[Array, ""], num: int, condition: Array | None = None,
             temperature: float = 1.0) -> Samples:
    """Draw [num, *event], of all classes or given labels [num], or one for all.

    Args:
      params: the parameters.
      carry: nothing.
      key: of the draws.
      num: how many.
      condition: labels.
      temperature: divides the log-probabilities of the label and of the features.

    Raise ConfigError unless the temperature is above 0.
    """
    checks.temperature(temperature)
    label_key, value_key = jax.random.split(key)
    if condition is None:
      log_prior = categorical.tempered(params["model"]["log_prior"], temperature)
      y = jax.random.categorical(label_key, log_prior, shape=(num,))
    else:
      y = self._checked(jnp.asarray(condition), num)
    return self._as_samples(self._drawn(params["model"], value_key, y, temperature))

  def complete(self, params: Params, carry: Carry, key: Key[Array, ""], x: Num[Array | np.ndarray, "batch *event"],
               known: Bool[Array | np.ndarray, "*event"]) -> Samples:
    """Draw the unknown features from their exact conditional, for any region: the label given the known, then they."""
    label_key, value_key = jax.random.split(key)
    y = jax.random.categorical(label_key, self.known_log_label_probs(params, x, known))
    drawn = self._drawn(params["model"], value_key, y, 1.0)
    return self._as_samples(jnp.where(jnp.ravel(jnp.asarray(known)), as_flat(self.spec, x), drawn))

  def _frequencies(self, data: Labelled, levels: int) -> dict[str, Float[np.ndarray, "..."]]:
    classes, dims = self.num_classes, self.spec.num_dims
    counts = np.zeros((classes, dims, levels))
    for label in range(classes):
      for part in np.array_split(data.x[data.y == label], len(data.x) * dims // 10_000_000 + 1):  # of moderate memory
        places = np.arange(dims) * levels + part.astype(np.int64)
        counts[label] += np.bincount(places.ravel(), minlength=dims * levels).reshape(dims, levels)
    counts += self.alpha
    return {"logits": np.log(counts / counts.sum(axis=2, keepdims=True))}

  def _moments(self, data: Labelled) -> dict[str, Float[np.ndarray, "..."]]:
    x = data.x.astype(np.float64)
    for dim in np.flatnonzero(x.std(axis=0) <= ROUNDING * np.abs(x).max(axis=0))[:1]:
      raise DataError(f"feature {dim} is {x[0, dim]:g} in all {len(x)} examples to fit to, up to rounding: a Gaussian "
                      "of it has no variance; leave the feature out.")
    present = [x[data.y == label] for label in range(self.num_classes)]
    for label in (label for label, part in enumerate(present) if not len(part)):
      raise DataError(f"class {label} has no example to fit to, so that its Gaussians have no mean; serve data of "
                      "every class.")
    variance = np.maximum([part.var(axis=0) for part in present], self.variance_floor * x.var(axis=0))
    return {"mean": np.array([part.mean(axis=0) for part in present]), "scale": np.sqrt(variance)}

  def _drawn(self, own: PyTree, key: Key[Array, ""], y: Int[Array, " num"], temperature: float
             ) -> Num[Array, "num dims"]:
    if self.spec.levels is not None:
      return categorical.sample(key, own["logits"][y], temperature)
    noise = jax.random.normal(key, (len(y), self.spec.num_dims))
    return own["mean"][y] + jnp.sqrt(temperature) * own["scale"][y] * noise

  def _checked(self, y: Array, num: int) -> Int[Array, " num"]:
    if y.shape not in ((), (num,)) or not jnp.issubdtype(y.dtype, jnp.integer):
      raise SpecError(f"condition has shape {y.shape} and dtype {y.dtype}; it must be integer labels [{num}], or one "
                      "for all.")
    require_labels(self.spec, y)
    return jnp.broadcast_to(y, (num,))

  def _as_samples(self, x: Num[Array, "num dims"]) -> Samples:
    return Samples(x.reshape(-1, *self.spec.event), {})


def naive_bayes(spec: DataSpec, *, kind: str = "", alpha: float = 1.0, prior_alpha: float = 0.0,
                variance_floor: float = 1e-6) -> Bayes:
  """Return naive Bayes with features of a kind.

  Args:
    spec: data with labels.
    kind: bernoulli, of binary data; categorical, of integers; multinomial, of counts; gaussian, of real numbers. "" is
      gaussian for real numbers, categorical else.
    alpha, prior_alpha, variance_floor: see `NaiveBayes` and `MultinomialNaiveBayes`.

  Raises:
    ConfigError: the kind is unknown.
    SpecError: the data is not of the kind, or has no labels.
  """
  if kind:
    checks.one_of("kind", kind, KINDS)
  if kind == "multinomial":
    return MultinomialNaiveBayes(spec, alpha, prior_alpha)
  if kind == "bernoulli":
    spec.require_binary("naive Bayes of kind 'bernoulli'")
  elif kind == "categorical":
    spec.require_discrete("naive Bayes of kind 'categorical'")
  elif kind == "gaussian":
    spec.require_continuous("naive Bayes of kind 'gaussian'")
  return NaiveBayes(spec, alpha, prior_alpha, variance_floor)
