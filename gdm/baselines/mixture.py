"""Mixtures of products of categoricals (Bernoullis for two levels), fitted by EM."""

import dataclasses
from collections.abc import Iterable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, Num

from gdm.baselines import em, examples, seeding, tables
from gdm.baselines.solved import SolvedDiscrete
from gdm.dataspec import DataSpec
from gdm.distributions import categorical
from gdm.errors import SpecError
from gdm.likelihood import LogLikelihood
from gdm.model import Batch, Carry, Params, PyTree, Samples

# Examples among which k-means++ looks for starting points.
SEEDING_EXAMPLES = 4000


@dataclasses.dataclass(frozen=True)
class Mixture(SolvedDiscrete):
  """p(x) = sum_k w_k prod_d p_k(x_d).

  Parameters: "log_weights" [components]; "logits" [components, dims, levels], both log-probabilities.

  Attributes:
    spec: discrete data.
    num_components: how many products.
    alpha: Dirichlet pseudo-counts: of each component's weight, and per level in each of its dimensions, there spread as
      the data's marginal. The fit maximizes the posterior, so that no probability is zero.
    seed_weight: how much of a component's first probabilities is its seed, one example; the rest is the marginal.
    num_restarts, restart_iterations, num_iterations, tolerance: see `gdm.baselines.em.EMSchedule`.
  """

  spec: DataSpec
  num_components: int = 50
  alpha: float = 1.0
  seed_weight: float = 0.5
  num_restarts: int = 4
  restart_iterations: int = 10
  num_iterations: int = 200
  tolerance: float = 1e-4

  def __post_init__(self) -> None:
    self.spec.require_whole("Mixture")
    self.spec.require_discrete("Mixture")
    tables.require_alpha(self.alpha)
    if self.num_components < 1:
      raise SpecError(f"model.num_components is {self.num_components}; a mixture needs at least 1.")
    if not 0.0 < self.seed_weight < 1.0:
      raise SpecError(f"model.seed_weight is {self.seed_weight}; it must be in (0, 1).")
    self._schedule.check()

  @property
  def _schedule(self) -> em.EMSchedule:
    return em.EMSchedule(self.num_restarts, self.restart_iterations, self.num_iterations, self.tolerance)

  def init(self, key: Key[Array, ""], batch: Batch) -> tuple[Params, Carry]:
    """Equal weights, uniform components."""
    shape = (self.num_components, self.spec.num_dims, self.levels)
    return {"model": {"log_weights": jnp.full(shape[0], -np.log(shape[0]), jnp.float32),
                      "logits": jnp.full(shape, -np.log(self.levels), jnp.float32)}}, {}

  def solve(self, key: Key[Array, ""], batches: Iterable[Batch],
            report: em.Report | None = None) -> tuple[Params, Carry]:
    """EM from several starts; two passes to prepare, then one per iteration."""
    layout = tables.layout_of(((),) * self.spec.num_dims, self.levels)
    counted = examples.accumulate(self.spec, jax.jit(lambda x, w: tables.counts(layout, self.levels, x, w)), batches)
    marginal = np.exp(tables.estimate(layout, counted, self.alpha).astype(np.float64))
    strength = self.alpha * self.levels
    sample_key, fit_key = jax.random.split(key)
    points = seeding.subsample(sample_key, self.spec, batches, SEEDING_EXAMPLES)

    def start(key):
      centres = seeding.spread_out(key, points, self.num_components, seeding.hamming)
      mixed = self.seed_weight * np.eye(self.levels)[centres] + (1.0 - self.seed_weight) * marginal
      return _parameters(np.full(self.num_components, 1.0 / self.num_components), mixed)

    def maximize(statistics, params):
      # Level 0 was left out of the statistics: it is what the others leave of the component's count.
      others, each = statistics["others"], statistics["each"]
      rest = np.maximum(each[:, None, None] - others.sum(axis=-1, keepdims=True), 0.0)
      expected = np.concatenate([rest, others], axis=-1)
      probs = (expected + strength * marginal) / (each[:, None, None] + strength)
      return _parameters((each + self.alpha) / (each + self.alpha).sum(), probs)

    def log_prior(params):
      params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), params)
      return float(self.alpha * params["log_weights"].sum() + strength * (marginal * params["logits"]).sum())

    steps = em.EMSteps(start, self._expect, maximize, log_prior)
    return {"model": em.fit(fit_key, steps, self._schedule, self.spec, batches, report)}, {}

  def log_likelihood(self, params: Params, carry: Carry, batch: Batch, key: Key[Array, ""],
                     num_samples: int = 1) -> LogLikelihood:
    """Exact log p(x) in nats."""
    joint = self._joint(params["model"], examples.flat(self.spec, batch))
    return examples.exact(self.spec, batch, jax.nn.logsumexp(joint, axis=-1))

  def sample(self, params: Params, carry: Carry, key: Key[Array, ""], num: int, condition: Array | None = None,
             temperature: float = 1.0) -> Samples:
    """Draw [num, *event]; `temperature` divides the log-probabilities of the component and of its dimensions."""
    examples.check_options(condition, temperature, "Mixture")
    component_key, value_key = jax.random.split(key)
    log_weights = categorical.tempered(params["model"]["log_weights"], temperature)
    component = jax.random.categorical(component_key, log_weights, shape=(num,))
    drawn = categorical.sample(value_key, params["model"]["logits"][component], temperature)
    return examples.as_samples(self.spec, drawn)

  def complete(self, params: Params, carry: Carry, key: Key[Array, ""], x: Num[Array, "batch *event"],
               known: Bool[Array, "*event"]) -> Samples:
    """Draw the unknown dimensions from their exact conditional; any region: the component is drawn given the known."""
    flat, known = examples.flat(self.spec, {"x": x}), jnp.ravel(known)
    component_key, value_key = jax.random.split(key)
    masked = {**params["model"], "logits": jnp.where(known[:, None], params["model"]["logits"], 0.0)}
    component = jax.random.categorical(component_key, self._joint(masked, flat))
    drawn = categorical.sample(value_key, params["model"]["logits"][component])
    return examples.as_samples(self.spec, jnp.where(known, flat, drawn))

  def _features(self, x: Int[Array, "batch dims"]) -> Float[Array, "batch features"]:
    """One-hot codes without level 0: for two levels x itself, which halves the matrix products."""
    return (x[..., None] == jnp.arange(1, self.levels)).astype(jnp.float32).reshape(len(x), -1)

  def _joint(self, params: PyTree, x: Int[Array, "batch dims"]) -> Float[Array, "batch components"]:
    """Return log w_k + sum_d log p_k(x_d), as one matrix product."""
    base = params["logits"][..., 0]
    ratios = (params["logits"][..., 1:] - base[..., None]).reshape(self.num_components, -1)
    return params["log_weights"] + jnp.sum(base, axis=-1) + self._features(x) @ ratios.T

  def _expect(self, x: Int[Array, "batch dims"], weight: Float[Array, " batch"], params: PyTree) -> PyTree:
    joint = self._joint(params, x)
    nats = jax.nn.logsumexp(joint, axis=-1)
    responsibility = weight[:, None] * jnp.exp(joint - nats[:, None])
    others = responsibility.T @ self._features(x)
    return {"nats": weight @ nats, "count": jnp.sum(weight), "each": jnp.sum(responsibility, axis=0),
            "others": others.reshape(self.num_components, self.spec.num_dims, self.levels - 1)}


def _parameters(weights: Float[np.ndarray, " components"],
                probs: Float[np.ndarray, "components dims levels"]) -> PyTree:
  return {"log_weights": jnp.asarray(np.log(weights), jnp.float32), "logits": jnp.asarray(np.log(probs), jnp.float32)}
