"""What latent-variable models share: their objective, their bounds from one draw to thousands, and their annealing.

With z drawn from q(z | x), w = p(x, z) / q(z | x) is unbiased for p(x). So E[log w] is a lower bound of log p(x), the
ELBO, and the log of the mean of k such weights is a tighter one (Burda, Grosse and Salakhutdinov, arXiv:1509.00519,
equation 8). A model gives log w as a function of standard normal noise, from which everything else follows.
"""

import abc
import dataclasses
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, Num

from gdm import checks
from gdm.batches import checked, condition_context, given_context
from gdm.dataspec import DataSpec
from gdm.docstrings import DocumentsFields
from gdm.errors import ConfigError, nearest
from gdm.inference import annealed_importance, metropolis
from gdm.latent.outputs import Output
from gdm.latent.posteriors import normal_log_prob
from gdm.likelihood import Kind, LogLikelihood
from gdm.model import Batch, Carry, LossOutput, Mean, Objective, Params, PyTree, Samples

ACTIVE = 0.01  # least variance over examples of a latent's posterior mean, of a unit that is used (arXiv:1509.00519)
LIKELIHOODS = ("bound", "annealed")


class Draw(NamedTuple):
  """One draw of all latents of every example.

  Attributes:
    log_weight: log p(x, z) - log q(z | x), in nats.
    reconstruction: log p(x | z), in nats.
    kl: KL(q || p) of each group of latents, in closed form where there is one, otherwise log q - log p of this draw.
  """

  log_weight: Float[Array, " batch"]
  reconstruction: Float[Array, " batch"]
  kl: Float[Array, "batch groups"]


