"""Naive Bayes of counts, words of a text say: given its label, each unit falls on a feature independently."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import gammaln
from jaxtyping import Array, Bool, Float, Num

from gdm.discriminative.bayes import Bayes
from gdm.discriminative.labels import Labelled
from gdm.likelihood import Kind
from gdm.model import PyTree


@dataclasses.dataclass(frozen=True)
class MultinomialNaiveBayes(Bayes):
  """p(x, y) = p(y) p(N) Multinomial(x; N, p_y), where N is the sum of x.

  N is independent of the label, so that it changes nothing of p(y | x); with it p(x) is a distribution of counts. Some
  of its mass lies on counts above the data's levels. So p(x), as a number of data of so many levels, is a lower bound:
  given that all counts are levels, as they are, it is higher. And there is no `sample`: a draw may exceed the levels.

  Parameters beside "log_prior": "log_probs" [classes, dims], and "log_totals" [totals] of every N from 0 on.

  Attributes:
    alpha: Dirichlet pseudo-count of each feature given a label. A pseudo-count of 1 in all is spread over the totals.
  """

  def __post_init__(self) -> None:
    super().__post_init__()
    self.spec.require_discrete("MultinomialNaiveBayes")

  @property
  def kind_of_score(self) -> Kind:
    """A lower bound, by the mass that lies on counts above the data's levels."""
    return Kind.LOWER_BOUND

  @property
  def num_totals(self) -> int:
    """Sums that counts can have, 0 among them."""
    return self.spec.num_dims * (self.spec.require_discrete("MultinomialNaiveBayes") - 1) + 1

  def fresh(self) -> dict[str, Float[np.ndarray, "..."]]:
    """Return uniform features and totals."""
    dims = self.spec.num_dims
    return {"log_probs": np.full((self.num_classes, dims), -np.log(dims)),
            "log_totals": np.full(self.num_totals, -np.log(self.num_totals))}

  def fit(self, data: Labelled) -> dict[str, Float[np.ndarray, "..."]]:
    """Return smoothed frequencies of features and totals."""
    counts = np.stack([data.x[data.y == label].sum(axis=0, dtype=np.float64) for label in range(self.num_classes)])
    counts += self.alpha
    totals = np.bincount(data.x.sum(axis=1, dtype=np.int64), minlength=self.num_totals) + 1.0 / self.num_totals
    return {"log_probs": np.log(counts / counts.sum(axis=1, keepdims=True)),
            "log_totals": np.log(totals / totals.sum())}

  def log_given_labels(self, own: PyTree, x: Num[Array, "batch dims"],
                       known: Bool[Array, "batch dims"] | None) -> Float[Array, "batch classes"]:
    """Return log p(N) + log N! + sum_d (x_d log p_d - log x_d!); of known features, the sum over N, where all unknown
    features count as one that makes up the rest of N."""
    total = jnp.sum(x, axis=1)
    falls = x.astype(jnp.float32) @ own["log_probs"].T - jnp.sum(gammaln(x + 1.0), axis=1)[:, None]
    if known is None:
      return falls + (own["log_totals"][total] + gammaln(total + 1.0))[:, None]
    totals = jnp.arange(self.num_totals)

    def summed(example: tuple[Array, Array]) -> Float[Array, " classes"]:
      total, known = example
      rest = jax.nn.logsumexp(jnp.where(known, -jnp.inf, own["log_probs"]), axis=1)  # of each class
      more = totals - total
      of_rest = jnp.where(more == 0, 0.0, more * jnp.where(more == 0, 0.0, rest[:, None]))
      weights = own["log_totals"] + gammaln(totals + 1.0) - gammaln(jnp.maximum(more, 0) + 1.0)
      return jax.nn.logsumexp(jnp.where(more < 0, -jnp.inf, weights + of_rest), axis=1)

    return falls + jax.lax.map(summed, (total, known))
