"""Optimizers and learning-rate schedules by name, from optax."""

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


def make_schedule(settings: Mapping[str, Any], num_steps: int) -> optax.Schedule:
  """Return the learning rate by step: linear warm-up over `warmup_steps`, then the named schedule until `num_steps`."""
  if settings["schedule"] not in SCHEDULES:
    raise ConfigError(f"optimizer.schedule is {settings['schedule']!r}; {nearest(settings['schedule'], SCHEDULES)}")
  warmup = settings["warmup_steps"]
  if not 0 <= warmup < max(num_steps, 1):
    raise ConfigError(f"optimizer.warmup_steps is {warmup}; it must be at least 0 and below num_steps ({num_steps}).")
  peak = settings["learning_rate"]
  if peak <= 0:
    raise ConfigError(f"optimizer.learning_rate is {peak}; it must be above 0.")
  body = SCHEDULES[settings["schedule"]](peak, num_steps - warmup, settings["final_fraction"])
  return optax.join_schedules([optax.linear_schedule(0.0, peak, warmup), body], [warmup]) if warmup else body


def make_optimizer(settings: Mapping[str, Any], num_steps: int,
                   updates_per_step: int = 1) -> optax.GradientTransformation:
  """Return the optimizer that `settings` names (fields of the config's `optimizer` section), with clipping in front.

  `weight_decay` is decoupled where the optimizer defines it so (adamw, lion), and an L2 penalty's gradient elsewhere.

  Args:
    settings: the fields.
    num_steps: training steps, by which the learning rate is scheduled.
    updates_per_step: updates that one training step takes, as of a critic that is trained several times.
  """
  if settings["name"] not in OPTIMIZERS:
    raise ConfigError(f"optimizer.name is {settings['name']!r}; {nearest(settings['name'], OPTIMIZERS)}")
  for name in ("b1", "b2"):
    if not 0 <= settings[name] < 1:
      raise ConfigError(f"optimizer.{name} is {settings[name]}; it must be in [0, 1).")
  rate = make_schedule(settings, num_steps)
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
  if unknown := sorted(set(own) - {*moved_groups(model)}):
    raise ConfigError(f"optimizer.groups names {unknown[0]!r}; {nearest(unknown[0], moved_groups(model))}")
  optimizers = {}
  for group in moved_groups(model):
    for field in (field for field in own.get(group, {}) if field not in settings or field == "groups"):
      raise ConfigError(f"optimizer.groups.{group} has {field!r}; {nearest(field, settings)}")
    updates = sum(objective.repeats for objective in model.objectives if group in objective.groups)
    optimizers[group] = make_optimizer({**settings, **own.get(group, {})}, num_steps, updates)
  return optimizers
