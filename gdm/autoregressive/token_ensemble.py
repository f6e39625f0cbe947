"""A mixture of models of tokens at every token: p(x_t | x_<t) = sum_k w_k p_k(x_t | x_<t).

The probabilities of each token sum to one, and so do their products over all sequences: an exact likelihood. It is not
the mixture of whole sequences (`gdm.baselines.ensemble`), in which one component must explain all of an example: here
each token may be explained by another one. Neither is above the other on all data; for models that were trained on
the same data and err at different places this one usually is.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, Num, PyTree

from gdm.autoregressive.token_model import TokenModel
from gdm.batches import real_dims
from gdm.errors import SpecError
from gdm.model import Batch, Carry, Model, Objective, Params
from gdm.submodels import component_objectives, join_components, log_weights, params_of


@dataclasses.dataclass(frozen=True)
class TokenEnsemble(TokenModel):
  """Models of tokens in the same order, mixed token by token, with fixed weights.

  Components are trained side by side, each by its own objectives; component k's parameter group "g" is "k/g" here.

  Attributes:
    spec: the data, which all components model.
    components: models of tokens in raster order, of sequences or of images, that are given the same.
    weights: a positive weight per component, normalized here; () gives all the same.

  Raises:
    SpecError: a component is no model of tokens in raster order, is of other data, or is given something else; weights
      that are none.

  Example:
    model = TokenEnsemble(spec, (ImageModel(spec, PixelCNN()), ImageModel(spec, GatedPixelCNN())))
    params, carry = model.join([(params_0, {}), (params_1, {})])
  """

  components: tuple[Model, ...]
  weights: tuple[float, ...] = ()

  def __post_init__(self) -> None:
    self.spec.require_discrete("TokenEnsemble")
    if not self.components:
      raise SpecError("model.components is empty; an ensemble needs at least one model.")
    for index, component in enumerate(self.components):
      name = f"model.components[{index}], {type(component).__name__},"
      if not isinstance(component, TokenModel):
        raise SpecError(f"{name} does not go through its values in raster order, one by one, so that its conditionals "
                        "cannot be mixed; mix whole examples (model.name=ensemble).")
      if component.spec != self.spec:
        raise SpecError(f"{name} models {component.spec}, the ensemble {self.spec}; all must model the same data.")
      if component.given != self.tokens[0].given:
        raise SpecError(f"{name} is given {component.given or 'nothing'}, but model.components[0] "
                        f"{self.tokens[0].given or 'nothing'}; all components must be conditional on the same.")
    log_weights(self.weights, len(self.components))

  @property
  def tokens(self) -> tuple[TokenModel, ...]:
    """The components, all of which are models of tokens."""
    return tuple(component for component in self.components if isinstance(component, TokenModel))

  @property
  def objectives(self) -> tuple[Objective, ...]:
    return component_objectives(self.components)

  @property
  def context(self) -> int | None:
    limits = [component.context for component in self.tokens if component.context is not None]
    return min(limits) if limits else None

  @property
  def given(self) -> tuple[str, ...]:
    return self.tokens[0].given

  @property
  def class_conditional(self) -> bool:
    """Whether draws are given labels."""
    return "y" in self.given

  @property
  def prefix_conditional(self) -> bool:
    """Whether draws are given a prefix."""
    return "prefix" in self.given

  @property
  def prefix_optional(self) -> bool:
    return all(getattr(component, "prefix_optional", False) for component in self.tokens)

  def init(self, key: Key[Array, ""], batch: Batch) -> tuple[Params, Carry]:
    """Return each component's own parameters, from a key of its own."""
    return self.join([component.init(jax.random.fold_in(key, index), batch)
                      for index, component in enumerate(self.components)])

  def join(self, parts: Sequence[tuple[Params, Carry]]) -> tuple[Params, Carry]:
    """Return the ensemble's parameters and carry from those of its components, in order."""
    return join_components(parts)

  def logits(self, params: Params, x: Num[Array, "batch steps"], key: Key[Array, ""] | None = None,
             y: Int[Array, " batch"] | None = None, **given: Any) -> Float[Array, "batch steps levels"]:
    """Return log-probabilities of every token given those before it in x."""
    return self._mixed([jax.nn.log_softmax(component.logits(own, x, key, y, **given))
                        for component, own in self._parts(params)])

  def log_probs(self, params: Params, batch: Batch, key: Key[Array, ""] | None = None) -> Float[Array, "batch steps"]:
    return jnp.where(real_dims(self.spec, batch), self._mixed(self.component_log_probs(params, batch, key)), 0.0)

  def component_log_probs(self, params: Params, batch: Batch, key: Key[Array, ""] | None = None
                          ) -> list[Float[Array, "batch steps"]]:
    """Return `log_probs` of each component: what weights are fitted on."""
    return [component.log_probs(own, batch, key) for component, own in self._parts(params)]

  def init_cache(self, params: Params, num: int) -> PyTree:
    return tuple(component.init_cache(own, num) for component, own in self._parts(params))

  def conditional_cache(self, params, num, condition):
    return tuple(component.conditional_cache(own, num, condition) for component, own in self._parts(params))

  def conditional_step(self, params: Params, cache: PyTree, x_previous: Int[Array, " batch"],
                       index: Int[Array, ""]) -> tuple[PyTree, Float[Array, "batch levels"]]:
    steps = [component.conditional_step(own, state, x_previous, index)
             for (component, own), state in zip(self._parts(params), cache, strict=True)]
    return tuple(state for state, _ in steps), self._mixed([jax.nn.log_softmax(logits) for _, logits in steps])

  def _parts(self, params: Params) -> list[tuple[Any, Params]]:
    return [(component, params_of(params, f"{index}/")) for index, component in enumerate(self.tokens)]

  def _mixed(self, log_probs: Sequence[Float[Array, "*shape"]]) -> Float[Array, "*shape"]:
    """Return log sum_k w_k p_k."""
    weights = log_weights(self.weights, len(self.components))
    return jax.nn.logsumexp(jnp.stack([weight + own for weight, own in zip(weights, log_probs, strict=True)]), axis=0)
