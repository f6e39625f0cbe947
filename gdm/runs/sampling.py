"""Drawing from a trained run: by the options that its config names, and many samples in batches of one shape."""

import dataclasses
import inspect
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from jaxtyping import Array, Bool, Key, Num

from gdm.batches import filled, given
from gdm.data.dataset import Dataset
from gdm.dataspec import DataSpec
from gdm.errors import ConfigError, UserError
from gdm.inference.diagnostics import FAILURES, agreement, failure, in_words, of_batches
from gdm.model import Carry, HasSample, Params, Samples
from gdm.runs import defaults
from gdm.training.streams import stream_key

if TYPE_CHECKING:
  from gdm.runs.trained import TrainedRun

_OURS = ("num", "seed")  # fields of the sampling section that are no options of models
_ASKED_OTHERWISE = ("params", "carry", "key", "num", "condition", "num_frames")  # arguments that are no fields


MIN_TRACE = 10  # values of a chain below which nothing is said of mixing
# What samplers record along their chains, by name, in words.
TRACES = {"log_density": "log f", "mean": "x's mean", "component": "x's first principal component"}


class Drawn(NamedTuple):
  """Samples [num, *event] on the host.

  Attributes:
    x: the samples.
    nfe: network evaluations spent on each; None where that is not known.
    samples_per_second: how fast they were drawn.
    failure: what shows that they are not from the model, in words; "" where nothing does.
    y: the labels that they were drawn given, [num]; None where there are none.
  """

  x: np.ndarray
  nfe: float | None
  samples_per_second: float
  failure: str = ""
  y: np.ndarray | None = None


def options_taken(model: Any) -> tuple[str, ...]:
  """Return the names of the options that a model's `sample` takes.

  One that takes any hands them to its components: these are the options that all of them take.
  """
  parameters = inspect.signature(model.sample).parameters.values()
  named = tuple(p.name for p in parameters if p.kind is not p.VAR_KEYWORD and p.name not in _ASKED_OTHERWISE)
  if not any(p.kind is p.VAR_KEYWORD for p in parameters):
    return named
  each = [options_taken(component) if isinstance(component, HasSample) else () for component in model.components]
  return (*named, *(name for name in each[0] if all(name in taken for taken in each)))


def sampling_options(run: "TrainedRun") -> dict[str, Any]:
  """Return the options of `model.sample` that the config's `sampling` section sets: those that differ from the base's.

  Raises:
    ConfigError: the model cannot sample, or not with one of them.
  """
  if not isinstance(run.model, HasSample):
    raise ConfigError(f"{run.config.model.name} cannot sample.")
  return _options(run.config, run.model)


def require_samples(config: ml_collections.ConfigDict, model: Any, dataset: Dataset, params: Params,
                    carry: Carry) -> None:
  """Raise ConfigError where a model could not draw by the options of the config's `sampling` section.

  A draw is traced, so that a run is not trained for hours before its pictures fail. Without options there is nothing
  to find.

  Args:
    config: the config of the run to be.
    model: its model; of one that does not sample no option may be set.
    dataset: its data, of which conditions are taken.
    params, carry: of the model, or their shapes.
  """
  options = _options(config, model)
  if not options:
    return
  asked = _Asked(config.copy_and_resolve_references(), model, dataset)
  asked.config.sampling.num = num = min(config.sampling.num, config.evaluation.batch_size)
  rows = _as_condition(conditions(asked))
  condition = {} if rows is None else {"condition": rows}
  shapes = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype), (params, carry))
  try:
    jax.eval_shape(lambda params, carry: model.sample(params, carry, jax.random.key(0), num, **condition, **options),
                   *shapes)
  except UserError as error:
    names = ", ".join(f"sampling.{field}={value!r}" for field, value in options.items())
    raise ConfigError(f"{names} cannot be: {error}") from error


