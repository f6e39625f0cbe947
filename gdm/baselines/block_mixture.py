"""Mixtures of products over blocks of mutually exclusive columns, by EM that finds the number of components itself.

Within a component a block is a categorical over its members and "none" (`gdm.distributions.blocks`), a lone bit a
Bernoulli; on data without blocks this is a mixture of products of Bernoullis. Three things let the defaults carry over:

- Components that hold too few examples are removed (Figueiredo and Jain, Unsupervised learning of finite mixture
  models, 2002), so that `num_components` is only where the search begins.
- How far a block's distribution strays from its marginal between components is learned: a concentration per block, by
  the evidence of the expected counts (Minka, Estimating a Dirichlet distribution, 2000).
- Runs from several starts are averaged, not chosen among: a mixture of mixtures is a mixture.
"""

import dataclasses
from collections.abc import Iterable

import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse
import scipy.special
from jaxtyping import Array, Bool, Float, Int, Key, Num

from gdm.baselines import em, examples, seeding, tables
from gdm.baselines.solved import Solved
from gdm.dataspec import DataSpec
from gdm.distributions import blocks, categorical
from gdm.errors import SpecError
from gdm.likelihood import LogLikelihood
from gdm.model import Batch, Carry, Params, PyTree, Samples

# Examples among which k-means++ looks for starting points.
SEEDING_EXAMPLES = 4000
# Log-weight of a removed component: finite, so that the state can be saved, and no probability in float32.
REMOVED = -1e4
# Iterations before components are removed: first they share out the examples.
SETTLING_ITERATIONS = 10
# A component that is to go keeps the weight of this many examples until it does.
LEAST_COUNT = 1e-3
# Krichevsky and Trofimov's count per state in the marginals.
MARGINAL_COUNT = 0.5
# Concentrations further out change nothing that can be measured.
CONCENTRATION_RANGE = (1e-2, 1e4)


