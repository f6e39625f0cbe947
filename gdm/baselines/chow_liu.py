"""Chow-Liu trees: the tree-shaped distribution nearest to the data.

Chow and Liu, Approximating discrete probability distributions with dependence trees, 1968.
"""

import dataclasses
from collections.abc import Iterable

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, Num

from gdm.baselines import examples, tables
from gdm.baselines.solved import SolvedDiscrete
from gdm.dataspec import DataSpec
from gdm.errors import SpecError
from gdm.likelihood import LogLikelihood
from gdm.model import Batch, Carry, Params, Samples

# Pair counts are [dims * levels, dims * levels] in float64: 512 MiB at this width.
MAX_WIDTH = 2**13


@dataclasses.dataclass(frozen=True)
class ChowLiu(SolvedDiscrete):
  """p(x) = p(x_root) prod_d p(x_d | x_parent(d)), the tree of largest total mutual information.

  Parameters: "logits" [dims, levels of the parent, levels] (all rows of the root are its marginal); "parents" [dims],
  -1 for the root; "order" [dims], parents before children.

  Attributes:
    spec: discrete data.
    alpha: pseudo-counts per level, spread as the dimension's marginal; see `tables.smooth`. They smooth the tables, the
      tree itself is that of the empirical distribution.
  """

  spec: DataSpec
  alpha: float = 1.0

  def __post_init__(self) -> None:
    self.spec.require_whole("ChowLiu")
    tables.require_alpha(self.alpha)
    if self.levels * self.spec.num_dims > MAX_WIDTH:
      raise SpecError(f"a Chow-Liu tree counts all pairs: dimensions times levels is {self.spec.num_dims} x "
                      f"{self.levels}, which must be at most {MAX_WIDTH}; add a `quantize` or `binarize` transform.")

  def init(self, key: Key[Array, ""], batch: Batch) -> tuple[Params, Carry]:
    """Uniform tables along a chain."""
    dims = self.spec.num_dims
    logits = jnp.full((dims, self.levels, self.levels), -np.log(self.levels), jnp.float32)
    order = jnp.arange(dims, dtype=jnp.int32)
    return {"model": {"logits": logits, "parents": order - 1, "order": order}}, {}

  def solve(self, key: Key[Array, ""], batches: Iterable[Batch], report=None) -> tuple[Params, Carry]:
    """Count all pairs in one pass, spans the tree, smooths its tables."""
    dims, levels = self.spec.num_dims, self.levels

    @jax.jit
    def count(x, weight):
      one_hot = jax.nn.one_hot(x, levels).reshape(len(x), dims * levels)
      return (one_hot * weight[:, None]).T @ one_hot

    pairs = examples.accumulate(self.spec, count, batches).reshape(dims, levels, dims, levels).swapaxes(1, 2)
    parents, order = maximum_spanning_tree(mutual_information(pairs))
    log_probs = np.empty((dims, levels, levels), np.float32)
    for dim, parent in enumerate(parents):
      alone = np.diagonal(pairs[dim, dim])[None]
      own = tables.smooth(alone if parent < 0 else pairs[parent, dim], self.alpha)
      log_probs[dim] = np.log(own)
    params = {"logits": jnp.asarray(log_probs), "parents": jnp.asarray(parents), "order": jnp.asarray(order)}
    return {"model": params}, {}

  def log_likelihood(self, params: Params, carry: Carry, batch: Batch, key: Key[Array, ""],
                     num_samples: int = 1) -> LogLikelihood:
    """Exact log p(x) in nats."""
    layout, logits = self._tables(params)
    return examples.exact(self.spec, batch, tables.log_prob(layout, logits, examples.flat(self.spec, batch)))

  def sample(self, params: Params, carry: Carry, key: Key[Array, ""], num: int, condition: Array | None = None,
             temperature: float = 1.0) -> Samples:
    """Draw [num, *event] from the root to the leaves; `temperature` divides each conditional's log-probability."""
    examples.check_options(condition, temperature, "ChowLiu")
    layout, logits = self._tables(params)
    dims = self.spec.num_dims
    x = tables.ancestral(layout, logits, params["model"]["order"], key, jnp.zeros((num, dims), jnp.int32),
                         np.zeros(dims, bool), temperature)
    return examples.as_samples(self.spec, x)

  def complete(self, params: Params, carry: Carry, key: Key[Array, ""], x: Num[Array, "batch *event"],
               known: Bool[Array, "*event"]) -> Samples:
    """Draw the unknown dimensions from their exact conditional; any region.

    Messages from the leaves to the root, then draws from the root to the leaves (Pearl, Probabilistic reasoning in
    intelligent systems, 1988, section 4.2).
    """
    logits, parents, order = (params["model"][name] for name in ("logits", "parents", "order"))
    flat, known = examples.flat(self.spec, {"x": x}), jnp.ravel(known)
    # belief[d, b, v]: evidence on dimension d and, once its children have sent theirs, of all below it.
    evidence = jnp.where(known[:, None, None] & (jnp.arange(self.levels) != flat.T[:, :, None]), -jnp.inf, 0.0)

    def collect(belief, dim):
      message = jax.nn.logsumexp(logits[dim] + belief[dim][:, None, :], axis=-1)
      # The root's message goes nowhere: an index past the end is dropped.
      target = jnp.where(parents[dim] < 0, self.spec.num_dims, parents[dim])
      return belief.at[target].add(message, mode="drop"), None

    belief, _ = jax.lax.scan(collect, evidence, order, reverse=True)

    def distribute(drawn, step):
      dim, key = step
      above = drawn[jnp.maximum(parents[dim], 0)]  # the root's rows are all the same
      return drawn.at[dim].set(jax.random.categorical(key, logits[dim, above] + belief[dim]).astype(jnp.int32)), None

    keys = jax.random.split(key, self.spec.num_dims)
    drawn, _ = jax.lax.scan(distribute, flat.T, (order, keys))
    return examples.as_samples(self.spec, drawn.T)

  def _tables(self, params: Params) -> tuple[tables.Layout, Float[Array, "rows levels"]]:
    parents, dims = params["model"]["parents"], self.spec.num_dims
    layout = tables.Layout(parents=jnp.maximum(parents, 0)[:, None], strides=(parents >= 0).astype(jnp.int32)[:, None],
                           offsets=jnp.arange(dims) * self.levels, sizes=np.full(dims, self.levels))
    return layout, params["model"]["logits"].reshape(dims * self.levels, self.levels)


