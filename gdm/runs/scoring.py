"""Which likelihood a model with several is scored by."""

from gdm.errors import ConfigError
from gdm.model import HasLikelihoods, Model


def scored_by(model: Model, likelihood: str) -> Model:
  """Return the model scored as `evaluation.likelihood` says: a name and settings, as in
  "ode,tolerance=1e-5,num_probes=4".

  Args:
    model: the model.
    likelihood: "" leaves the model's own.

  Raise ConfigError where the model has one likelihood only, or a setting is no number or unknown.
  """
  if not likelihood:
    return model
  if not isinstance(model, HasLikelihoods):
    raise ConfigError(f"evaluation.likelihood is {likelihood!r}, but {type(model).__name__} has one likelihood only; "
                      "leave it empty.")
  name, *settings = likelihood.split(",")
  return model.scored_by(name, **dict(map(_setting, settings)))


def _setting(text: str) -> tuple[str, int | float | str]:
  name, is_set, value = text.partition("=")
  if not is_set or not value:
    raise ConfigError(f"evaluation.likelihood has {text!r} after its name; settings are given as name=value.")
  for kind in (int, float):
    try:
      return name, kind(value)
    except ValueError:
      continue
  return name, value
