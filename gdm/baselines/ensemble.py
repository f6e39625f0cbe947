"""A fixed-weight mixture of any models, by contract: log p(x) = logsumexp_k (log w_k + log p_k(x)).

It mixes joint probabilities, so it is a distribution again; averaging logits or conditionals would not be.
"""

import dataclasses
import functools
import operator
from collections.abc import Sequence
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from gdm.dataspec import DataSpec
from gdm.errors import SpecError
from gdm.likelihood import Kind, LogLikelihood
from gdm.model import (
    Batch,
    Carry,
    HasLogLikelihood,
    HasSample,
    LossOutput,
    Model,
    Objective,
    Params,
    Samples,
)
from gdm.parts import carry_of, merged_carry, named_params, params_of


@dataclasses.dataclass(frozen=True)
class Ensemble:
  """Components are trained side by side, each by its own objectives on minibatches of its own.

  Component k's parameter group "g" is the ensemble's "k/g"; its part of a carry entry is the entry's "k".

  Attributes:
    spec: what the components model.
    components: models of the same data that score it; their own choices (seeds of orderings, sizes) may differ.
    weights: a positive weight per component, normalized here; () gives all the same.
  """

  spec: DataSpec
  components: tuple[Model, ...]
  weights: tuple[float, ...] = ()

  def __post_init__(self) -> None:
    if not self.components:
      raise SpecError("model.components is empty; an ensemble needs at least one model.")
    for index, component in enumerate(self.components):
      if component.spec != self.spec:
        raise SpecError(f"model.components[{index}] models {component.spec}, the ensemble {self.spec}; all must "
                        "model the same data.")
      if not isinstance(component, HasLogLikelihood):
        raise SpecError(f"model.components[{index}], {type(component).__name__}, has no log_likelihood to be mixed.")
    if self.weights and (len(self.weights) != len(self.components) or not all(w > 0 for w in self.weights)):
      raise SpecError(f"model.weights is {self.weights}; it must be () or {len(self.components)} positive numbers.")

  @property
  def objectives(self) -> tuple[Objective, ...]:
    """Every component's objectives, component by component."""
    return tuple(self._wrapped(index, objective) for index, component in enumerate(self.components)
                 for objective in component.objectives)

  @property
  def log_weights(self) -> Float[np.ndarray, " components"]:
    weights = np.asarray(self.weights or np.ones(len(self.components)))
    return np.log(weights / weights.sum()).astype(np.float32)

  def init(self, key: Key[Array, ""], batch: Batch) -> tuple[Params, Carry]:
    """Each component's own, from a key of its own."""
    return self.join([component.init(jax.random.fold_in(key, index), batch)
                      for index, component in enumerate(self.components)])

  def join(self, parts: Sequence[tuple[Params, Carry]]) -> tuple[Params, Carry]:
    """The ensemble's parameters and carry from those of its components, in order."""
    params, carry = {}, {}
    for index, (own_params, own_carry) in enumerate(parts):
      params |= named_params(own_params, f"{index}/")
      carry = merged_carry(carry, str(index), own_carry)
    return params, carry

  def log_likelihood(self, params: Params, carry: Carry, batch: Batch, key: Key[Array, ""],
                     num_samples: int = 1) -> LogLikelihood:
    """log p(x) in nats; exact where all components are, else of their combined kind.

    Raises:
      SpecError: the components condition on different things.
    """
    parts = [cast(HasLogLikelihood, component).log_likelihood(
        params_of(params, f"{index}/"), carry_of(carry, str(index)), batch, jax.random.fold_in(key, index), num_samples)
        for index, component in enumerate(self.components)]
    given = {part.given for part in parts}
    if len(given) > 1:
      raise SpecError(f"an ensemble needs components that are conditional on the same; given is {sorted(given)}.")
    nats = jax.nn.logsumexp(jnp.stack([part.nats for part in parts]) + self.log_weights[:, None], axis=0)
    # A logarithm of a sum rises with every term, so bounds of one side stay bounds of that side.
    kind = functools.reduce(operator.add, (part.kind for part in parts), Kind.EXACT)
    return LogLikelihood(nats, parts[0].num_dims, kind, parts[0].given)

  def sample(self, params: Params, carry: Carry, key: Key[Array, ""], num: int, condition: Array | None = None,
             **options: Any) -> Samples:
    """Draws [num, *event], each from a component picked by weight; options go to the components.

    Shapes must not depend on the picks, so every component draws `num`, and all but the picked are dropped.

    Raises:
      SpecError: a component cannot sample.
    """
    for index, component in enumerate(self.components):
      if not isinstance(component, HasSample):
        raise SpecError(f"model.components[{index}], {type(component).__name__}, cannot sample.")
    pick_key, draw_key = jax.random.split(key)
    pick = jax.random.categorical(pick_key, jnp.asarray(self.log_weights), shape=(num,))
    drawn = [cast(HasSample, component).sample(params_of(params, f"{index}/"), carry_of(carry, str(index)),
                                               jax.random.fold_in(draw_key, index), num, condition, **options).x
             for index, component in enumerate(self.components)]
    return Samples(jnp.stack(drawn)[pick, jnp.arange(num)], {"component": pick})

  def _wrapped(self, index: int, objective: Objective) -> Objective:
    def loss(params: Params, carry: Carry, batch: Batch, key: Key[Array, ""], step: Array) -> LossOutput:
      out = objective.loss(params_of(params, f"{index}/"), carry_of(carry, str(index)), batch, key, step)
      return LossOutput(out.loss, out.metrics, merged_carry(carry, str(index), out.carry))

    return Objective(tuple(f"{index}/{group}" for group in objective.groups), loss, objective.repeats)
