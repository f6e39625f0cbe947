"""A fixed-weight mixture of any models, by contract: log p(x) = logsumexp_k (log w_k + log p_k(x)).

It mixes joint probabilities, so it is a distribution again; averaging logits or conditionals would not be.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from gdm.dataspec import DataSpec
from gdm.errors import ConfigError, SpecError
from gdm.likelihood import LogLikelihood, mix
from gdm.model import (
    Batch,
    Carry,
    HasClasses,
    HasLikelihoods,
    HasLogLikelihood,
    HasSample,
    Model,
    Objective,
    Params,
    Samples,
)
from gdm.submodels import carry_of, component_objectives, join_components, log_weights, params_of


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
    log_weights(self.weights, len(self.components))

  @property
  def objectives(self) -> tuple[Objective, ...]:
    return component_objectives(self.components)

  @property
  def class_conditional(self) -> bool:
    """Whether draws are given labels: where those of all components are."""
    return all(isinstance(component, HasClasses) and component.class_conditional for component in self.components)

  @property
  def log_weights(self) -> Float[np.ndarray, " components"]:
    return log_weights(self.weights, len(self.components))

  def init(self, key: Key[Array, ""], batch: Batch) -> tuple[Params, Carry]:
    """Return each component's own parameters and carry, from a key of its own.

    Raises:
      SpecError: the components condition on different things, so that what is trained could not be scored.
    """
    params, carry = self.join([component.init(jax.random.fold_in(key, index), batch)
                               for index, component in enumerate(self.components)])
    jax.eval_shape(lambda *traced: self.log_likelihood(*traced).nats, params, carry, batch, key)
    return params, carry

  def join(self, parts: Sequence[tuple[Params, Carry]]) -> tuple[Params, Carry]:
    """Return the ensemble's parameters and carry from those of its components, in order."""
    return join_components(parts)

  def log_likelihood(self, params: Params, carry: Carry, batch: Batch, key: Key[Array, ""],
                     num_samples: int = 1) -> LogLikelihood:
    """Return log p(x) in nats, of the kind that a mixture of the components' numbers has; see `gdm.likelihood.mix`.

    Each component is scored by its own `log_likelihood`, whatever else it offers.

    Raises:
      SpecError: the components condition on different things.
    """
    parts = [cast(HasLogLikelihood, component).log_likelihood(
        params_of(params, f"{index}/"), carry_of(carry, str(index)), batch, jax.random.fold_in(key, index), num_samples)
        for index, component in enumerate(self.components)]
    for index, part in enumerate(parts):
      if part.given != parts[0].given:
        raise SpecError(f"model.components[{index}], {type(self.components[index]).__name__}, is given "
                        f"{part.given or 'nothing'}, but model.components[0], {type(self.components[0]).__name__}, "
                        f"{parts[0].given or 'nothing'}; all components must be conditional on the same.")
    return mix(parts, self.log_weights)

  def scored_by(self, name: str, **settings: Any) -> "Ensemble":
    """Return the ensemble with every component that has several likelihoods scored by the one called `name`.

    Raises:
      ConfigError: no component has several, or one does not know that name or a setting.
    """
    if not _has_several(self):
      raise ConfigError(f"likelihood {name!r} is asked of an ensemble whose components have one likelihood each; leave "
                        "it empty.")
    return dataclasses.replace(self, components=tuple(
        cast(HasLikelihoods, component).scored_by(name, **settings) if _has_several(component) else component
        for component in self.components))

  def sample(self, params: Params, carry: Carry, key: Key[Array, ""], num: int, condition: Array | None = None,
             **options: Any) -> Samples:
    """Draw x [num, *event], each example from a component picked by weight.

    Shapes must not depend on the picks, so every component draws `num`, and all but the picked are dropped.

    Args:
      params, carry: the ensemble's.
      key: of the draws.
      num: how many.
      condition: labels [num], or one for all, where `class_conditional`. Weights are the same under every label.
      options: of every component's `sample`.

    Returns:
      The draws; "picked", the index of each one's component; "nfe", network evaluations of all components, where all
      give theirs; "solved", whether every solver among them reached its tolerance, where there are any; and of chains
      the worst of what `gdm.inference.diagnostics.failure` looks at.

    Raises:
      SpecError: a component cannot sample, or not given or without labels.
    """
    for index, component in enumerate(self.components):
      if not isinstance(component, HasSample):
        raise SpecError(f"model.components[{index}], {type(component).__name__}, cannot sample.")
    pick_key, draw_key = jax.random.split(key)
    pick = jax.random.categorical(pick_key, jnp.asarray(self.log_weights), shape=(num,))
    drawn = [cast(HasSample, component).sample(params_of(params, f"{index}/"), carry_of(carry, str(index)),
                                               jax.random.fold_in(draw_key, index), num, condition, **options)
             for index, component in enumerate(self.components)]
    info: dict[str, Any] = {"picked": pick, **_worst([each.info for each in drawn])}
    nfe = [each.info["nfe"] for each in drawn if "nfe" in each.info]
    if len(nfe) == len(drawn):
      info["nfe"] = sum(nfe)
    if solved := [each.info["solved"] for each in drawn if "solved" in each.info]:
      info["solved"] = jnp.all(jnp.stack(solved))
    return Samples(jnp.stack([each.x for each in drawn])[pick, jnp.arange(num)], info)


def _has_several(model: Any) -> bool:
  """Return whether a model has several likelihoods; an ensemble has where one of its components has."""
  if isinstance(model, Ensemble):
    return any(map(_has_several, model.components))
  return isinstance(model, HasLikelihoods)


_LARGEST, _LEAST = ("lost", "stuck", "divergent"), ("least_path", "acceptance")  # the worst of facts about chains


def _worst(infos: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
  """Return the worst of what the components' samplers tell of their chains, so that a failure of one is seen."""
  worst = {}
  for names, pick in ((_LARGEST, jnp.max), (_LEAST, jnp.min)):
    for name in names:
      if values := [info[name] for info in infos if name in info]:
        worst[name] = pick(jnp.stack([jnp.asarray(value) for value in values]))
  if annealed := [info for info in infos if "least_acceptance" in info]:
    least = jnp.argmin(jnp.stack([jnp.asarray(info["least_acceptance"]) for info in annealed]))
    for name in ("least_acceptance", "least_acceptance_beta"):
      worst[name] = jnp.stack([jnp.asarray(info[name]) for info in annealed])[least]
  return worst
