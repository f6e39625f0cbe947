"""What every binary does around its main function: flags, one-line errors, logs that don't tear the progress bar."""

import importlib
import logging as python_logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import ml_collections
from absl import app, flags, logging
from ml_collections import config_flags
from tqdm import tqdm

from configs import base
from gdm.errors import ConfigError, UserError

EXIT_BAD_INPUT = 2
EXIT_RESUME_ME = 75  # EX_TEMPFAIL: the run was interrupted and saved; the same command again resumes it


class _TqdmHandler(python_logging.Handler):
  """Writes log lines above a progress bar instead of through it."""

  def emit(self, record: python_logging.LogRecord) -> None:
    tqdm.write(self.format(record), file=sys.stderr)


def run(main: Callable[[Sequence[str]], int | None]) -> None:
  """Runs `main(argv)`: a UserError prints one line and exits with 2; anything else that escapes is a bug."""
  app.run(lambda argv: _guarded(main, argv), flags_parser=_parse_flags)


def _guarded(main: Callable[[Sequence[str]], int | None], argv: Sequence[str]) -> int:
  _route_logs()
  use_compilation_cache()
  try:
    return main(argv) or 0
  except UserError as error:
    return _fail(error)
  except KeyboardInterrupt:
    print("interrupted.", file=sys.stderr)
    return 130


def _parse_flags(argv: Sequence[str]) -> list[str]:
  """absl's parsing, with every failure of a flag or config as one line."""
  try:
    return flags.FLAGS(_checked_config_path(list(argv)))
  except (UserError, flags.Error) as error:
    sys.exit(_fail(error))
  except (AttributeError, KeyError) as error:  # config_flags lets an unknown field through as it comes
    message = str(error.args[0]).strip("'\"").replace("\\n", " ").replace("\n", " ")
    sys.exit(_fail(f"unknown config field {message}"))
  except OSError as error:
    sys.exit(_fail(f"the config file cannot be read: {error}"))


def _checked_config_path(argv: list[str]) -> list[str]:
  """The arguments, after a look at --config's file: config_flags reports a missing one only when it is used."""
  for i, argument in enumerate(argv):
    name, _, value = argument.lstrip("-").partition("=")
    if name != "config" or not argument.startswith("-"):
      continue
    value = value or (argv[i + 1] if i + 1 < len(argv) else "")
    path = Path(value.partition(":")[0])
    if not path.is_file():
      known = sorted(str(p) for p in Path("configs").glob("*/*.py") if p.name != "__init__.py")
      raise ConfigError(f"--config names {str(path)!r}, which is not a file; a config is configs/<family>/<model>.py, "
                        f"then ':' and a dataset. Here: {', '.join(known) or 'none; start in the project folder'}.")
    if "def get_config" not in path.read_text():
      raise ConfigError(f"--config names {str(path)!r}, which defines no get_config(variant).")
  return argv


def require_flag(name: str):
  """The value of a flag that has no sensible default, or a ConfigError that asks for it."""
  value = flags.FLAGS[name].value
  if not value:
    raise ConfigError(f"--{name} is missing.")
  return value


def define_overrides(*sections: str) -> None:
  """Defines `--config.<section>.<field>=...` for sections of the base config, to override what a workdir recorded."""
  config = base.get_config()
  config_flags.DEFINE_config_dict("config", ml_collections.ConfigDict({name: config[name] for name in sections}))


def overrides(name: str = "config") -> dict:
  """The config fields that the command line set, dotted name -> value."""
  return config_flags.get_override_values(flags.FLAGS[name])


def use_compilation_cache() -> None:
  """Keeps compiled programs between processes, so that a second start takes seconds less."""
  if "JAX_COMPILATION_CACHE_DIR" in os.environ:
    return
  root = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache"))
  jax.config.update("jax_compilation_cache_dir", str(root / "gdm" / "xla"))


def load_object(module: str, name: str):
  """The attribute `name` of `module`, imported when asked for, so that a binary pays only for what it uses."""
  return getattr(importlib.import_module(module), name)


def _route_logs() -> None:
  """Our own messages and everybody's warnings go above the progress bar; orbax tells every move at INFO."""
  handler = _TqdmHandler()
  handler.setFormatter(python_logging.Formatter("%(levelname)s: %(message)s"))
  python_logging.getLogger().handlers = [handler]
  logging.set_verbosity(logging.WARNING)
  python_logging.getLogger().setLevel(python_logging.WARNING)
  logging.get_absl_logger().handlers = []
  logging.get_absl_logger().propagate = True
  python_logging.getLogger("gdm").setLevel(python_logging.INFO)


def _fail(message: object) -> int:
  print(f"error: {message}", file=sys.stderr)
  return EXIT_BAD_INPUT
