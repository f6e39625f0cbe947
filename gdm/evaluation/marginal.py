"""The likelihood of examples whatever their label, from a model that is conditional on labels.

log p(x) = log sum_y p(y) p(x | y): the number of a class-conditional model that may stand beside others' log p(x).
"""

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Int

from gdm.errors import SpecError
from gdm.evaluation.of_model import OfModel
from gdm.likelihood import LogLikelihood, mix


@dataclasses.dataclass(frozen=True)
class OverLabels(OfModel):
  """A class-conditional model as one of examples alone, by summing over the labels.

  Attributes:
    model: its `log_likelihood` is given "y", an integer in [0, spec.num_classes).
    log_prior: log p(y) of each label, in nats.
  """

  model: Any
  log_prior: tuple[float, ...]

  def log_likelihood(self, params, carry, batch, key, num_samples=1) -> LogLikelihood:
    """Return log p(x) in nats, of the kind that a mixture of the model's numbers has; batch["y"] is not looked at.

    Raises:
      SpecError: the model's likelihood is not given labels, and nothing else.
    """
    size = len(batch["x"])

    def given(y):
      return self.model.log_likelihood(params, carry, {**batch, "y": jnp.full(size, y, jnp.int32)}, key, num_samples)

    each = [given(y) for y in range(len(self.log_prior))]
    if each[0].given != ("y",):
      raise SpecError(f"{type(self.model).__name__} is given {each[0].given}; to sum over labels it must be given y.")
    return dataclasses.replace(mix(each, np.asarray(self.log_prior, np.float32)), given=())


def log_label_prior(y: Int[np.ndarray, " examples"], num_classes: int) -> tuple[float, ...]:
  """Return log p(y) by the labels' frequencies, each counted once more than it occurs (Laplace's rule), so that all
  may."""
  counts = np.bincount(np.asarray(y), minlength=num_classes) + 1.0
  return tuple(np.log(counts / counts.sum()).tolist())