def mutual_information(pairs: Float[np.ndarray, "dims dims levels levels"]) -> Float[np.ndarray, "dims dims"]:
  """Empirical mutual information of every pair of dimensions, in nats; the diagonal holds entropies.

  Args:
    pairs: joint counts; `pairs[i, j, a, b]` is how often x_i = a and x_j = b.
  """
  information = np.empty(pairs.shape[:2])
  for i, counted in enumerate(pairs):  # row by row: logarithms of all pairs at once would double the memory
    joint = counted / counted.sum(axis=(1, 2), keepdims=True)
    product = joint.sum(axis=2, keepdims=True) * joint.sum(axis=1, keepdims=True)
    ratio = np.divide(joint, product, out=np.ones_like(joint), where=joint > 0)
    information[i] = np.sum(joint * np.log(ratio), axis=(1, 2))
  return information


def maximum_spanning_tree(
    weights: Float[np.ndarray, "nodes nodes"]) -> tuple[Int[np.ndarray, " nodes"], Int[np.ndarray, " nodes"]]:
  """Return the spanning tree of largest total weight, rooted at node 0, by Prim's algorithm (1957).

  Returns:
    The parent of each node, -1 for the root; and the nodes in an order with parents before children. Both int32.
  """
  num_nodes = len(weights)
  parents, order = np.full(num_nodes, -1, np.int32), np.zeros(num_nodes, np.int32)
  nearest = np.zeros(num_nodes, np.int32)  # the node of the tree each outside node would join at, and its weight
  best = weights[0].astype(np.float64)
  best[0] = -np.inf
  outside = np.ones(num_nodes, bool)
  outside[0] = False
  for step in range(1, num_nodes):
    node = int(np.argmax(np.where(outside, best, -np.inf)))
    parents[node], order[step], outside[node] = nearest[node], node, False
    closer = weights[node] > best
    nearest[closer], best[closer] = node, weights[node][closer]
  return parents, order
