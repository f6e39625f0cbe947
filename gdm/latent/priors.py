"""Priors p(z) of latents: standard normal, a mixture of Gaussians, VampPrior, and any model by the contract."""

import abc
import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from gdm import checks
from gdm.errors import ConfigError
from gdm.latent.posteriors import DensePosterior, Posterior, moments, normal_log_prob
from gdm.likelihood import Kind
from gdm.model import HasLogLikelihood, HasSample, Model, PyTree
from gdm.submodels import named_params, params_of

OF_PRIOR = "prior_"  # before the names of a model's groups, where the prior is a model
# Encoder inputs [batch, *event] -> features of the posterior [batch, features]
Encode = Callable[[Float[Array, "batch *event"]], Float[Array, "batch features"]]
Groups = Mapping[str, PyTree]  # the whole's parameter groups


class Density(NamedTuple):
  """A prior with its parameters: log p(z) [batch] in nats of z [batch, dims], and draws by a key and their number."""

  log_prob: Callable[[Float[Array, "batch dims"]], Float[Array, " batch"]]
  sample: Callable[[Key[Array, ""], int], Float[Array, "num dims"]]


class Prior(abc.ABC):
  """A distribution of latents; its parameters are groups of the whole model."""

  @abc.abstractmethod
  def init(self, key: Key[Array, ""], inputs: Float[Array, "batch *event"], z: Float[Array, "batch dims"]) -> Groups:
    """Return its groups of parameters, by the encoder's inputs and latents of some examples."""

  @abc.abstractmethod
  def density(self, groups: Groups, dims: int, posterior: Posterior, encode: Encode) -> Density:
    """Return the prior with its parameters; `posterior` and `encode` are the whole model's."""


@dataclasses.dataclass(frozen=True)
class StandardNormal(Prior):
  """N(0, I)."""

  def init(self, key: Key[Array, ""], inputs: Float[Array, "batch *event"], z: Float[Array, "batch dims"]) -> Groups:
    return {}

  def density(self, groups: Groups, dims: int, posterior: Posterior, encode: Encode) -> Density:
    return Density(normal_log_prob, lambda key, num: jax.random.normal(key, (num, dims)))


@dataclasses.dataclass(frozen=True)
class MixturePrior(Prior):
  """A learned mixture of Gaussians of independent dimensions.

  Attributes:
    size: components; they start near N(0, I), apart by half its deviation.
  """

  size: int = 50

  def __post_init__(self) -> None:
    checks.at_least("prior.size", self.size, 1)

  def init(self, key: Key[Array, ""], inputs: Float[Array, "batch *event"], z: Float[Array, "batch dims"]) -> Groups:
    means = 0.5 * jax.random.normal(key, (self.size, z.shape[1]))
    return {"prior": {"logits": jnp.zeros(self.size), "features": jnp.concatenate([means, jnp.zeros_like(means)], 1)}}

  def density(self, groups: Groups, dims: int, posterior: Posterior, encode: Encode) -> Density:
    own = groups["prior"]
    return _mixture(jax.nn.log_softmax(own["logits"]), *moments(own["features"]))


@dataclasses.dataclass(frozen=True)
class VampPrior(Prior):
  """A mixture of the posteriors of learned pseudo-inputs, all of one weight (Tomczak and Welling, arXiv:1705.07120).

  The encoder is given no labels of pseudo-inputs, and the posterior's density must be known everywhere.

  Attributes:
    size: pseudo-inputs; they start as training examples.
  """

  size: int = 100

  def __post_init__(self) -> None:
    checks.at_least("prior.size", self.size, 1)

  def init(self, key: Key[Array, ""], inputs: Float[Array, "batch *event"], z: Float[Array, "batch dims"]) -> Groups:
    rows = jax.random.choice(key, inputs.shape[0], (self.size,), replace=inputs.shape[0] < self.size)
    return {"prior": {"inputs": inputs[rows]}}

  def density(self, groups: Groups, dims: int, posterior: Posterior, encode: Encode) -> Density:
    assert isinstance(posterior, DensePosterior)
    features = encode(groups["prior"]["inputs"])

    def log_prob(z: Float[Array, "batch dims"]) -> Float[Array, " batch"]:
      each = jax.vmap(lambda one: posterior.log_prob(jnp.broadcast_to(one, (z.shape[0], one.shape[0])), z))(features)
      return jax.nn.logsumexp(each, axis=0) - math.log(self.size)

    def sample(key: Key[Array, ""], num: int) -> Float[Array, "num dims"]:
      pick_key, noise_key = jax.random.split(key)
      picked = features[jax.random.randint(pick_key, (num,), 0, self.size)]
      return posterior.draw({}, picked, jax.random.normal(noise_key, (num, dims)))[0]

    return Density(log_prob, sample)


