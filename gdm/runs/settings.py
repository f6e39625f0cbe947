"""Checks of a config's values, before any data are read or any folder is made.

Fields of the model are the model's own business (`gdm.runs.registry`), names of data sets, transforms, optimizers
and schedules that of their tables.
"""

from collections.abc import Callable, Mapping
from typing import Any

from ml_collections import ConfigDict

from gdm.errors import ConfigError
from gdm.evaluation.recording import NUM_SIDES
from gdm.paths import is_local
from gdm.runs import defaults
from gdm.runs.feeding import WAYS
from gdm.storage import is_url
from gdm.training import optimizer
from gdm.training.step import PRECISIONS, REMATERIALIZATIONS


def _at_least(least: int) -> tuple[Callable[[Any], bool], str]:
  return lambda value: value >= least, f"at least {least}"


# Comparisons with NaN are false, so each of these refuses it.
_POSITIVE = (lambda value: 0 < value < float("inf"), "finite and above 0")
_NOT_NEGATIVE = (lambda value: 0 <= value < float("inf"), "finite and at least 0")
_LOCAL = (is_local, "a path of this machine, that of a mounted bucket say; URLs as gs:// are not supported")
_PLACE = (lambda path: is_local(path) or is_url(path), "a path of this machine, or one in a bucket at gs:// or s3://")
_SEED = (lambda value: 0 <= value < 2**32, "in [0, 2**32)")

RULES: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "seed": _SEED,
    "data.path": _PLACE,
    "data.data_dir": _LOCAL,
    "data.batch_size": _at_least(1),
    "data.feed": (lambda value: value in WAYS, " or ".join(WAYS)),
    "data.init_examples": _at_least(1),
    "data.transforms": (lambda names: all(isinstance(name, str) and name for name in names),
                        "a tuple of names, as ('binarize',), or () for none"),
    **{f"optimizer.{name}": rule for name, rule in optimizer.RULES.items()},
    "mesh.fsdp": _at_least(1),
    "mesh.tensor": _at_least(1),
    "training.num_steps": _at_least(1),
    "training.init_from": _PLACE,
    "training.steps_per_call": _at_least(1),
    "training.accumulate": _at_least(1),
    "training.precision": (lambda value: value in PRECISIONS, " or ".join(PRECISIONS)),
    "training.remat": (lambda value: value in REMATERIALIZATIONS, ", ".join(REMATERIALIZATIONS)),
    "training.stall_seconds": _NOT_NEGATIVE,
    "training.ema_decay": (lambda value: 0 <= value < 1, "in [0, 1)"),
    "training.log_every": _at_least(1),
    "training.eval_every": (lambda value: value >= 0, "at least 1, or 0 for never"),
    "training.checkpoint_every": _at_least(1),
    "training.keep": _at_least(1),
    "training.patience": (lambda value: value >= 0, "at least 1, or 0 for never stopping early"),
    "evaluation.batch_size": _at_least(1),
    "evaluation.num_draws": _at_least(1),
    "evaluation.num_samples": _at_least(1),
    "evaluation.cell_points": (lambda value: value >= 0 and value % NUM_SIDES == 0,
                               f"a multiple of {NUM_SIDES}, or 0 for none"),
    "evaluation.parameters": (lambda value: value in ("auto", "ema", "live"), "auto, ema or live"),
    "sampling.num": _at_least(1),
    "sampling.temperature": _POSITIVE,
    "sampling.seed": _SEED,
    "sampling.num_steps": (lambda value: value >= 0, "at least 1, or 0 for the model's own choice"),
    "sampling.num_temperatures": (lambda value: value >= 0, "at least 1, or 0 for the model's own choice"),
    "sampling.guidance": _NOT_NEGATIVE,
    "sampling.guidance_interval": (lambda value: not value or (
        len(value) == 2 and all(isinstance(each, int | float) for each in value) and 0 <= value[0] < value[1]),
                                   "two noise levels, the lower one first, or () for all"),
    "sampling.guidance_rescale": (lambda value: 0 <= value <= 1, "in [0, 1]"),
    "sampling.eta": _NOT_NEGATIVE,
}


def with_defaults(config: ConfigDict | Mapping[str, Any]) -> ConfigDict:
  """Return the config, fields that it leaves out at the defaults of `gdm.runs.defaults`. Raises as ConfigDict does."""
  full = defaults.get_config()
  full.update(config)
  return full


def flatten_fields(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
  """{"a": {"b": 1}} -> {"a.b": 1}."""
  flat = {}
  for name, value in tree.items():
    if isinstance(value, Mapping):
      flat |= flatten_fields(value, f"{prefix}{name}.")
    else:
      flat[prefix + name] = value
  return flat


def replaced(config: ConfigDict, fields: Mapping[str, Any], section: str) -> ConfigDict:
  """Return the config with these dotted fields replaced.

  Raise ConfigError for a value of another type than its field has; `section` is where the values stand.
  """
  result = config.copy_and_resolve_references()
  for name, value in fields.items():
    try:
      result.update_from_flattened_dict({name: value})
    except TypeError as error:
      before = flatten_fields(config.to_dict())[name]
      raise ConfigError(f"{section}.{name} is {value!r}; it must be of the type of {name}, which is "
                        f"{before!r}.") from error
  return result


def within_run(config: ConfigDict) -> ConfigDict:
  """Return the config with no period longer than the run, so that a trial of five steps needs one override.

  Steps of a call and periods of logs, validations and checkpoints are at most `training.num_steps`, and steps of
  warm-up fewer.
  """
  result = config.copy_and_resolve_references()
  training = result.training
  for field in ("steps_per_call", "log_every", "eval_every", "checkpoint_every"):
    if isinstance(training.num_steps, int) and training.num_steps >= 1:
      training[field] = min(training[field], training.num_steps)
  if isinstance(training.num_steps, int) and training.num_steps >= 1:
    for settings in (result.optimizer, *result.optimizer.groups.values()):
      if isinstance(settings, ConfigDict) and isinstance(settings.get("warmup_steps"), int):
        settings.warmup_steps = min(settings.warmup_steps, training.num_steps - 1)
  return result


def check_settings(config: ConfigDict) -> None:
  """Raise ConfigError naming the first field whose value cannot be used, alone or together with another."""
  config = within_run(config)
  values = flatten_fields(config.to_dict())
  for name, (is_right, words) in RULES.items():
    value = values[name]
    if not is_right(value):
      raise ConfigError(f"{name} is {value!r}; it must be {words}.")
  data, training = config.data, config.training
  for field in ("num_steps", "log_every", "eval_every", "checkpoint_every"):
    if training[field] % training.steps_per_call:
      raise ConfigError(f"training.{field} is {training[field]}; it must be a multiple of training.steps_per_call "
                        f"({training.steps_per_call}).")
  if data.batch_size % training.accumulate:
    raise ConfigError(f"training.accumulate is {training.accumulate}; it must divide data.batch_size "
                      f"({data.batch_size}).")
  if training.patience and not training.eval_every:
    raise ConfigError(f"training.patience is {training.patience}, but training.eval_every is 0, so that nothing is "
                      "validated; it must be at least 1 to stop early.")
  if training.ema_decay == 0 and config.evaluation.parameters == "ema":
    raise ConfigError("evaluation.parameters is 'ema', but the run keeps no averages (training.ema_decay is 0); it "
                      "must be auto or live.")
