"""Batch normalization (Ioffe and Szegedy, arXiv:1502.03167), whose running statistics lie in a model's carry.

A network normalizes by the batch in training and by running means and variances in evaluation. They are Flax's
collection "batch_stats" inside `apply`, and the entry "statistics" of the carry outside, which the train step averages
over devices and the averaged state with the parameters.

Example:
  class Network(nn.Module):
    @nn.compact
    def __call__(self, x, train=False):
      return batch_norm(train, name="norm")(x)

  variables = network.init(key, x)
  params, carry = variables["params"], carry_of(variables)
  y, changed = network.apply(variables_of(params, carry), x, train=True, mutable=["batch_stats"])
  carry = moved(carry, changed)
"""

from collections.abc import Mapping
from typing import Any

import flax.linen as nn

from gdm.errors import ConfigError
from gdm.model import Carry, PyTree

COLLECTION = "batch_stats"
# Subject and verb of an error message, see `gdm.model.Objective.whole_batch`.
WHOLE_BATCH = "batch normalization takes its means and variances over the whole minibatch"


def batch_norm(train: bool, momentum: float = 0.99, name: str | None = None) -> nn.BatchNorm:
  """Return a normalization over all axes but the last, with a learned scale and bias.

  Args:
    train: whether to normalize by the batch, and move the running statistics where they are mutable; otherwise the
      running statistics normalize, so that no example depends on another.
    momentum: share of the running statistics that is kept in each step.
    name: of the module.
  """
  # The variance is of centred values: the difference of two means of squares loses digits where the mean is large.
  return nn.BatchNorm(use_running_average=not train, momentum=momentum, use_fast_variance=False, name=name)


def carry_of(variables: Mapping[str, Any]) -> dict[str, PyTree]:
  """Return the carry of a network's fresh variables: its running statistics, or nothing where it has none."""
  return {"statistics": variables[COLLECTION]} if COLLECTION in variables else {}


def variables_of(params: PyTree, carry: Carry) -> dict[str, PyTree]:
  """Return the variables that `network.apply` takes."""
  return {"params": params, **({COLLECTION: carry["statistics"]} if "statistics" in carry else {})}


def moved(carry: Carry, changed: Mapping[str, Any]) -> Carry:
  """Return the carry with the statistics that `network.apply(..., mutable=["batch_stats"])` returned."""
  return {**carry, "statistics": changed[COLLECTION]} if COLLECTION in changed else carry


def require_two(num_examples: int) -> None:
  """Raise ConfigError unless a training batch has two examples to take a variance over."""
  if num_examples < 2:
    raise ConfigError(f"batch normalization takes variances over a batch, but the batch has {num_examples} example(s); "
                      "it needs at least 2 (data.batch_size), or batch_norm=False.")
