"""Flags of every command: their parsing, their help, and what several commands read from them."""

import contextlib
import sys
import textwrap
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import ml_collections
from absl import app, flags
from ml_collections import config_flags

from gdm import checks
from gdm.errors import ConfigError, UserError, WorkdirError
from gdm.paths import local_path
from gdm.precision import highest_precision
from gdm.runs import defaults, registry
from gdm.runs.console import guarded, print_error
from gdm.runs.overrides import check_overrides, chosen_names, packaged_config
from gdm.runs.trained import TrainedRun
from gdm.storage import is_url, local_copy

_HELP = ("help", "helpshort", "helpfull", "h", "?")
WIDTH = 80  # columns of a terminal


def run(main: Callable[..., int | None], precise: bool = True, with_arguments: bool = False) -> None:
  """Run `main()`: a UserError prints one line and exits with 2; anything else that escapes is a bug.

  Args:
    main: gives the exit code, or None for 0.
    precise: whether products are of the highest precision (`gdm.precision`), as what reads a trained run wants; False
      leaves them to the machine and the config, as training and measurements of speed do.
    with_arguments: whether it is `main(arguments)`, called with what is no flag; else an argument is an error.
  """
  def call(arguments: Sequence[str]) -> int | None:
    if with_arguments:
      return main(arguments)
    if arguments:
      raise ConfigError(f"argument {arguments[0]!r} is unknown; everything is given as --<flag>=<value>.")
    return main()

  def precisely(argv: Sequence[str]) -> int:
    with highest_precision() if precise else contextlib.nullcontext():
      return guarded(lambda: call(argv[1:]))

  app.run(precisely, flags_parser=_parse_flags)


def _parse_flags(argv: Sequence[str]) -> list[str]:
  """absl's parsing, with every failure of a flag or config as one line."""
  if any(argument.lstrip("-") in _HELP for argument in argv[1:] if argument.startswith("-")):
    print(_help())
    sys.exit(0)
  try:
    argv = [argv[0], *packaged_config(argv[1:])]
    with registry.chosen(chosen_names(argv[1:])):
      if "config" in flags.FLAGS and flags.FLAGS["config"].default is None:  # a config file, not `define_overrides`
        check_overrides(argv[1:])
      return flags.FLAGS(list(argv))
  except (UserError, flags.Error) as error:
    sys.exit(print_error(error))


def _help() -> str:
  """Return what a command does, and its flags with their defaults."""
  main = sys.modules["__main__"]
  lines = [(main.__doc__ or "").strip(), "", "Flags:"]
  for module, found in flags.FLAGS.flags_by_module_dict().items():
    if module in (main.__name__, sys.argv[0]) or module.startswith("experiments"):
      for flag in sorted(found, key=lambda flag: flag.name):
        default = "" if flag.default in (None, False, []) or flag.name == "config" else f" [{flag.default}]"
        lines += textwrap.wrap(f"--{flag.name}{default}: {flag.help}", WIDTH, initial_indent="  ",
                               subsequent_indent="      ")
  lines += ["", "Every field of a config is set as --config.<section>.<field>=<value>; see gdm/runs/defaults.py."]
  return "\n".join(lines)


def require_flag(name: str):
  """Return the value of a flag that has no sensible default, or a ConfigError that asks for it."""
  value = flags.FLAGS[name].value
  if not value:
    raise ConfigError(f"--{name} is missing.")
  return value


def require_path(name: str) -> Path:
  """Return the path that a flag names; of a URL, that of its local copy, which is sent when the command ends.

  Raise ConfigError where it is missing, or neither a path of this machine nor a URL that is known.
  """
  return local_copy(require_flag(name), f"--{name}")


def require_folders(arguments: Sequence[str], command: str, usage: str) -> list[Path]:
  """Return the folders that arguments name. Raise ConfigError for none, WorkdirError for what is no folder."""
  if not arguments:
    raise ConfigError(f"no folder given; usage: python -m experiments.{command} DIR... {usage}.")
  folders = [local_copy(text, "argument") for text in arguments]
  for folder in folders:
    if not folder.is_dir():
      raise WorkdirError(f"{folder} is not a folder; experiments.{command} takes workdirs, or folders of them.")
  return folders


def require_place(name: str) -> Path:
  """Return the path of a file that a flag names, to be written. Raise ConfigError where its folder does not exist."""
  path = require_path(name)
  if not path.parent.is_dir():
    raise ConfigError(f"--{name} is {path}, but there is no folder {path.parent}; make it, or name another.")
  return path


def at_least(**least: float) -> None:
  """Raise ConfigError where the value of a flag is below its least, or not finite; one that is None may be so."""
  for name, bound in least.items():
    if (value := flags.FLAGS[name].value) is not None:
      checks.at_least(f"--{name}", value, bound)


def show(lines: Iterable[str]) -> None:
  """Print lines, each as soon as it is there."""
  for line in lines:
    print(line, flush=True)


def define_run(*sections: str, with_data: bool = False) -> None:
  """Define the flags of a command that works on a trained run.

  Args:
    sections: of the recorded config whose fields it may override.
    with_data: whether it may be done on other data.
  """
  flags.DEFINE_string("workdir", None, "Folder of a trained run, or a file that experiments.export wrote.")
  flags.DEFINE_string("checkpoint", "best", "Of a folder: best (by validation), last, or a step.")
  if with_data:
    flags.DEFINE_string("data", None, "Other data than those of the run, as npz:new.npz; they get its transforms.")
  define_overrides(*sections)


def open_run(more: dict | None = None) -> TrainedRun:
  """Return the run that --workdir and --checkpoint name, with the fields of the command line, and these, set."""
  from gdm import load  # here, so that a wrong flag is told at once

  fields = {**overrides(), **(more or {})}
  if "data" in flags.FLAGS and flags.FLAGS.data:
    fields |= {"data.name": flags.FLAGS.data, "data.path": ""}
  place = require_flag("workdir")
  run = load(place if is_url(place) else local_path(place, "--workdir"), flags.FLAGS.checkpoint, fields)
  run.folder.mkdir(parents=True, exist_ok=True)  # beside an exported file there is none yet
  return run


def define_overrides(*sections: str) -> None:
  """Define `--config.<section>.<field>=...` for sections of the base config, to override what a workdir recorded."""
  config = defaults.get_config()
  config = ml_collections.ConfigDict({name: config[name] for name in sections})
  try:
    check_overrides(sys.argv[1:], config)  # here, since config_flags reads them when it is defined
  except UserError as error:
    sys.exit(print_error(error))
  config_flags.DEFINE_config_dict("config", config,
                                  f"Fields that override what the run recorded, of {', '.join(sections)}: "
                                  "--config.<section>.<field>=<value>.")


def overrides(name: str = "config") -> dict:
  """Return the config fields that the command line set, dotted name -> value."""
  return config_flags.get_override_values(flags.FLAGS[name])
