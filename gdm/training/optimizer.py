"""Optimizers and learning-rate schedules by name, from optax."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import optax

from gdm.errors import ConfigError, nearest
from gdm.model import Model
from gdm.training.state import moved_groups

# (learning rate, the config's `optimizer` section) -> optimizer
OPTIMIZERS: Mapping[str, Callable[[optax.Schedule, Mapping[str, Any]], optax.GradientTransformation]] = {
    "adam": lambda rate, own: _with_penalty(own, optax.adam(rate, own["b1"], own["b2"])),
    "adamw": lambda rate, own: optax.adamw(rate, own["b1"], own["b2"], weight_decay=own["weight_decay"]),
    "adamax": lambda rate, own: _with_penalty(own, optax.adamax(rate, own["b1"], own["b2"])),
    "adagrad": lambda rate, own: _with_penalty(own, optax.adagrad(rate)),
    "lion": lambda rate, own: optax.lion(rate, own["b1"], own["b2"], weight_decay=own["weight_decay"]),
    "rmsprop": lambda rate, own: _with_penalty(own, optax.rmsprop(rate)),
    "sgd": lambda rate, own: _with_penalty(own, optax.sgd(rate)),
    "momentum": lambda rate, own: _with_penalty(own, optax.sgd(rate, momentum=own["b1"])),
}


def _with_penalty(own: Mapping[str, Any], optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
  """Return the gradient of an L2 penalty in front."""
  return optax.chain(optax.add_decayed_weights(own["weight_decay"]), optimizer)


SCHEDULES: Mapping[str, Callable[[float, int, float], optax.Schedule]] = {
    "constant": lambda peak, steps, final: optax.constant_schedule(peak),
    "cosine": lambda peak, steps, final: optax.cosine_decay_schedule(peak, steps, alpha=final),
    "linear": lambda peak, steps, final: optax.linear_schedule(peak, peak * final, steps),
}


# Field -> the test of its value, and in words what passes. Comparisons with NaN are false, so each refuses it.
RULES: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "learning_rate": (lambda value: 0 < value < math.inf, "finite and above 0"),
    "final_fraction": (lambda value: 0 <= value <= 1, "in [0, 1]"),
    "warmup_steps": (lambda value: value >= 0 and value % 1 == 0, "at least 0"),
    "weight_decay": (lambda value: 0 <= value < math.inf, "finite and at least 0"),
    "clip_norm": (lambda value: 0 <= value < math.inf, "finite and at least 0"),
    "b1": (lambda value: 0 <= value < 1, "in [0, 1)"),
    "b2": (lambda value: 0 <= value < 1, "in [0, 1)"),
}


def _check(settings: Mapping[str, Any], section: str) -> None:
  """Raise ConfigError for a value that a field of an optimizer cannot have; `section` is where it stands."""
  for field, table in (("name", OPTIMIZERS), ("schedule", SCHEDULES)):
    if settings[field] not in table:
      raise ConfigError(f"{section}.{field} is {settings[field]!r}; {nearest(settings[field], table)}")
  for field, (is_right, words) in RULES.items():
    value = settings[field]
    if isinstance(value, bool) or not isinstance(value, int | float) or not is_right(value):
      raise ConfigError(f"{section}.{field} is {value!r}; it must be {words}.")


def make_schedule(settings: Mapping[str, Any], num_steps: int, section: str = "optimizer") -> optax.Schedule:
  """Return the learning rate by step: linear warm-up over `warmup_steps`, then the named schedule until `num_steps`.

  Raise ConfigError for a value that a field cannot have; `section` is where it stands in the config.
  """
  _check(settings, section)
  warmup, peak = settings["warmup_steps"], settings["learning_rate"]
  if not warmup < max(num_steps, 1):
    raise ConfigError(f"{section}.warmup_steps is {warmup}; it must be at least 0 and below num_steps ({num_steps}).")
  body = SCHEDULES[settings["schedule"]](peak, num_steps - warmup, settings["final_fraction"])
  return optax.join_schedules([optax.linear_schedule(0.0, peak, warmup), body], [warmup]) if warmup else body


def make_optimizer(settings: Mapping[str, Any], num_steps: int,
                   updates_per_step: int = 1, section: str = "optimizer") -> optax.GradientTransformation:
  """Return the optimizer that `settings` names (fields of the config's `optimizer` section), with clipping in front.

  `weight_decay` is decoupled where the optimizer defines it so (adamw, lion), and an L2 penalty's gradient elsewhere.

  Args:
    settings: the fields.
    num_steps: training steps, by which the learning rate is scheduled.
    updates_per_step: updates that one training step takes, as of a critic that is trained several times.
    section: where the fields stand in the config, for errors.

  Raise ConfigError for a value that a field cannot have.
  """
  rate = make_schedule(settings, num_steps, section)
  optimizer = OPTIMIZERS[settings["name"]](lambda update: rate(update // updates_per_step), settings)
  clip = settings["clip_norm"]
  return optax.chain(optax.clip_by_global_norm(clip), optimizer) if clip else optimizer


def make_optimizers(settings: Mapping[str, Any], num_steps: int,
                    model: Model) -> dict[str, optax.GradientTransformation]:
  """Return an optimizer for each parameter group that the model moves.

  Args:
    settings: the config's `optimizer` section; what it has under "groups" by a group's name differs for that group.
    num_steps: training steps.
    model: a model with objectives.

  Raise ConfigError for a group that the model does not move, or a field that is unknown.
  """
  own = settings.get("groups", {})
  for group, fields in own.items():
    if not isinstance(fields, Mapping):
      raise ConfigError(f"optimizer.groups.{group} is {fields!r}; it must be the fields that differ for the group, as "
                        "{'learning_rate': 1e-4}.")
  if unknown := sorted(set(own) - {*moved_groups(model)}):
    raise ConfigError(f"optimizer.groups names {unknown[0]!r}; {nearest(unknown[0], moved_groups(model))}")
  optimizers = {}
  for group in moved_groups(model):
    for field in (field for field in own.get(group, {}) if field not in settings or field == "groups"):
      raise ConfigError(f"optimizer.groups.{group} has {field!r}; {nearest(field, settings)}")
    updates = sum(objective.repeats for objective in model.objectives if group in objective.groups)
    optimizers[group] = make_optimizer({**settings, **own.get(group, {})}, num_steps, updates,
                                       f"optimizer.groups.{group}" if own.get(group) else "optimizer")
  return optimizers