@dataclasses.dataclass(frozen=True)
class ModelPrior(Prior):
  """Any model of real vectors with an exact log-likelihood and samples, trained with the whole.

  Its parameter group "g" is the whole's "prior_g".

  Attributes:
    model: the model, of events (latent_dims,).
  """

  model: Model

  def __post_init__(self) -> None:
    name = type(self.model).__name__
    if self.model.spec.is_discrete or len(self.model.spec.event) != 1:
      raise ConfigError(f"model.prior is {name} of {self.model.spec}; it must model real vectors of latent_dims.")
    for capability, words in ((HasLogLikelihood, "no log_likelihood"), (HasSample, "no sample")):
      if not isinstance(self.model, capability):
        raise ConfigError(f"model.prior is {name}, which has {words}; choose a model that has, such as maf.")

  def init(self, key: Key[Array, ""], inputs: Float[Array, "batch *event"], z: Float[Array, "batch dims"]) -> Groups:
    params, carry = self.model.init(key, {"x": z})
    name = type(self.model).__name__
    if carry:
      raise ConfigError(f"model.prior is {name}, which carries {', '.join(sorted(carry))} from step to step; a prior "
                        "must have parameters only: choose one without batch normalization, noise or chains.")

    def nats() -> Float[Array, " batch"]:
      scored = cast(HasLogLikelihood, self.model).log_likelihood(params, {}, {"x": z}, key)
      if scored.kind is not Kind.EXACT or scored.given:
        raise ConfigError(f"model.prior is {name}, whose log-likelihood is of kind '{scored.kind}'; a prior needs an "
                          "exact one, as maf has.")
      return scored.nats

    jax.eval_shape(nats)
    return named_params(params, OF_PRIOR)

  def density(self, groups: Groups, dims: int, posterior: Posterior, encode: Encode) -> Density:
    own, model = params_of(groups, OF_PRIOR), cast(Any, self.model)

    def log_prob(z: Float[Array, "batch dims"]) -> Float[Array, " batch"]:
      return model.log_likelihood(own, {}, {"x": z}, jax.random.key(0)).nats  # exact: nothing is drawn

    return Density(log_prob, lambda key, num: model.sample(own, {}, key, num).x)


def prior_for(prior: Any, posterior: Posterior, dims: int, class_conditional: bool = False) -> Prior:
  """Return the prior, a model among them by the contract; checked.

  Raise ConfigError where it is neither, is of other latents, or cannot be the prior of such a posterior.
  """
  made = ModelPrior(prior) if isinstance(prior, Model) else prior
  if not isinstance(made, Prior):
    raise ConfigError(f"model.prior is {prior!r}; it must be normal, mixture, vamp, or a model: fields with a name.")
  if isinstance(made, ModelPrior) and made.model.spec.event != (dims,):
    raise ConfigError(f"model.prior models events {made.model.spec.event}, but model.latent_dims is {dims}; the event "
                      f"must be ({dims},).")
  if isinstance(made, VampPrior) and not isinstance(posterior, DensePosterior):
    raise ConfigError("model.prior is 'vamp', a mixture of posteriors, but model.posterior is "
                      f"{type(posterior).__name__}, whose density is known for its own draws only; choose "
                      "posterior.name=diagonal or full.")
  if isinstance(made, VampPrior) and class_conditional:
    raise ConfigError("model.prior is 'vamp', whose pseudo-inputs have no labels, but class_conditional is True; "
                      "choose another prior.")
  return made


def _mixture(log_weights: Float[Array, " size"], means: Float[Array, "size dims"],
             log_scales: Float[Array, "size dims"]) -> Density:
  def log_prob(z: Float[Array, "batch dims"]) -> Float[Array, " batch"]:
    noise = (z[:, None] - means) * jnp.exp(-log_scales)
    each = -0.5 * jnp.sum(jnp.square(noise), axis=2) - jnp.sum(log_scales, axis=1)
    return jax.nn.logsumexp(log_weights + each, axis=1) - 0.5 * z.shape[1] * math.log(2.0 * math.pi)

  def sample(key: Key[Array, ""], num: int) -> Float[Array, "num dims"]:
    pick_key, noise_key = jax.random.split(key)
    picked = jax.random.categorical(pick_key, log_weights, shape=(num,))
    noise = jax.random.normal(noise_key, (num, means.shape[1]))
    return means[picked] + jnp.exp(log_scales[picked]) * noise

  return Density(log_prob, sample)
