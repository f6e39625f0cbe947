"""The last layer of critics: features -> scores, given labels."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from gdm.adversarial.networks.layers import weighted
from gdm.networks.linear import Linear

LABELS = ("concatenate", "projection")


def score(h: Float[Array, "batch features"], labels: Float[Array, "batch classes"] | None, kind: str,
          normalization: str, train: bool) -> Float[Array, " batch"]:
  """Return a linear function of the features; with kind "projection" plus their product with the label's embedding.

  (Miyato and Koyama, arXiv:1802.05637, equation 4.) Called within a critic's compact method.
  """
  stddev = h.shape[1] ** -0.5
  made = weighted(normalization, Linear(1, stddev, use_bias=True, name="last"), h, train)[:, 0]
  if labels is None or kind != "projection":
    return made
  embedded = weighted(normalization, Linear(h.shape[1], stddev, name="embedding"), labels, train)
  return made + jnp.sum(h * embedded, axis=1)