@dataclasses.dataclass(frozen=True)
class BlockMixture(Solved):
  """p(x) = sum_k w_k prod_b p_k(x_b) over the blocks b of `spec.blocks`, or over the dimensions where it is ().

  Parameters: "log_weights" [components], `REMOVED` for removed ones; "logits" [components, dims + blocks], the
  log-probabilities of each block's states: every member, then each block's "none". There are num_runs *
  num_components components.

  Attributes:
    spec: binary data.
    num_components: components that each run begins with.
    num_runs: EM runs whose mixtures are averaged.
    alpha: pseudo-counts per state of a block in each component, spread as the data's marginal. The fit maximizes the
      posterior, so that no probability is zero. Where concentrations are learned, they begin here, and the prior of
      them has its mode here.
    min_count: components of fewer expected examples are removed; 0 keeps all.
    learn_iterations: how many of the first iterations learn the concentrations; 0 keeps them at alpha.
    seed_weight: how much of a component's first probabilities is its seed, one example; the rest is the marginal.
    fallback: weight of the patterns that are no state of a block.
    num_iterations: EM iterations of each run.
    tolerance: a run stops once an iteration gains less than this many nats per example.
  """

  spec: DataSpec
  num_components: int = 200
  num_runs: int = 8
  alpha: float = 0.1
  min_count: float = 5.0
  learn_iterations: int = 60
  seed_weight: float = 0.5
  fallback: float = 1e-5
  num_iterations: int = 300
  tolerance: float = 1e-5

  def __post_init__(self) -> None:
    self.spec.require_whole("BlockMixture")
    self.spec.require_binary("BlockMixture")
    tables.require_alpha(self.alpha)
    blocks.require_fallback(self.fallback)
    for name, least in (("num_components", 1), ("num_runs", 1), ("num_iterations", 1), ("learn_iterations", 0)):
      if getattr(self, name) < least:
        raise SpecError(f"model.{name} is {getattr(self, name)}; it must be at least {least}.")
    if not 0.0 <= self.min_count < np.inf:
      raise SpecError(f"model.min_count is {self.min_count}; it must be at least 0, a number of examples.")
    if not 0.0 < self.seed_weight < 1.0:
      raise SpecError(f"model.seed_weight is {self.seed_weight}; it must be in (0, 1).")

  @property
  def _blocks(self) -> blocks.Blocks:
    return blocks.blocks_of(self.spec)

  @property
  def _owner(self) -> Int[np.ndarray, " states"]:
    """The block of every state."""
    return np.concatenate([self._blocks.owner, np.arange(len(self._blocks.sizes))])

  def init(self, key: Key[Array, ""], batch: Batch) -> tuple[Params, Carry]:
    """Equal weights, uniform components."""
    num = self.num_runs * self.num_components
    uniform = jnp.asarray(-np.log(self._blocks.sizes + 1.0)[self._owner], jnp.float32)
    return {"model": {"log_weights": jnp.full(num, -np.log(num), jnp.float32),
                      "logits": jnp.tile(uniform, (num, 1))}}, {}

  def solve(self, key: Key[Array, ""], batches: Iterable[Batch],
            report: em.Report | None = None) -> tuple[Params, Carry]:
    """EM from `num_runs` starts; two passes to prepare, then one per iteration.

    `report` follows one run after the other, then tells the nll of their average.
    """
    report = report or (lambda iteration, metrics: None)
    counts = examples.accumulate(self.spec, jax.jit(lambda x, w: w @ self._features(x)[0]), batches)
    fit = _Fit(self, _normalized(counts + MARGINAL_COUNT, _membership(self._owner)))
    sample_key, fit_key = jax.random.split(key)
    points = seeding.subsample(sample_key, self.spec, batches, SEEDING_EXAMPLES)
    steps = em.EMSteps(lambda key: fit.start(key, points), jax.jit(self._expect), fit.maximize, fit.log_prior,
                       fit.revise)
    runs, done = [], 0
    for run_key in jax.random.split(fit_key, self.num_runs):
      told = []

      def follow(iteration, metrics, done=done, told=told):
        told.append(iteration)
        report(done + iteration, metrics)

      runs.append(em.run(steps, steps.start(run_key), self.spec, batches, self.num_iterations, self.tolerance, follow))
      done += len(told)
    joined = {name: jnp.concatenate([run[name] for run in runs]) for name in ("log_weights", "logits")}
    joined["log_weights"] = jnp.maximum(joined["log_weights"] - np.log(self.num_runs), REMOVED)
    if self.num_runs > 1:
      total = examples.accumulate(self.spec, jax.jit(self._total), batches, joined)
      report(done, {"nll": -float(total["nats"] / total["count"])})
    return {"model": joined}, {}

  def log_likelihood(self, params: Params, carry: Carry, batch: Batch, key: Key[Array, ""],
                     num_samples: int = 1) -> LogLikelihood:
    """Exact log p(x) in nats."""
    return examples.exact(self.spec, batch, self._nats(examples.flat(self.spec, batch), params["model"]))

  def sample(self, params: Params, carry: Carry, key: Key[Array, ""], num: int, condition: Array | None = None,
             temperature: float = 1.0) -> Samples:
    """Draw [num, *event]; `temperature` divides the log-probabilities of the component and of the blocks' states."""
    examples.check_options(condition, temperature, "BlockMixture")
    component_key, value_key = jax.random.split(key)
    log_weights = categorical.tempered(params["model"]["log_weights"], temperature)
    component = jax.random.categorical(component_key, log_weights, shape=(num,))
    return examples.as_samples(self.spec, self._draw(value_key, params["model"]["logits"], component, temperature))

  def complete(self, params: Params, carry: Carry, key: Key[Array, ""], x: Num[Array, "batch *event"],
               known: Bool[Array, "*event"]) -> Samples:
    """Draw the unknown blocks from their exact conditional: the component is drawn given the known ones.

    Raises:
      SpecError: `known` holds a part of a block.
    """
    flat, mask = examples.flat(self.spec, {"x": x}), np.ravel(np.asarray(known))
    whole = np.append(mask, True)[self._blocks.dims].all(axis=1)
    some = np.append(mask, False)[self._blocks.dims].any(axis=1)
    for dims in self._blocks.dims[some & ~whole][:1]:
      raise SpecError(f"known holds a part of the block of dimensions {dims[dims < self.spec.num_dims].tolist()}; a "
                      "block is drawn jointly, so know all of it or nothing.")
    component_key, value_key = jax.random.split(key)
    features, _ = self._features(flat)
    joint = self._joint(params["model"], features * np.asarray(whole, np.float32)[self._owner])
    component = jax.random.categorical(component_key, joint)
    drawn = self._draw(value_key, params["model"]["logits"], component)
    return examples.as_samples(self.spec, jnp.where(jnp.asarray(mask), flat, drawn))

  def _features(self, x: Int[Array, "batch dims"]) -> tuple[Float[Array, "batch states"], Float[Array, " batch"]]:
    """Return which states the blocks are in, one-hot, and the log-probability of all blocks that are in none."""
    ones = blocks.count_ones(self._blocks, x)
    members = jnp.where(ones[:, self._blocks.owner] <= 1, x, 0)
    laplace = blocks.log_prob(self._blocks, jnp.zeros(()), self._blocks.sizes, ones, self.fallback)
    return (jnp.concatenate([members, ones == 0], axis=1).astype(jnp.float32),
            jnp.sum(jnp.where(ones > 1, laplace, 0.0), axis=1))

  def _with_fallback(self, logits: Float[Array, "components states"]) -> Float[Array, "components states"]:
    """Log-probabilities of the patterns that are states: a block's own, or Laplace's rule."""
    ones = (np.arange(len(self._owner)) < self.spec.num_dims).astype(np.int32)
    return blocks.log_prob(self._blocks, logits, self._blocks.sizes[self._owner], ones, self.fallback)

  def _joint(self, params: PyTree, features: Float[Array, "batch states"]) -> Float[Array, "batch components"]:
    """Return log w_k + sum_b log p_k(x_b) over the blocks that are in a state, as one matrix product."""
    return params["log_weights"] + features @ self._with_fallback(params["logits"]).T

  def _nats(self, x: Int[Array, "batch dims"], params: PyTree) -> Float[Array, " batch"]:
    features, laplace = self._features(x)
    return jax.nn.logsumexp(self._joint(params, features), axis=-1) + laplace

  def _total(self, x: Int[Array, "batch dims"], weight: Float[Array, " batch"], params: PyTree) -> PyTree:
    return {"nats": weight @ self._nats(x, params), "count": jnp.sum(weight)}

  def _expect(self, x: Int[Array, "batch dims"], weight: Float[Array, " batch"], params: PyTree) -> PyTree:
    features, laplace = self._features(x)
    joint = self._joint(params, features)
    nats = jax.nn.logsumexp(joint, axis=-1)
    responsibility = weight[:, None] * jnp.exp(joint - nats[:, None])
    # A state may come from Laplace's rule, and then tells nothing of the categorical. A lone bit never does.
    kept = np.where(self._blocks.sizes > 1, np.log1p(-self.fallback), 0.0)[self._owner].astype(np.float32)
    from_states = jnp.exp(kept + params["logits"] - self._with_fallback(params["logits"]))
    return {"nats": weight @ (nats + laplace), "count": jnp.sum(weight), "each": jnp.sum(responsibility, axis=0),
            "states": from_states * (responsibility.T @ features)}

  def _draw(self, key: Key[Array, ""], logits: Float[Array, "components states"], component: Int[Array, " num"],
            temperature: float = 1.0) -> Int[Array, "num dims"]:
    """Return all blocks of examples from the given components."""
    dims, num_dims = self._blocks.dims, self.spec.num_dims
    none = num_dims + np.arange(len(dims))[:, None]
    states = np.concatenate([none, np.where(dims < num_dims, dims, len(self._owner))], axis=1)
    padded = jnp.pad(logits, ((0, 0), (0, 1)), constant_values=-jnp.inf)
    drawn = blocks.draw(key, padded[component][:, states], self._blocks.sizes, self.fallback, temperature)
    return jnp.zeros((len(component), num_dims), jnp.int32).at[:, dims].set(drawn, mode="drop")


