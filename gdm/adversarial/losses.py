"""Losses of adversarial training, by the critic's scores of real and of made examples.

A score is a logit of "real" where a loss is a cross-entropy; for the others it is any real number.
"""

import dataclasses
from collections.abc import Callable

import jax
from jaxtyping import Array, Float

Scores = Float[Array, "*batch"]
Cost = Callable[[Scores], Scores]


@dataclasses.dataclass(frozen=True)
class AdversarialLoss:
  """Costs of single scores.

  Attributes:
    real: the critic's cost of a real example's score.
    fake: the critic's cost of a made example's score.
    generator: the generator's cost of the score of an example that it made.
    is_cross_entropy: whether the costs are cross-entropies in nats, whose labels may be smoothed.
  """

  real: Cost
  fake: Cost
  generator: Cost
  is_cross_entropy: bool = False


LOSSES = {
    # -log(1 - D(G(z))) for the critic, log(1 - D(G(z))) for the generator (arXiv:1406.2661, equation 1).
    "minimax": AdversarialLoss(lambda s: jax.nn.softplus(-s), jax.nn.softplus, lambda s: -jax.nn.softplus(s), True),
    # -log D(G(z)) for the generator (arXiv:1406.2661, section 3).
    "non_saturating": AdversarialLoss(lambda s: jax.nn.softplus(-s), jax.nn.softplus, lambda s: jax.nn.softplus(-s),
                                      True),
    # arXiv:1611.04076, equation 9: targets 1 of real, 0 of made examples, 1 for the generator.
    "least_squares": AdversarialLoss(lambda s: 0.5 * (s - 1.0) ** 2, lambda s: 0.5 * s**2,
                                     lambda s: 0.5 * (s - 1.0) ** 2),
    # arXiv:1705.02894, section 2.1.
    "hinge": AdversarialLoss(lambda s: jax.nn.relu(1.0 - s), lambda s: jax.nn.relu(1.0 + s), lambda s: -s),
    # arXiv:1701.07875, equation 2, for a critic that is kept Lipschitz.
    "wasserstein": AdversarialLoss(lambda s: -s, lambda s: s, lambda s: -s),
}