@dataclasses.dataclass(frozen=True)
class _Asked:
  """What `conditions` needs of a run, before there is one."""

  config: ml_collections.ConfigDict
  model: Any
  dataset: Dataset

  @property
  def spec(self) -> DataSpec:
    return self.dataset.spec


def _options(config: ml_collections.ConfigDict, model: Any) -> dict[str, Any]:
  """Return the fields of the config's `sampling` section that differ from the base's; see `sampling_options`."""
  known, neutral = options_taken(model) if isinstance(model, HasSample) else (), defaults.get_config().sampling
  options = {field: value for field, value in config.sampling.items()
             if field not in _OURS and (field not in neutral or value != neutral[field])}
  for field in (field for field in options if field not in known):
    right = f"it must be {neutral[field]!r}" if field in neutral else "leave it out"
    raise ConfigError(f"sampling.{field} is {options[field]!r}, but {config.model.name} has none; {right}. What it "
                      f"has: {', '.join(known) or 'no options'}.")
  return options


def annealing_options(run: "TrainedRun", method: Callable[..., Samples]) -> dict[str, Any]:
  """`num_temperatures` of the config's `sampling` section for `complete` or `denoise`.

  Raise ConfigError where it is set and the method has none.
  """
  asked = run.config.sampling.num_temperatures
  if not asked:
    return {}
  if "num_temperatures" not in inspect.signature(method).parameters:
    raise ConfigError(f"sampling.num_temperatures is {asked}, but {run.config.model.name} anneals nothing here; it "
                      "must be 0.")
  return {"num_temperatures": asked}


