"""Which caption an example has, and which example a caption, among candidates: by the likelihood of x given captions.

Examples and captions x_1, ..., x_K and c_1, ..., c_K of a block give log p(x_j | c_i). With all captions of the block
equally probable beforehand, p(c_i | x_j) is its softmax over i: both ways are by one likelihood.
"""

import dataclasses
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from scipy.special import log_softmax

from gdm.errors import ConfigError
from gdm.evaluation.intervals import mean_half, share_interval
from gdm.model import HasPrefixCondition
from gdm.precision import at_highest_precision
from gdm.runs.trained import TrainedRun


@dataclasses.dataclass(frozen=True)
class Retrieval:
  """Shares of a split's examples that were found, and what captions say of them.

  Attributes:
    num_examples: of the split, each of which was looked for once in every repeat.
    num_candidates: examples of a block.
    repeats: of the shuffling into blocks.
    caption: share of examples whose own caption is the likeliest, and half the 95 % interval.
    example: share of captions whose own example is the one that they are likeliest of, likewise.
    gain: mean of log p(x | caption) - log p(x) in nats, likewise; None where the model knows no x without a caption.
  """

  num_examples: int
  num_candidates: int
  repeats: int
  caption: tuple[float, float]
  example: tuple[float, float]
  gain: tuple[float, float] | None

  @property
  def in_words(self) -> str:
    """The shares and the gain, a line each."""
    lines = [f"{self.num_examples} examples, among {self.num_candidates} (by chance {1 / self.num_candidates:.0%}), "
             f"{self.repeats} times"]
    lines += [f"  {words}: {share:.1%} ± {half:.1%}" for words, (share, half) in (
        ("the caption of an example", self.caption), ("the example of a caption", self.example))]
    if self.gain is not None:
      lines.append(f"  log p(x | caption) - log p(x): {self.gain[0]:.4g} ± {self.gain[1]:.2g} nats")
    return "\n".join(lines)


@at_highest_precision
def retrieve(run: TrainedRun, split: str, num_candidates: int = 10, repeats: int = 4, seed: int = 0) -> Retrieval:
  """Look for every caption and example of a split among `num_candidates`, drawn anew in each repeat.

  Example:
    found = retrieve(gdm.load("runs/emoji"), "test")
    print(found.caption, found.gain)

  Raises:
    ConfigError: the model is not conditional on captions, or the split has fewer examples than candidates.
  """
  model = run.model
  if not isinstance(model, HasPrefixCondition) or not model.prefix_conditional:
    raise ConfigError(f"{run.name} is not conditional on captions; train it with data.name=npz:FILE#prefix=caption, and"
                      " a model that takes them: transformer, a vqvae whose prior it is, or diffusion by a unet.")
  rows = run.dataset.split(split).rows(slice(None))
  x, prefix, num = rows["x"], rows["prefix"], len(rows["x"])
  lengths: dict[str, Any] = {"length": rows["length"]} if "length" in rows else {}
  if not 2 <= num_candidates <= num:
    raise ConfigError(f"--candidates is {num_candidates}; it must be from 2 to {num}, the examples of {split}.")
  rng = np.random.default_rng(seed)
  hits = np.zeros((2, num))
  for _ in range(repeats):
    for block, new in blocks(rng.permutation(num), num_candidates):
      pairs = np.repeat(block, num_candidates), np.tile(block, num_candidates)
      more: dict[str, Any] = {name: values[pairs[0]] for name, values in lengths.items()}
      nats = run.log_likelihood(x[pairs[0]], prefix=prefix[pairs[1]], seed=seed, **more).nats
      found = hits_of(np.asarray(nats).reshape(num_candidates, num_candidates))
      hits[:, block[new]] += found[:, new]
  gain = None
  if model.prefix_optional:
    given, alone = (run.log_likelihood(x, prefix=tokens, seed=seed, **lengths).nats
                    for tokens in (prefix, np.zeros_like(prefix)))
    gain = _mean(np.asarray(given) - np.asarray(alone))
  return Retrieval(num, num_candidates, repeats, _mean_share(hits[0] / repeats), _mean_share(hits[1] / repeats), gain)


def blocks(order: Int[np.ndarray, " num"], size: int) -> list[tuple[np.ndarray, np.ndarray]]:
  """Return blocks of `size` in an order, and which places of each are new: the last one is filled up by the first."""
  found = []
  for start in range(0, len(order), size):
    block = order[start:start + size]
    new = np.arange(size) < len(block)
    found.append((np.concatenate([block, order[:size - len(block)]]), new))
  return found


def hits_of(nats: Float[np.ndarray, "examples captions"]) -> Float[np.ndarray, "2 examples"]:
  """Return whether each example finds its own caption, and each caption its own example; of n that are equally likely,
  as where captions are the same, each counts as a share of 1 / n."""
  posterior = log_softmax(nats, axis=1)
  return np.stack([_share(nats), _share(posterior.T)])


def _share(scores: Float[np.ndarray, "rows rows"]) -> Float[np.ndarray, " rows"]:
  """Return the share of the diagonal among the largest of each row."""
  is_best = scores >= scores.max(axis=1, keepdims=True)
  return np.diagonal(is_best) / is_best.sum(axis=1)


def _mean(values: Float[np.ndarray, " num"]) -> tuple[float, float]:
  half = mean_half(values)
  return float(values.mean()), float("nan") if half is None else half


def _mean_share(hits: Float[np.ndarray, " num"]) -> tuple[float, float]:
  """Return the mean of hits in [0, 1], and half its interval. Where all are alike they show no spread: then it reaches
  to the farther end of Clopper and Pearson's."""
  mean, half = _mean(hits)
  if half == 0.0:
    low, high = share_interval(mean, len(hits))
    half = max(mean - low, high - mean)
  return mean, half
