"""The likelihood of examples whatever their label, from a model that is conditional on labels.

log p(x) = log sum_y p(y) p(x | y): the number of a class-conditional model that may stand beside others' log p(x). By
Bayes' rule it tells labels, too.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Key

from gdm.errors import SpecError
from gdm.evaluation.of_model import OfModel
from gdm.likelihood import LogLikelihood, mix
from gdm.model import Batch, Carry, Params


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
    each = self._given_each(params, carry, batch, key, num_samples)
    return dataclasses.replace(mix(each, np.asarray(self.log_prior, np.float32)), given=())

  def log_label_probs(self, params: Params, carry: Carry, batch: Batch) -> Float[Array, "batch classes"]:
    """Return log p(y | x) = log p(y) + log p(x | y) - log p(x) of every label, in nats, by Bayes' rule.

    Of a model whose likelihood is noisy it is by one draw, the same for all labels.
    """
    each = self._given_each(params, carry, batch, jax.random.key(0), 1)
    joint = jnp.stack([one.nats for one in each], axis=1) + jnp.asarray(self.log_prior, jnp.float32)
    return jax.nn.log_softmax(joint, axis=1)

  def _given_each(self, params: Params, carry: Carry, batch: Batch, key: Key[Array, ""],
                  num_samples: int) -> list[LogLikelihood]:
    """Return log p(x | y) of each label. Raise SpecError where the model is given something else, or nothing."""
    size = len(batch["x"])
    each = [self.model.log_likelihood(params, carry, {**batch, "y": jnp.full(size, y, jnp.int32)}, key, num_samples)
            for y in range(len(self.log_prior))]
    if each[0].given != ("y",):
      raise SpecError(f"{type(self.model).__name__} is given {each[0].given}; to sum over labels it must be given y.")
    return each


def log_label_prior(y: Int[np.ndarray, " examples"], num_classes: int) -> tuple[float, ...]:
  """Return log p(y) by the labels' frequencies, each counted once more than it occurs (Laplace's rule), so that all
  may."""
  counts = np.bincount(np.asarray(y), minlength=num_classes) + 1.0
  return tuple(np.log(counts / counts.sum()).tolist())