def draw(run: "TrainedRun", num_frames: int = 0, condition: Mapping[str, Array | np.ndarray] | None = None) -> Samples:
  """`sampling.num` samples by the settings of the config's `sampling` section.

  Samples of a conditional model are given `condition`, {"y": [num], "context": [num, width], "prefix": [num, steps]} as
  it needs them. Without it classes take turns, and contexts and prefixes are those of examples of the test split,
  spread over it.

  With frames the info has "trajectory" [num_frames, num, *event], in the data's scale: as many states on the way, the
  last of which are the samples.

  Raises:
    ConfigError: the model cannot sample, or not with these settings, or shows no trajectory.
  """
  model, settings = run.model, run.config.sampling
  options = sampling_options(run)
  assert isinstance(model, HasSample)
  if num_frames and "num_frames" not in inspect.signature(model.sample).parameters:
    raise ConfigError(f"{run.config.model.name} draws samples in no steps from noise, so there are no frames.")
  if num_frames:
    options["num_frames"] = num_frames - 1
  rows = _as_condition(conditions(run, condition))
  size = min(settings.num, run.config.evaluation.batch_size)

  def sample(params: Params, carry: Carry, key: Key[Array, ""], rows: Any) -> Samples:
    condition = {} if rows is None else {"condition": rows}
    return model.sample(params, carry, key, size, **condition, **options)

  def from_chains(params: Params, carry: Carry, key: Key[Array, ""], chains: Array) -> Samples:
    return sample(params, {**carry, "chains": chains[None]}, key, None)

  key = stream_key(jax.random.key(settings.seed), "sampling", 0)
  if options.get("start") == "chains" and settings.num > size and rows is None and "chains" in run.carry:
    # Each batch takes chains of its own, so that none is drawn twice before all were drawn once.
    chains = np.asarray(run.carry["chains"]).reshape(-1, *run.spec.event)
    order = np.asarray(jax.random.permutation(jax.random.fold_in(key, len(chains)), len(chains)))
    turns = np.arange(-(-settings.num // size) * size) % len(chains)  # whole batches
    drawn = in_batches(run, from_chains, key, settings.num, chains[order[turns]])
  else:
    drawn = in_batches(run, sample, key, settings.num, rows)
  if not num_frames:
    return drawn
  trajectory = np.concatenate([drawn.info["trajectory"], np.asarray(drawn.x, np.float32)[None]])
  return Samples(drawn.x, {**drawn.info, "trajectory": trajectory})


def complete(run: "TrainedRun", x: Num[np.ndarray, "num *event"], known: Bool[np.ndarray, "*event"],
             seed: int) -> Samples:
  """Draw the unknown part of examples given the known one, with annealing as the config's `sampling` section says.

  Raise SpecError where the model cannot complete that region.
  """
  model: Any = run.model
  options, kept = annealing_options(run, model.complete), jnp.asarray(known)
  key = stream_key(jax.random.key(seed), "completion", 0)
  return in_batches(run, lambda params, carry, key, rows: model.complete(params, carry, key, rows, kept, **options),
                    key, len(x), x)


def conditions(run: "TrainedRun | _Asked",
               condition: Mapping[str, Array | np.ndarray] | None = None) -> dict[str, np.ndarray]:
  """Return what `sampling.num` draws are given, by name: {} where the model takes nothing; see `draw`.

  Raise ConfigError for others than it can take.
  """
  num, found = run.config.sampling.num, dict(condition or {})
  needed = given(run.model)
  for name, rows in found.items():
    if name not in needed:
      raise ConfigError(f"{name} is given, but {run.config.model.name} is not conditional on it; leave it out.")
    if len(rows) != num:
      raise ConfigError(f"{name} has {len(rows)} rows, but {num} samples are asked for; there must be one for each.")
  if "y" in needed and "y" not in found:
    found["y"] = np.arange(num) % (run.spec.num_classes or 1)
  if missing := [name for name in needed if name not in found]:
    split = run.dataset.split("test" if "test" in run.dataset.splits else "valid")
    rows = split.rows(np.linspace(0, split.num_examples - 1, num).astype(int))
    found |= {name: rows[name] for name in missing}
  return {name: np.asarray(rows) for name, rows in found.items()}


def _as_condition(found: Mapping[str, Any]) -> Any:
  """Return labels alone as an array, as models that know nothing of contexts take them."""
  return None if not found else found["y"] if found.keys() == {"y"} else found


def _conditions_of_data(run: "TrainedRun", shape: tuple[int, int]) -> Any:
  """Draw conditions [batches, batch, ...] as the training split has them."""
  rng, needed = np.random.default_rng(run.config.sampling.seed), given(run.model)
  if set(needed) <= {"y"}:
    return rng.choice(run.train_labels, shape).astype(np.int32) if needed else None
  drawn = run.dataset.split("train" if "train" in run.dataset.splits else "test")  # other data may be one split
  rows = drawn.rows(rng.integers(0, drawn.num_examples, shape[0] * shape[1]))
  return {name: rows[name].reshape(*shape, *rows[name].shape[1:]) for name in needed}


def in_batches(run: "TrainedRun", call: Callable[[Params, Carry, Key[Array, ""], Any], Samples], key: Key[Array, ""],
               num: int, rows: Any = None) -> Samples:
  """Draw `num` samples, `evaluation.batch_size` at a time, so that their memory is that of one batch.

  A batch's numbers depend on its place, so that the first samples are the same however many there are.

  Args:
    run: whose parameters are used.
    call: (params, carry, key, rows) -> samples of one batch, as many as it has rows or as its caller knows.
    key: of the first batch; further ones fold their number in.
    num: how many.
    rows: what each sample is drawn given, an array [num, ...] or arrays by name; None for nothing.

  Returns:
    The samples on the host, and what `diagnostics.of_batches` makes of the sampler's facts.

  Raise ConfigError where a solver did not reach its tolerance, and what the model raises.
  """
  size = min(num, run.config.evaluation.batch_size)
  compiled, parts, infos = jax.jit(call), [], []
  for index, start in enumerate(range(0, num, size)):
    of_batch = jax.tree.map(lambda array, start=start: jnp.asarray(filled(array[start:start + size], size)), rows)
    # The first batch not compiled as a whole: there a model can still say what is wrong.
    drawn = (compiled if index else call)(run.params, run.carry, jax.random.fold_in(key, index) if index else key,
                                          of_batch)
    info = jax.device_get(dict(drawn.info))
    if not np.all(info.get("solved", True)):
      raise ConfigError(f"the sampler did not reach its tolerance with {int(info['nfe'])} evaluations; name another.")
    if "trajectory" in info:
      info["trajectory"] = info["trajectory"][:, :num - start]
    parts.append(np.asarray(drawn.x)[:num - start])
    infos.append(info)
  return Samples(jnp.asarray(np.concatenate(parts)), of_batches(infos))


def mixing(info: Mapping[str, Any]) -> str:
  """Return the record of a sampler's chains: how they moved, and whether they agree on log f and on where they are.

  Where they have failed, a second line says so.
  """
  words = [f"{name} {in_words(float(info[name]))}" for name in ("acceptance", "divergent") if name in info]
  if "least_acceptance" in info:
    words.append(f"least acceptance of annealing {in_words(float(info['least_acceptance']))} at inverse temperature "
                 f"{in_words(float(info['least_acceptance_beta']))}")
  if "effective_sample_size" in info:
    words.append(f"its weights are worth {in_words(float(info['effective_sample_size']))} chains")
  for name, subject in TRACES.items():
    trace = np.asarray(info.get(name, np.zeros((0, 0))))
    if trace.shape[0] > 1 and trace.shape[1] >= MIN_TRACE:
      words.append(agreement(subject, trace))
  lines = [", ".join(words)] if words else []
  if found := failure(info):
    lines.append(f"the draws are not from the model: {found}. --config.sampling.num_temperatures, larger, may help; of "
                 "samples --config.sampling.start=smc, too, or --config.sampling.num_steps for further steps.")
  return "\n".join(lines)


def draw_many(run: "TrainedRun", num: int, options: Mapping[str, Any], name: str, batch_size: int) -> Drawn:
  """Draw `num` samples in batches, compiled once; labels are drawn as often as the training split has them.

  Args:
    run: of a model that samples.
    num: how many.
    options: of its `sample`.
    name: another gives other random numbers, so that sets of samples are independent.
    batch_size: how many at a time.

  Raise ConfigError where a solver did not reach its tolerance.
  """
  model, size = run.model, min(num, batch_size)
  assert isinstance(model, HasSample)
  root = stream_key(jax.random.key(run.config.sampling.seed), f"sampling/{name}", 0)

  def sample(params, carry, key, rows):
    condition = {} if rows is None else {"condition": rows}
    drawn = model.sample(params, carry, key, size, **condition, **options)
    return drawn.x, drawn.info.get("nfe"), drawn.info.get("solved"), {
        name: drawn.info[name] for name in FAILURES if name in drawn.info}

  rows = _conditions_of_data(run, (-(-num // size), size))
  first = jax.tree.map(lambda array: array[0], rows)
  compiled = jax.jit(sample).lower(run.params, run.carry, root, first).compile()
  parts, spent, words, start = [], [], "", time.perf_counter()
  for index in range(-(-num // size)):
    x, nfe, solved, chains = compiled(run.params, run.carry, jax.random.fold_in(root, index),
                                      jax.tree.map(lambda array, index=index: jnp.asarray(array[index]), rows))
    if solved is not None and not solved:  # under jit a model cannot raise
      raise ConfigError(f"{name} did not reach its tolerance with {int(nfe)} evaluations; name another sampler.")
    parts.append(np.asarray(x))  # waits, so that no more than a batch is under way
    spent.append(nfe)
    words = words or failure(chains)
  seconds = time.perf_counter() - start
  nfe = None if spent[0] is None else float(np.mean(np.asarray(spent)))
  labels = rows.get("y") if isinstance(rows, Mapping) else rows
  return Drawn(np.concatenate(parts)[:num], nfe, len(parts) * size / seconds, words,
               None if labels is None else labels.ravel()[:num])
