"""A field's value as the command line gives it."""

from typing import Any

from absl import flags
from ml_collections import ConfigDict, config_flags

from gdm.errors import ConfigError
from gdm.runs.overrides import check_overrides


def read_value(config: ConfigDict, field: str, text: str) -> Any:
  """Return the value that --config.<field>=<text> gives. Raise ConfigError where there is none."""
  argument = f"--config.{field}={text}"
  try:
    check_overrides([argument], config)
    values, command = flags.FlagValues(), ["experiments.train", argument]
    config_flags.DEFINE_config_dict("config", config.copy_and_resolve_references(), flag_values=values,
                                    sys_argv=command)
    values(command)
    return config_flags.get_override_values(values["config"])[field]
  except ConfigError as error:
    raise ConfigError(f"--grid={str(error).removeprefix('--config.')}") from error
  except flags.Error as error:
    raise ConfigError(f"--grid={field} holds {text!r}: {error}") from error
