"""Work of every binary around its main function: flags, one-line errors, logs that don't tear the progress bar."""

import contextlib
import errno
import io
import logging as python_logging
import os
import sys
import textwrap
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TextIO

import jax
import ml_collections
from absl import app, flags, logging
from ml_collections import config_flags
from tqdm import tqdm

from gdm.errors import ConfigError, UserError
from gdm.paths import local_path
from gdm.precision import highest_precision
from gdm.runs import defaults, registry
from gdm.runs.exits import EXIT_BAD_INPUT, EXIT_BUG, EXIT_INTERRUPTED, at_end, ended
from gdm.runs.overrides import check_overrides, chosen_names, packaged_config
from gdm.runs.trained import TrainedRun
from gdm.storage import clean, in_words, is_url, local_copy, push_all

# What the machine refuses is the user's to mend: no space, no right to write, a limit on file sizes, a broken disk, a
# folder in the place of a file.
_MACHINE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EACCES, errno.EPERM, errno.EROFS, errno.EIO, errno.EISDIR,
            errno.ENOTDIR, errno.ENOTEMPTY, errno.ENAMETOOLONG, errno.ELOOP, errno.ESTALE, errno.ENOLCK, errno.EBUSY,
            errno.EMFILE, errno.ENFILE}


_HELP = ("help", "helpshort", "helpfull", "h", "?")
WIDTH = 80  # columns of a terminal


class _InWords(io.TextIOBase):
  """A stream in which local copies of what is in a bucket are named by their URLs."""

  def __init__(self, stream: TextIO):
    self._stream = stream

  def write(self, text: str, /) -> int:
    self._stream.write(in_words(text))
    return len(text)

  def flush(self) -> None:
    self._stream.flush()

  def isatty(self) -> bool:
    return self._stream.isatty()


class _TqdmHandler(python_logging.Handler):
  """Writes log lines above a progress bar instead of through it."""

  def emit(self, record: python_logging.LogRecord) -> None:
    text = in_words(self.format(record))
    if record.name == "absl" and (record.exc_info or ".orbax-checkpoint-tmp" in text):
      return  # orbax tells each of its threads' tracebacks, and then raises the error; a save under way is its affair
    tqdm.write(text, file=sys.stderr)


def run(main: Callable[[Sequence[str]], int | None], precise: bool = True) -> None:
  """Run `main(argv)`: a UserError prints one line and exits with 2; anything else that escapes is a bug.

  Args:
    main: gives the exit code, or None for 0.
    precise: whether products are of the highest precision (`gdm.precision`), as what reads a trained run wants; False
      leaves them to the machine and the config, as training and measurements of speed do.
  """
  def call(argv: Sequence[str]) -> int:
    with highest_precision() if precise else contextlib.nullcontext():
      return _guarded(main, argv)

  app.run(call, flags_parser=_parse_flags)


def _guarded(main: Callable[[Sequence[str]], int | None], argv: Sequence[str]) -> int:
  if isinstance(sys.stdout, io.TextIOWrapper):
    sys.stdout.reconfigure(line_buffering=True)  # so that a log file shows each line when it is printed
  _route_logs()
  use_compilation_cache()
  if any("://" in argument for argument in sys.argv):
    sys.stdout = _InWords(sys.stdout)
  at_end(lambda code, message: clean())
  code, message = EXIT_BUG, ""
  try:
    code = main(argv) or 0
    push_all()
  except UserError as error:
    code, message = _fail(error), str(error)
  except OSError as error:
    if error.errno not in _MACHINE:
      raise
    message = f"{error.filename or 'a file'} cannot be used: {error.strerror}."
    code = _fail(message)
  except KeyboardInterrupt:
    message = "interrupted."
    print(message, file=sys.stderr)
    code = EXIT_INTERRUPTED
  except Exception as error:
    message = f"{type(error).__name__}: {error}"
    raise
  finally:
    ended(code, message)
  if code == EXIT_BAD_INPUT:
    # Not by the way of all ends: threads of a save that the storage refused may never come back.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
  return code


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
    sys.exit(_fail(error))


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


def refuse_arguments(argv: Sequence[str]) -> None:
  """Raise ConfigError where something other than flags was given."""
  if len(argv) > 1:
    raise ConfigError(f"argument {argv[1]!r} is unknown; everything is given as --<flag>=<value>.")


def define_overrides(*sections: str) -> None:
  """Define `--config.<section>.<field>=...` for sections of the base config, to override what a workdir recorded."""
  config = defaults.get_config()
  config = ml_collections.ConfigDict({name: config[name] for name in sections})
  try:
    check_overrides(sys.argv[1:], config)  # here, since config_flags reads them when it is defined
  except UserError as error:
    sys.exit(_fail(error))
  config_flags.DEFINE_config_dict("config", config,
                                  f"Fields that override what the run recorded, of {', '.join(sections)}: "
                                  "--config.<section>.<field>=<value>.")


def overrides(name: str = "config") -> dict:
  """Return the config fields that the command line set, dotted name -> value."""
  return config_flags.get_override_values(flags.FLAGS[name])


def use_compilation_cache() -> None:
  """Keep compiled programs between processes, so that a second start takes seconds less."""
  # A kill or a full disk can leave part of an entry; JAX then compiles anew, and would say so at every start.
  warnings.filterwarnings("ignore", "Error (reading|writing) persistent compilation cache entry")
  if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
    # JAX's own threshold, a second, keeps none of a small model's programs.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
  if "JAX_COMPILATION_CACHE_DIR" in os.environ:
    return
  folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gdm" / "xla"
  with contextlib.suppress(OSError):  # without a place to write, JAX would warn at every compilation
    folder.mkdir(parents=True, exist_ok=True)
    if os.access(folder, os.W_OK):
      jax.config.update("jax_compilation_cache_dir", str(folder))


def _route_logs() -> None:
  """Our own messages and everybody's warnings go above the progress bar; orbax tells every move at INFO."""
  handler = _TqdmHandler()
  sys.unraisablehook = _tell_unraisable
  handler.setFormatter(python_logging.Formatter("%(levelname)s: %(message)s"))
  python_logging.getLogger().handlers = [handler]
  logging.set_verbosity(logging.WARNING)
  python_logging.getLogger().setLevel(python_logging.WARNING)
  logging.get_absl_logger().handlers = []
  logging.get_absl_logger().propagate = True
  python_logging.getLogger("gdm").setLevel(python_logging.INFO)


def _tell_unraisable(unraisable: "sys.UnraisableHookArgs") -> None:
  """Pass on what Python cannot raise, but the echo of a failed save: TensorStore calls back into a closed loop."""
  if not (isinstance(unraisable.exc_value, RuntimeError) and "Event loop is closed" in str(unraisable.exc_value)):
    sys.__unraisablehook__(unraisable)


def _fail(message: object) -> int:
  print(f"error: {in_words(' '.join(str(message).split()))}", file=sys.stderr)
  return EXIT_BAD_INPUT