class _Fit:
  """EM of one run, on the host: where it starts, its M-step, and what it removes and learns on the way.

  The prior of a component's categoricals is a density of their logits, proportional to prod theta^(c_b m), with the
  block's concentration c_b and marginal m: its mode is then the posterior mean of a Dirichlet (MacKay, Choice of basis
  for Laplace approximation, 1998). That of the weights is prod w_k^(-min_count / 2).
  """

  def __init__(self, model: BlockMixture, marginal: Float[np.ndarray, " states"]):
    self._model, self._marginal, self._owner = model, marginal, model._owner
    self._membership = _membership(self._owner)
    self._concentration = model.alpha * (model._blocks.sizes + 1.0)
    # So many iterations follow no one objective, and the run cannot end before.
    self._unsettled = max(model.learn_iterations, SETTLING_ITERATIONS if model.min_count > 0 else 0)

  def start(self, key: Key[Array, ""], points: Int[np.ndarray, "num dims"]) -> PyTree:
    """Equal weights; components between the marginal and an example each, far from each other."""
    num = self._model.num_components
    seeds = seeding.spread_out(key, points, num, seeding.hamming)
    states = np.asarray(self._model._features(jnp.asarray(seeds))[0], np.float64)
    weight = self._model.seed_weight
    probs = _normalized((1.0 - weight) * self._marginal + weight * states, self._membership)
    return {**_parameters(np.full(num, 1.0 / num), probs), "concentration": jnp.asarray(self._concentration)}

  def maximize(self, statistics: PyTree, params: PyTree) -> PyTree:
    concentration = np.asarray(params["concentration"], np.float64)
    pseudo = concentration[self._owner] * self._marginal
    probs = _normalized(statistics["states"] + pseudo, self._membership)
    # Figueiredo and Jain 2002, eq. 17, with min_count for a component's number of parameters.
    counts = np.maximum(statistics["each"] - self._model.min_count / 2, LEAST_COUNT) * _present(params)
    return {**_parameters(counts / counts.sum(), probs), "concentration": params["concentration"]}

  def log_prior(self, params: PyTree) -> float:
    present = _present(params)
    pseudo = np.asarray(params["concentration"], np.float64)[self._owner] * self._marginal
    logits, log_weights = (np.asarray(params[name], np.float64)[present] for name in ("logits", "log_weights"))
    return float((logits @ pseudo).sum() - self._model.min_count / 2 * log_weights.sum())

  def revise(self, iteration: int, statistics: PyTree, params: PyTree) -> PyTree | None:
    """Learn the concentrations and remove components; None once there is nothing to change."""
    revised = dict(params)
    if iteration < self._model.learn_iterations:
      revised["concentration"] = self._learned(statistics, np.asarray(params["concentration"], np.float64))
    removed = self._too_small(statistics["each"], _present(params)) if iteration >= SETTLING_ITERATIONS else []
    if len(removed):
      revised["log_weights"] = params["log_weights"].at[np.asarray(removed)].set(REMOVED)
    return revised if iteration < self._unsettled or len(removed) else None

  def _too_small(self, each: Float[np.ndarray, " components"],
                 present: Bool[np.ndarray, " components"]) -> Int[np.ndarray, " removed"]:
    """Return the smallest quarter of those below min_count: their examples may save the others. One always stays."""
    small = np.flatnonzero(present & (each < self._model.min_count))
    num = min(-(-len(small) // 4), int(present.sum()) - 1)
    return small[np.argsort(each[small])[:num]]

  def _learned(self, statistics: PyTree, concentration: Float[np.ndarray, " blocks"]) -> Float[Array, " blocks"]:
    """Step towards the most probable concentrations, given the expected counts of all components.

    Minka 2000, eq. 55, for the sum of alpha with its mean fixed; with a Gamma prior of rate 1 and mode alpha per state.
    """
    counts, mode = statistics["states"], self._concentration
    totals = counts @ self._membership
    for _ in range(3):
      pseudo = concentration[self._owner] * self._marginal
      digamma = scipy.special.digamma
      gain = (self._marginal * (digamma(counts + pseudo) - digamma(pseudo)).sum(axis=0)) @ self._membership
      cost = (digamma(totals + concentration) - digamma(concentration)).sum(axis=0)
      concentration = np.clip((concentration * gain + mode) / (cost + 1.0), *CONCENTRATION_RANGE)
    return jnp.asarray(concentration, jnp.float32)


def _membership(owner: Int[np.ndarray, " states"]) -> scipy.sparse.csr_array:
  """[states, blocks], 1 where the state is of the block: sums over blocks as a sparse product."""
  num = len(owner)
  return scipy.sparse.csr_array((np.ones(num), (np.arange(num), owner)), shape=(num, owner.max() + 1))


def _normalized(counts: Float[np.ndarray, "*components states"],
                membership: scipy.sparse.csr_array) -> Float[np.ndarray, "*components states"]:
  """Divided by each block's sum."""
  return counts / (counts @ membership @ membership.T)


def _present(params: PyTree) -> Bool[np.ndarray, " components"]:
  return np.asarray(params["log_weights"]) > REMOVED / 2


def _parameters(weights: Float[np.ndarray, " components"],
                probs: Float[np.ndarray, "components states"]) -> PyTree:
  """Log-parameters; a weight of 0 becomes `REMOVED`."""
  with np.errstate(divide="ignore"):
    log_weights = np.maximum(np.log(weights), REMOVED)
  return {"log_weights": jnp.asarray(log_weights, jnp.float32), "logits": jnp.asarray(np.log(probs), jnp.float32)}
