"""Sequence models: generation cached over naive, and training beside the same models in PyTorch.

PyTorch lives in an environment of its own, which --peer_python names: `python -m venv DIR`, then
`DIR/bin/pip install torch==2.13.0`, then --peer_python=DIR/bin/python.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, get_type_hints

import jax
import jax.numpy as jnp

from experiments.speed.beside import num_threads, training
from experiments.speed.peers.protocol import Case
from experiments.speed.rows import Row
from experiments.speed.settings import FULL, QUICK, TINY, Settings
from experiments.speed.timing import alternate, rates, ratios, summary
from gdm.autoregressive.sequences.sequence_model import SequenceModel
from gdm.dataspec import DataSpec
from gdm.runs.registry import MODELS, build_model, load_object

LEVELS = 65  # of tiny shakespeare
OURS, PEER = "experiments.speed.peers.gdm_sequences", "experiments.speed.peers.torch_sequences"
CACHED, NAIVE = "cached", "naive"

# Models whose fields make several of them.
VARIANTS: Mapping[str, tuple[Mapping[str, Any], ...]] = {
    "recurrent": tuple({"network": {"cell": cell}} for cell in ("rnn", "lstm", "gru")),
}
# Training steps/s over PyTorch's.
TARGETS = {"transformer": 1.0, "gru": 1.0, "lstm": 0.65}

# nanoGPT's CPU setting, and recurrent models of like size.
_TRANSFORMER = ("transformer", 4, 128, 64, 12)
_RECURRENT = tuple((cell, 2, 256, 64, 32) for cell in ("rnn", "lstm", "gru"))
_LONG = tuple((cell, 2, 256, 256, 32) for cell in ("lstm", "gru"))


@dataclasses.dataclass(frozen=True)
class Size:
  """Tokens to generate; what to train: model, layers, width, context, batch; seconds of a timing;
  the registry's models to generate with, all by default."""

  context: int = 256
  cases: tuple[tuple[str, int, int, int, int], ...] = (_TRANSFORMER, *_RECURRENT, *_LONG)
  seconds: float = 1.0
  only: tuple[str, ...] = ()


SIZES = {FULL: Size(), QUICK: Size(cases=(_TRANSFORMER, *_RECURRENT), seconds=0.3),
         TINY: Size(context=4, only=("recurrent",), cases=(("gru", 1, 8, 4, 2),), seconds=0.01)}


def run(settings: Settings) -> list[Row]:
  size = SIZES[settings.size]
  rows = [row for label, model in _models(size) for row in _generation(label, model, settings.repeats)]
  for name, num_layers, width, context, batch in size.cases:
    case = Case(name, num_layers, width, LEVELS, context, batch, num_threads())
    rows += training(f"{name} {num_layers}x{width}, context {context}, batch {batch}", case, OURS, PEER, settings,
                     size.seconds, TARGETS.get(name))
  return rows


def _models(size: Size) -> list[tuple[str, Any]]:
  """Every sequence model of the registry, at its defaults, with a label."""
  found = []
  for name, place in MODELS.items():
    builder = load_object(*place)
    if (size.only and name not in size.only) or get_type_hints(builder).get("return") is not SequenceModel:
      continue
    for fields in VARIANTS.get(name, ({},)):
      model = build_model({"name": name, **fields}, DataSpec((size.context,), LEVELS))
      found.append((fields.get("network", {}).get("cell", name), model))
  return found


def _generation(label: str, model: Any, repeats: int) -> list[Row]:
  """Tokens/s of one sequence as long as the context, by the cache and by the network on all tokens at each."""
  key = jax.random.key(0)
  params, _ = jax.jit(model.init)(key, {"x": jnp.zeros((1, model.num_steps), jnp.int32)})
  calls: dict[str, Callable[[], Any]] = {CACHED: lambda: model.generate(params, key, num=1).tokens}

  @jax.jit
  def naive(params, key):
    def body(index, x):
      logits = model.logits(params, x)[:, index]
      return x.at[:, index].set(jax.random.categorical(jax.random.fold_in(key, index), logits))
    return jax.lax.fori_loop(0, model.num_steps, body, jnp.zeros((1, model.num_steps), jnp.int32))

  calls[NAIVE] = lambda: naive(params, key)
  times, what = alternate(calls, repeats), f"{label}, context {model.num_steps}"
  return [
      summary(f"{what}: generation, cached", rates(times[CACHED], model.num_steps), "tokens/s", "one sequence"),
      summary(f"{what}: cached over naive", ratios(times[NAIVE], times[CACHED]), "x",
              "naive: the network on the whole context for each token"),
  ]
