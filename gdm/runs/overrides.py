"""`--config.<field>=<value>`, checked before config_flags sees it, so that every mistake is one line.

config_flags lets most mistakes escape as whatever exception the lookup of the field happens to raise.
"""

import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import ConfigDict

from gdm.errors import ConfigError, nearest
from gdm.runs import defaults

_READERS: Mapping[type, tuple[flags.ArgumentParser, str]] = {
    bool: (flags.BooleanParser(), "true or false"),
    int: (flags.IntegerParser(), "an integer, such as 1000"),
    float: (flags.FloatParser(), "a number, such as 0.001"),
}


def check_overrides(argv: Sequence[str], config: ConfigDict | None = None) -> None:
  """Raise ConfigError where an argument names no config file, no field of it, or a value of another type.

  Args:
    argv: the arguments.
    config: what can be overridden; by default the config that --config names.
  """
  path = _config_path(argv)
  if config is None and path is not None:
    config = _load(path)
  for name, text in _overrides(argv):
    if config is None:
      raise ConfigError(f"--config is missing; --config.{name} can only follow it.")
    _check(config, name, text)


def chosen_names(argv: Sequence[str]) -> dict[str, str]:
  """Return what the arguments set `--config.<section>.name` to, by section: the section's fields follow from it."""
  given = {name: text for name, text in _overrides(argv) if text}
  return {name.removesuffix(".name"): text.strip("'\"") for name, text in given.items() if name.count(".") > 1
          and name.endswith(".name")}


def packaged_config(argv: Sequence[str]) -> list[str]:
  """Return the arguments with a --config that is no file here replaced by that of the installed configs.

  "configs/autoregressive/made.py:digits" is found from any folder, and so is "made:digits", where one config alone has
  that name.
  """
  result = list(argv)
  for i, argument in enumerate(result):
    name, equals, text = argument.partition("=")
    if name.lstrip("-") != "config" or not argument.startswith("-"):
      continue
    place = i if equals else i + 1
    if place < len(result):
      found = _packaged(text if equals else result[place])
      result[place] = f"{name}={found}" if equals else found
  return result


def _packaged(text: str) -> str:
  path, colon, variant = text.partition(":")
  if not Path(path).name or Path(path).is_file():
    return text
  root = _configs()
  if root is None:
    return text
  inside = Path(path).with_suffix("").parts
  inside = inside[1:] if inside[:1] == ("configs",) else inside
  found = [each for each in root.glob("*/*.py") if each.with_suffix("").parts[-len(inside):] == inside]
  return f"{found[0]}{colon}{variant}" if len(found) == 1 and inside else text


def _configs() -> Path | None:
  """Return the folder of the configs that are installed beside this package, None where there is none."""
  found = importlib.util.find_spec("configs")
  return None if found is None or found.origin is None else Path(found.origin).parent


def _config_path(argv: Sequence[str]) -> str | None:
  """Return the value of --config, None where it is not given."""
  for i, argument in enumerate(argv):
    if argument in ("--config", "-config"):
      return argv[i + 1] if i + 1 < len(argv) else ""
    if argument.startswith(("--config=", "-config=")):
      return argument.partition("=")[2]
  return None


def _overrides(argv: Sequence[str]) -> Iterator[tuple[str, str | None]]:
  """(field, text) of every --config.<field>; the text is None where it is not to be read as a value."""
  for i, argument in enumerate(argv):
    name, equals, text = argument.lstrip("-").partition("=")
    if not argument.startswith("-"):
      continue
    if name.startswith("noconfig."):  # absl's way to say false
      yield name.removeprefix("noconfig."), None
    elif name.startswith("config."):
      follows = argv[i + 1] if i + 1 < len(argv) else None
      yield name.removeprefix("config."), text if equals else follows


def _load(text: str) -> ConfigDict:
  """Return the config that --config names."""
  path = Path(text.partition(":")[0])
  if not path.is_file():
    root = _configs() or Path("configs")
    known = [f"configs/{found.relative_to(root)}" for found in root.glob("*/*.py")
             if found.name not in ("__init__.py", "shared.py")]
    raise ConfigError(f"--config is {text!r}, but there is no file {str(path)!r}; it must be a config file, then ':' "
                      f"and a data set, as configs/<family>/<model>.py:digits; {nearest(str(path), known)}")
  try:
    compile(path.read_text(), str(path), "exec")
    config = flags.FLAGS["config"].parser.parse(text)
  except (SyntaxError, OSError) as error:
    raise ConfigError(f"--config is {text!r}, but {path} is no Python file: {error}.") from error
  except (AttributeError, TypeError, ValueError) as error:  # no get_config, or not with this variant
    reason = str(error).strip().rpartition("\n")[2]
    raise ConfigError(f"--config is {text!r}, but {path} makes no config: {reason}.") from error
  if not isinstance(config, ConfigDict):
    raise ConfigError(f"--config is {text!r}, but its get_config returns {type(config).__name__}; it must return a "
                      "ConfigDict, as gdm.runs.defaults.get_config() does.")
  return config


def _check(config: ConfigDict, name: str, text: str | None) -> None:
  """Raise ConfigError unless `name` is a field of `config` and `text` reads as a value of its type."""
  value: Any = config
  *sections, field = name.split(".")
  for depth, part in enumerate([*sections, field]):
    if not isinstance(value, ConfigDict):
      above = ".".join(name.split(".")[:depth])
      raise ConfigError(f"--config.{name}: {above} is a value, {value!r}, and has no fields.")
    if part not in value:
      raise ConfigError(f"--config.{name}: {_unknown(config, value, name.split('.'), depth)}")
    value = value[part]
  if isinstance(value, ConfigDict):
    fields = ", ".join(sorted(value))
    raise ConfigError(f"--config.{name} is a section; set its fields, as --config.{name}.<field>=<value>: {fields}.")
  reader, words = _READERS.get(type(value), (None, ""))
  if reader is None or text is None or (isinstance(value, bool) and text.startswith("-")):
    return
  try:
    reader.parse(text)
  except (ValueError, TypeError) as error:
    raise ConfigError(f"--config.{name} is {text!r}; it must be {words}.") from error


def _unknown(config: ConfigDict, section: ConfigDict, parts: list[str], depth: int) -> str:
  """Say that parts[depth] is no field of `section`, and what was probably meant."""
  where, part = ".".join(parts[:depth]), parts[depth]
  if depth == 0 and part in defaults.get_config():
    return f"{part} is fixed by the run; what can be set here is in {', '.join(sorted(config))}."
  # A field of that name elsewhere: best within this section, as in the network of the model, and not far down.
  elsewhere = [path for path in _fields(config) if path.endswith(f".{part}") and depth == len(parts) - 1]
  elsewhere.sort(key=lambda path: (not path.startswith(f"{where}."), path.count(".")))
  hint = f"did you mean {elsewhere[0]!r}?" if elsewhere else nearest(part, section)
  return f"{where or 'the config'} has no field {part!r}; {hint}"


def _fields(section: ConfigDict, prefix: str = "") -> list[str]:
  """Return the dotted names of all fields and sections."""
  paths = []
  for name, value in section.items():
    paths += [prefix + name, *(_fields(value, f"{prefix}{name}.") if isinstance(value, ConfigDict) else ())]
  return paths