@dataclasses.dataclass(frozen=True)
class LatentModel(DocumentsFields, abc.ABC):
  """A model of data by latents, trained by a bound.

  Attributes:
    spec: the data.
    class_conditional: whether encoder and decoder are given the labels "y".
    num_samples: k, draws of the latents in one bound of the objective; 1 is the ELBO.
    beta: weight of the KL in the objective (arXiv:1804.03599); 0 is an autoencoder with noise. With k > 1 it is 1.
    warmup_steps: steps in which beta rises from 0.
    free_bits: nats of KL of each group of latents, in the mean of a batch, below which it costs nothing more
      (arXiv:1606.04934, appendix C.8).
    likelihood: how examples are scored: "bound", by importance weights, or "annealed", by annealed importance sampling.
    num_temperatures: of annealing.
    num_leapfrog: leapfrog steps at each temperature.
    step_size: of the leapfrog, in deviations of the posterior.
  """

  spec: DataSpec
  class_conditional: bool = False
  num_samples: int = 1
  beta: float = 1.0
  warmup_steps: int = 0
  free_bits: float = 0.0
  likelihood: str = "bound"
  num_temperatures: int = 100
  num_leapfrog: int = 5
  step_size: float = 0.2

  def __post_init__(self) -> None:
    self.spec.require_whole(type(self).__name__)
    checks.classes(self.spec, self.class_conditional)
    for name, least in (("num_samples", 1), ("beta", 0), ("warmup_steps", 0), ("free_bits", 0),
                        ("num_temperatures", 1), ("num_leapfrog", 1)):
      checks.at_least(name, getattr(self, name), least)
    checks.positive("step_size", self.step_size)
    checks.one_of("likelihood", self.likelihood, LIKELIHOODS)
    if self.num_samples > 1 and (self.beta != 1.0 or self.warmup_steps or self.free_bits):
      raise ConfigError(f"num_samples is {self.num_samples}, beta {self.beta}, warmup_steps {self.warmup_steps} and "
                        f"free_bits {self.free_bits}; a bound of several draws has no KL to be weighed: set beta to 1 "
                        "and the others to 0, or num_samples to 1.")

  # What a model supplies.

  @property
  @abc.abstractmethod
  def output_distribution(self) -> Output:
    """Return the distribution of the data given the decoder's numbers."""

  @property
  @abc.abstractmethod
  def noise_dims(self) -> int:
    """Return how many standard normals make one draw of all latents of an example."""

  @abc.abstractmethod
  def infer(self, params: Params, batch: Batch, key: Key[Array, ""] | None) -> PyTree:
    """Return what the encoder makes of x, which all draws share; a key is for dropout."""

  @abc.abstractmethod
  def draw(self, params: Params, carry: Carry, batch: Batch, inferred: PyTree, noise: Float[Array, "batch noise"],
           key: Key[Array, ""] | None) -> Draw:
    """Return a draw of the latents of every example; a key is for dropout."""

  @abc.abstractmethod
  def centre(self, params: Params, inferred: PyTree) -> Float[Array, "batch dims"]:
    """Return the latents that are used for themselves: means of the posterior."""

  @abc.abstractmethod
  def prior_latents(self, params: Params, key: Key[Array, ""], num: int) -> Float[Array, "num dims"]:
    """Draw all latents from the prior."""

  @abc.abstractmethod
  def outputs_of(self, params: Params, latents: Float[Array, "batch dims"],
                 context: Float[Array, "batch classes"] | None) -> Float[Array, "batch *numbers"]:
    """Return the decoder's numbers for given latents."""

  # What follows from it.

  @property
  def given(self) -> tuple[str, ...]:
    return ("y",) if self.class_conditional else ()

  @property
  def groups(self) -> tuple[str, ...]:
    """Names of the parameter groups."""
    return ("encoder", "decoder")

  @property
  def objectives(self) -> tuple[Objective, ...]:
    reason = "free bits are of the mean KL over the whole minibatch" if self.free_bits else ""
    return (Objective(groups=self.groups, loss=self.loss, whole_batch=reason, unit="nats"),)

  def context(self, batch: Batch) -> Float[Array, "batch classes"] | None:
    """Return the labels as one-hot vectors; None where the model is not class-conditional."""
    return given_context(self, batch)

  def condition_context(self, condition: Num[Array, "..."] | None, num: int) -> Float[Array, "batch classes"] | None:
    """Return labels [num], or one for all, as one-hot vectors; None where the model is not class-conditional.

    Raise SpecError for labels where there must be none, or none where there must be some, or unknown ones.
    """
    return condition_context(self, condition, num)

  def encoder_inputs(self, x: Num[Array | np.ndarray, "batch *event"]) -> Float[Array, "batch *event"]:
    """Return integers as points of [-1, 1]; real numbers as they are."""
    x = jnp.asarray(x)
    if self.spec.levels is None:
      return x
    return 2.0 * x.astype(jnp.float32) / (self.spec.levels - 1) - 1.0

  def loss(self, params: Params, carry: Carry, batch: Batch, key: Key[Array, ""], step: Array) -> LossOutput:
    """Return minus the bound, in nats per example, its KL weighed as the fields say."""
    noise_key, infer_key, draw_key = jax.random.split(key, 3)
    inferred = self.infer(params, batch, infer_key)
    noise = self.training_noise(noise_key, batch)
    draws = self.draws(params, carry, batch, inferred, noise, draw_key)
    kl = jnp.mean(draws.kl, axis=0)
    elbo = jnp.mean(draws.reconstruction, axis=0) - jnp.sum(kl, axis=1)
    if self.num_samples > 1:
      bound = jax.nn.logsumexp(draws.log_weight, axis=0) - math.log(self.num_samples)
      loss = -jnp.mean(bound)
    else:
      weight = self.beta * jnp.minimum((step + 1.0) / (self.warmup_steps + 1.0), 1.0)
      cost = jnp.sum(jnp.maximum(jnp.mean(kl, axis=0), self.free_bits))
      bound, loss = elbo, weight * cost - jnp.mean(draws.reconstruction)
    means = self.centre(params, inferred)
    active = jnp.sum(jnp.var(means, axis=0) > ACTIVE)
    metrics = {"bound": Mean.of(bound), "elbo": Mean.of(elbo), "kl": Mean.of(jnp.sum(kl, axis=1)),
               "active_units": Mean.of(active)}
    return LossOutput(loss, metrics, carry)

  def training_noise(self, key: Key[Array, ""], batch: Batch) -> Float[Array, "samples batch noise"]:
    """Return the noise of all draws in an objective."""
    return jax.random.normal(key, (self.num_samples, batch["x"].shape[0], self.noise_dims))

  def draws(self, params: Params, carry: Carry, batch: Batch, inferred: PyTree,
            noise: Float[Array, "samples batch noise"], key: Key[Array, ""] | None) -> Draw:
    """Return several draws of every example, with a leading axis of them: computed as one large batch."""
    num = noise.shape[0]

    def again(tree: PyTree) -> PyTree:
      return jax.tree.map(lambda each: jnp.concatenate([jnp.asarray(each)] * num), tree)

    made = self.draw(params, carry, again(dict(batch)), again(inferred), noise.reshape(-1, noise.shape[2]), key)
    return jax.tree.map(lambda each: each.reshape(num, -1, *each.shape[1:]), made)

  def log_likelihood(self, params: Params, carry: Carry, batch: Batch, key: Key[Array, ""],
                     num_samples: int = 1) -> LogLikelihood:
    """Return a lower bound of log p(x) by `num_samples` importance weights, or runs of annealing, of each example.

    Weights are summed one draw after another, so that thousands take the memory of one. Details: the parts of the
    ELBO, each a mean over the same draws; of annealing, its acceptance.
    """
    checks.at_least("num_samples", num_samples, 1)
    inferred = self.infer(params, batch, None)
    shape = (batch["x"].shape[0], self.noise_dims)

    def weigh(key: Key[Array, ""]) -> tuple[Float[Array, " batch"], Mapping[str, Float[Array, " batch"]]]:
      if self.likelihood == "annealed":
        return self._annealed(params, carry, batch, inferred, key)
      made = self.draw(params, carry, batch, inferred, jax.random.normal(key, shape), None)
      kl = jnp.sum(made.kl, axis=1)
      return made.log_weight, {"elbo": made.reconstruction - kl, "reconstruction": made.reconstruction, "kl": kl}

    def add(state: Any, index: Array) -> tuple[Any, None]:
      log_sum, details = state
      log_weight, more = weigh(jax.random.fold_in(key, index))
      return (jnp.logaddexp(log_sum, log_weight), jax.tree.map(jnp.add, details, more)), None

    first = weigh(jax.random.fold_in(key, 0))
    (log_sum, details), _ = jax.lax.scan(add, first, jnp.arange(1, num_samples))
    details = {name: values / num_samples for name, values in details.items()}
    return checked(self.spec, batch, LogLikelihood.of(
        log_sum - math.log(num_samples), self.spec.num_dims, Kind.LOWER_BOUND, self.given, details, unbiased=True))

  def sample(self, params: Params, carry: Carry, key: Key[Array, ""], num: int, condition: Array | None = None,
             temperature: float = 1.0) -> Samples:
    """Draw latents from the prior and x [num, *event] given them; `temperature` is of the output alone.

    Args:
      params, carry: the model's.
      key: of the draws.
      num: how many.
      condition: labels [num] of a class-conditional model.
      temperature: of the output's distribution; 0 is its mode, or the mean of reals.

    Raise ConfigError for a negative temperature.
    """
    checks.temperature(temperature, zero=True)
    prior_key, output_key = jax.random.split(key)
    context = self.condition_context(condition, num)
    numbers = self.outputs_of(params, self.prior_latents(params, prior_key, num), context)
    x = self.output_distribution.sample(self.spec, params["decoder"]["output"], numbers, output_key, temperature)
    return Samples(x, {})

  def scored_by(self, name: str, **settings: Any) -> "LatentModel":
    """Return the model with another likelihood: bound, or annealed with `num_temperatures`, `num_leapfrog` and
    `step_size`."""
    known = ("num_temperatures", "num_leapfrog", "step_size")
    for setting in settings:
      if setting not in known:
        raise ConfigError(f"likelihood {name} has no setting {setting!r}; {nearest(setting, known)}")
    return dataclasses.replace(self, likelihood=name, **settings)

  def verdict(self, metrics: Mapping[str, float]) -> str:
    """Return words for a posterior that ignores x, by the last training metrics; "" otherwise."""
    active = metrics.get("active_units", math.inf)
    if active >= 1.0:
      return ""
    return (f"posterior collapse: {active:g} latents vary with x in the mean of a batch, so that the decoder alone "
            "models the data; try warmup_steps, free_bits, or a weaker decoder.")

  def _annealed(self, params: Params, carry: Carry, batch: Batch, inferred: PyTree, key: Key[Array, ""]
                ) -> tuple[Float[Array, " batch"], Mapping[str, Float[Array, " batch"]]]:
    """Return the log-weight of one annealed chain of each example, from q(z | x) to p(z | x)."""
    path = self.annealing_path(params, carry, batch, inferred)
    made = annealed_importance.forward(path, annealed_importance.ladder(self.num_temperatures), key,
                                       batch["x"].shape[0])
    return made.log_weights, {"acceptance": jnp.mean(made.acceptance, axis=0)}

  def annealing_path(self, params: Params, carry: Carry, batch: Batch, inferred: PyTree) -> annealed_importance.Path:
    """Return the path from q(z | x) to p(z | x), a chain for each example, whose normalizer is p(x).

    Chains run in the space of the noise u: from N(u; 0, I) to N(u; 0, I) w(u). There the posterior, as far as q is
    right, has deviation 1 everywhere.
    """
    def log_density(u: Float[Array, "batch noise"], beta: Float[Array, ""]) -> Float[Array, " batch"]:
      return normal_log_prob(u) + beta * self.draw(params, carry, batch, inferred, u, None).log_weight

    def measured(key: Key[Array, ""], u: Float[Array, "batch noise"], beta: Float[Array, ""]):
      size_key, key = jax.random.split(key)
      sizes = metropolis.mixed_steps(size_key, u.shape[0], jnp.asarray(self.step_size))
      return metropolis.hmc_move(key, u, lambda u: log_density(u, beta), sizes, self.num_leapfrog)

    return annealed_importance.Path(
        log_density, lambda key, u, beta: measured(key, u, beta)[0],
        lambda key, num: jax.random.normal(key, (num, self.noise_dims)), jnp.zeros(()), measured=measured)
