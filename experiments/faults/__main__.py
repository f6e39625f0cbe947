"""Does faults to runs on purpose and counts what became of them.

  python -m experiments.faults [--kills=100] [--seed=0] [--kinds="NaN,flipped bit"] [--config=PATH[:VARIANT]]
      [--out=runs/faults.json] [--root=DIR]

A quick run is made unbroken once. Then, for each fault, a run is started, the fault is done to it, and the same command
is given until it ends. It counts as

  identical  the same metrics, checkpoint and best as unbroken, bit for bit;
  refused    nothing is left to resume from (the only checkpoint was damaged), and one line says so;
  lost       anything else: a traceback, other numbers, no end, a good checkpoint gone.

"Refused first" counts the identical ones of which a process had to say in one line why it stopped: a full disk, NaN.
Faults called "bucket: ..." are done to runs in a bucket that a server on this machine holds (the extra `dev`).
It needs Linux, and for a full disk the right to mount.
Exit codes: 0 nothing lost, 1 something lost (its workdir stays), 2 bad input.
"""

import dataclasses
import datetime
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

import jax
from absl import flags
from tqdm import tqdm

from experiments import cli
from experiments.faults.campaign import LOST, campaign, number_of_faults, render, run_unbroken
from experiments.faults.commands import ROOT, Commands
from experiments.faults.kinds import KINDS
from gdm.errors import ConfigError, WorkdirError, nearest
from gdm.runs.workdir import write_json
from gdm.training.checkpoint import versions

_KILLS = flags.DEFINE_integer("kills", 100, "Faults by SIGKILL; those of other kinds are in proportion, one at least.")
_SEED = flags.DEFINE_integer("seed", 0, "Of what is drawn: moments, files, bits, steps.")
_KINDS = flags.DEFINE_list("kinds", [], f"Which to do, all by default: {', '.join(KINDS)}.")
_CONFIG = flags.DEFINE_string("config", str(ROOT / "experiments" / "faults" / "quick.py"), "The run to do them to; of "
                              "seconds, and one that validates better and better, since a damaged best is replaced.")
_OUT = flags.DEFINE_string("out", "runs/faults.json", "Where to write the JSON.")
_DIR = flags.DEFINE_string("root", "", "Folder of the runs; by default one among the temporary files.")


def main() -> int:
  if _KILLS.value < 1:
    raise ConfigError(f"--kills is {_KILLS.value}; it must be at least 1.")
  for name in _KINDS.value:
    if name not in KINDS:
      raise ConfigError(f"--kinds has {name!r}; {nearest(name, KINDS)}")
  out = Path(_OUT.value)
  root = _make_folder(_DIR.value)
  jax.config.update("jax_platforms", "cpu")  # as the runs: what is compared are bits
  commands = Commands(_made(root / "output"), _environment(root))
  start, began, outcomes = time.monotonic(), datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"), []
  try:
    numbers = number_of_faults(_KILLS.value, _KINDS.value or list(KINDS), root)
    for name in (name for name, number in numbers.items() if not number):
      print(f"{name}: this machine does not allow it.", flush=True)
    unbroken = run_unbroken(commands, _CONFIG.value, root)
    print(f"unbroken: {unbroken.num_steps} steps in {unbroken.seconds:.1f} s; {sum(numbers.values())} faults follow.",
          flush=True)
    progress = tqdm(campaign(commands, unbroken, root, numbers, _SEED.value), total=sum(numbers.values()), disable=None,
                    unit=" faults")
    for outcome in progress:
      outcomes.append(outcome)
      if outcome.verdict == LOST:
        progress.write(f"LOST: {outcome.kind} {outcome.number}: {outcome.why}", file=sys.stdout)
      elif progress.disable and outcome.number == numbers[outcome.kind] - 1:
        print(f"{outcome.kind}: all {numbers[outcome.kind]} done", flush=True)
  finally:
    commands.close()
  seconds = time.monotonic() - start
  out.parent.mkdir(parents=True, exist_ok=True)
  write_json(out, {
      "began": began, "seconds": seconds, "seed": _SEED.value, "config": _CONFIG.value,
      "unbroken": {**dataclasses.asdict(unbroken), "workdir": str(unbroken.workdir)}, "versions": versions(),
      "outcomes": [{**outcome._asdict(), "refused_first": outcome.refused_first} for outcome in outcomes],
  })
  print(render(outcomes, numbers))
  lost = [outcome for outcome in outcomes if outcome.verdict == LOST]
  print(f"{out} written after {seconds:.0f} s." + (f" The lost runs are in {root}." if lost else ""))
  if not lost:
    shutil.rmtree(root)
  return 1 if lost else 0


def _make_folder(name: str) -> Path:
  """Return the folder of the runs, new."""
  if not name:
    return Path(tempfile.mkdtemp(prefix="gdm-faults-"))
  root = Path(name).absolute()
  if root.exists() and (not root.is_dir() or any(root.iterdir())):
    raise WorkdirError(f"--root is {root}, which is there and not empty; name a new folder.")
  return _made(root)


def _made(folder: Path) -> Path:
  try:
    folder.mkdir(parents=True, exist_ok=True)
  except OSError as error:
    raise WorkdirError(f"{folder} cannot be made: {error.strerror}; name another --root.") from error
  return folder


def _environment(root: Path) -> dict[str, str]:
  """Of the runs: a compilation cache that they share, and no part of it with others, since kills may damage it."""
  return {"JAX_PLATFORMS": "cpu", "JAX_COMPILATION_CACHE_DIR": os.fspath(root / "cache"),
          "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1"}


if __name__ == "__main__":
  sys.exit(cli.run(main, precise=False))
