"""N-grams with Kneser and Ney's smoothing, for sequences of any length: see gdm/baselines/kneser_ney.py."""

import dataclasses
import math
from collections.abc import Iterable
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, Num

from gdm.baselines import examples, kneser_ney
from gdm.baselines.solved import SolvedDiscrete
from gdm.batches import num_real
from gdm.dataspec import DataSpec
from gdm.errors import SpecError
from gdm.inference import continuation
from gdm.inference.ancestral import ancestral
from gdm.inference.generation import Generated, TokenChoice
from gdm.likelihood import LogLikelihood
from gdm.model import Batch, Carry, Params, PyTree, Samples

NOWHERE = -1  # in place of the node of a context that was never seen


@dataclasses.dataclass(frozen=True)
class NGram(SolvedDiscrete):
  """p(x) = prod_t p(x_t | x_{t-n+1}, ..., x_{t-1}), the same at all places; a sequence begins with a token of its own.

  Parameters: the arrays of `gdm.baselines.kneser_ney.NGramWeights`, padded to the capacity: "first" [capacity + 2],
  "token" and "weight" [capacity], "backoff" [capacity + 1]. A context that was never seen is
  scored as the one without its first token, and every token has a probability above zero.

  Attributes:
    spec: discrete data; with lengths, what is beyond them is neither counted nor scored.
    order: n, tokens of the longest n-grams, the predicted one included.
    capacity: how many different n-grams there may be, of all lengths together.
  """

  spec: DataSpec
  order: int = 7
  capacity: int = 2**20

  def __post_init__(self) -> None:
    self.spec.require_discrete("NGram")
    for name in ("order", "capacity"):
      if getattr(self, name) < 1:
        raise SpecError(f"model.{name} is {getattr(self, name)}; it must be at least 1.")

  @property
  def num_steps(self) -> int:
    return self.spec.num_dims

  @property
  def context(self) -> None:
    """The longest sequence that steps can make: there is no limit."""
    return None

  @property
  def start(self) -> int:
    """The token before the first."""
    return self.levels

  def init(self, key: Key[Array, ""], batch: Batch) -> tuple[Params, Carry]:
    """No n-gram, so that all tokens are equally probable."""
    none = np.empty(0)
    return self._padded(kneser_ney.NGramWeights(np.zeros(2, int), none.astype(int), none, np.ones(1))), {}

  def solve(self, key: Key[Array, ""], batches: Iterable[Batch], report=None) -> tuple[Params, Carry]:
    """Count in one pass, then smooths.

    Raises:
      SpecError: there are more n-grams than the capacity.
    """
    counter, count = kneser_ney.Counter(self.order, self.start), 0
    for batch in batches:
      examples.check(self.spec, batch, count)
      count += len(batch["x"])
      seen = np.asarray(examples.weights(batch)) > 0
      x, real = (np.asarray(values)[seen] for values in (examples.flat(self.spec, batch), num_real(self.spec, batch)))
      counter.add(x, real)
    if not count:
      raise examples.no_batch()
    weights = kneser_ney.smooth(counter, self.start)
    if len(weights.token) > self.capacity:
      raise SpecError(f"the training split has {len(weights.token)} different n-grams of up to {self.order} tokens, "
                      f"more than model.capacity, {self.capacity}; raise it, or lower model.order.")
    return self._padded(weights), {}

  def log_likelihood(self, params: Params, carry: Carry, batch: Batch, key: Key[Array, ""],
                     num_samples: int = 1) -> LogLikelihood:
    """Exact log p(x) in nats of the real tokens, which `num_dims` counts."""
    model, x = params["model"], examples.flat(self.spec, batch)
    tokens = jnp.pad(x, ((0, 0), (1, 0)), constant_values=self.start)
    root = jnp.zeros(tokens.shape, jnp.int32)
    before, prob = root, jnp.full(x.shape, 1.0 / self.levels)  # nodes of the contexts that end at each token
    for _ in range(self.order):
      node = self._child(model, before, tokens)
      weight = jnp.where(node[:, 1:] == NOWHERE, 0.0, model["weight"][node[:, 1:] - 1])
      prob = weight + self._backoff(model, before[:, 1:]) * prob
      before = jnp.pad(node, ((0, 0), (1, 0)), constant_values=NOWHERE)[:, :-1]
    return examples.exact_of_real(self.spec, batch, jnp.log(prob))

  def sample(self, params: Params, carry: Carry, key: Key[Array, ""], num: int, condition: Array | None = None,
             temperature: float = 1.0) -> Samples:
    """Draw x [num, *event], all of full length; `temperature` divides the logits."""
    examples.check_options(condition, temperature, "NGram")
    forced = jnp.zeros((self.num_steps, num), jnp.int32)
    return self._draw(params, key, forced, np.zeros(self.num_steps, bool), TokenChoice(temperature))

  def complete(self, params: Params, carry: Carry, key: Key[Array, ""], x: Num[Array | np.ndarray, "batch *event"],
               known: Bool[Array | np.ndarray, "*event"]) -> Samples:
    """Keep x where `known`, which must be concrete, and draws the rest given it, exactly.

    Raises:
      SpecError: `known` is not a beginning of the sequence.
    """
    given = np.ravel(np.asarray(known))
    missing = int(np.argmin(np.append(given, False)))
    for late in np.flatnonzero(given[missing:])[:1] + missing:
      raise SpecError(f"known must be a beginning of the sequence: position {late} is known, but position {missing} is "
                      "not.")
    forced = examples.flat(self.spec, {"x": x}).T
    return self._draw(params, key, forced, given, TokenChoice())

  def generate(self, params: Params, key: Key[Array, "..."], num: int | None = None, **options: Any) -> Generated:
    """Continue prompts, or draws `num` sequences from nothing; see `gdm.inference.continuation.generate`."""
    return continuation.generate(self, params, key, num, **options)

  def init_cache(self, params: Params, num: int) -> Int[Array, "num order"]:
    """Nodes of the contexts of 0 to n - 1 tokens that end at the last token; before the first there is none."""
    return jnp.full((num, self.order), NOWHERE, jnp.int32).at[:, 0].set(0)

  def conditional_step(self, params: Params, cache: Int[Array, "batch order"], x_previous: Int[Array, " batch"],
                       index: Int[Array, ""]) -> tuple[PyTree, Float[Array, "batch levels"]]:
    """Log-probabilities of all tokens at `index` given those before; see `gdm.model.HasConditionals`."""
    model, levels = params["model"], self.levels
    previous = jnp.where(index == 0, self.start, jnp.asarray(x_previous, jnp.int32))
    longer = self._child(model, cache[:, :-1], jnp.broadcast_to(previous[:, None], cache[:, :-1].shape))
    cache = jnp.concatenate([cache[:, :1], longer], axis=1)
    rows, prob = jnp.arange(len(cache))[:, None], jnp.full((len(cache), levels), 1.0 / levels)
    for length in range(self.order):
      first, last = self._children(model, cache[:, length])
      place = first[:, None] + jnp.arange(levels + 1)  # at most so many tokens follow, the start among them
      entry = jnp.minimum(place, self.capacity - 1)
      weight = jnp.where(place < last[:, None], model["weight"][entry], 0.0)
      own = jnp.zeros_like(prob).at[rows, model["token"][entry]].add(weight, mode="drop")
      prob = own + self._backoff(model, cache[:, length])[:, None] * prob
    return cache, jnp.log(prob)

  def _draw(self, params, key, forced, known, choice: TokenChoice) -> Samples:
    def step(cache, previous, index):
      return self.conditional_step(params, cache, previous, index)

    cache = self.init_cache(params, forced.shape[1])
    x = ancestral(step, lambda key, logits, index: choice.draw(key, logits), cache, key, forced, known).T
    return examples.as_samples(self.spec, x)

  def _child(self, model: PyTree, node: Int[Array, "*shape"], token: Int[Array, "*shape"]) -> Int[Array, "*shape"]:
    """Return the node of the context that is one token longer; `NOWHERE` where it was never seen. By bisection."""
    low, end = self._children(model, node)
    high = end
    for _ in range(math.ceil(math.log2(self.levels + 2))):
      middle = (low + high) // 2
      before = (low < high) & (model["token"][jnp.minimum(middle, self.capacity - 1)] < token)
      low, high = jnp.where(before, middle + 1, low), jnp.where(before, high, middle)
    found = (low < end) & (model["token"][jnp.minimum(low, self.capacity - 1)] == token)
    return jnp.where(found, low + 1, NOWHERE)

  def _children(self, model: PyTree, node: Int[Array, "*shape"]) -> tuple[Int[Array, "*shape"], Int[Array, "*shape"]]:
    """Return the range of the n-grams that continue a context; an empty one where it was never seen."""
    first, end = model["first"][node], model["first"][node + 1]
    return jnp.where(node == NOWHERE, 0, first), jnp.where(node == NOWHERE, 0, end)

  def _backoff(self, model: PyTree, node: Int[Array, "*shape"]) -> Float[Array, "*shape"]:
    return jnp.where(node == NOWHERE, 1.0, model["backoff"][node])

  def _padded(self, weights: kneser_ney.NGramWeights) -> Params:
    num, most = len(weights.token), self.capacity
    return {"model": {
        "first": jnp.asarray(np.pad(weights.first, (0, most - num), mode="edge"), jnp.int32),
        "token": jnp.asarray(np.pad(weights.token, (0, most - num)), jnp.int32),
        "weight": jnp.asarray(np.pad(weights.weight, (0, most - num)), jnp.float32),
        "backoff": jnp.asarray(np.pad(weights.backoff, (0, most - num), constant_values=1.0), jnp.float32)}}
