"""Jobs of commands given to SLURM, through submitit (an extra), each requeued until its run is finished.

SLURM sends SIGUSR2 before a job's time is up, to everything in it: the training saves and ends with 75, and submitit,
which gets the signal too, requeues the job. A command that ends with 75 for another reason has its job requeued too.
submitit keeps what it submits, and the logs, in `<root>/slurm`.
"""

import dataclasses
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gdm.errors import ConfigError, DataError, UserError
from gdm.extras import load_extra
from gdm.runs.exits import EXIT_RESUME_ME
from gdm.runs.sweep.jobs import Job
from gdm.runs.workdir import read_json, write_json

_NOTICE = signal.SIGUSR2  # submitit's
_OTHERS_WAIT_SECONDS = 60  # of the tasks but the first, for the first to requeue their job
_REQUEUES = 1000  # each makes progress, so that the number is no matter
_IN_QUEUE = ("PENDING", "RUNNING", "REQUEUED", "REQUEUE_HOLD", "COMPLETING", "CONFIGURING", "SUSPENDED", "UNKNOWN")


@dataclasses.dataclass
class SlurmCommands:
  """Commands to run one after the other inside a job, as submitit wants them.

  Attributes:
    commands: each as (python, "-m", module, argument, ...); one that was finished before does nothing.
  """

  commands: tuple[tuple[str, ...], ...]
  _process: subprocess.Popen | None = dataclasses.field(default=None, init=False, repr=False)

  def __call__(self) -> int:
    """Run them; return 0, or the code of the first that failed."""
    for command in self.commands:
      self._process = subprocess.Popen(command)
      code = self._ended()
      if code == EXIT_RESUME_ME:
        os.kill(os.getpid(), _NOTICE)  # submitit then requeues the job, and this process ends there
        time.sleep(_OTHERS_WAIT_SECONDS)
      if code:
        raise UserError(f"{command[2]} ended with exit code {code}; its output is above.")
    return 0

  def checkpoint(self) -> Any:
    """Let the command under way save, and return what submitit runs when the job starts again."""
    if self._process is not None:
      self._process.terminate()
      self._ended()
    return load_extra("submitit", "slurm", "a requeued job").helpers.DelayedSubmission(SlurmCommands(self.commands))

  def _ended(self) -> int:
    """Wait for the command. A signal's handler may do so while this does, so that no lock can be used."""
    assert self._process is not None
    if self._process.returncode is None:
      os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)
    return self._process.wait()


def parse_parameters(text: str) -> dict[str, Any]:
  """Return SLURM's parameters from NAME=VALUE pairs.

  Args:
    text: pairs separated by commas, named as submitit names them: timeout_min, gpus_per_node, slurm_partition, ...

  Raise ConfigError for what is no pair.

  Example: `parse_parameters("slurm_partition=gpu,gpus_per_node=8,timeout_min=240")`.
  """
  parameters: dict[str, Any] = {}
  for pair in filter(None, text.split(",")):
    name, equals, value = pair.partition("=")
    if not name or not equals:
      raise ConfigError(f"--slurm has {pair!r}; it must be NAME=VALUE pairs with commas between, as "
                        "slurm_partition=gpu,timeout_min=240.")
    parameters[name] = int(value) if value.isdigit() else value
  return parameters


def submit(jobs: Sequence[Job], root: Path, parameters: Mapping[str, Any], cluster: str = "slurm") -> list[Any]:
  """Submit the jobs that are not in the queue yet, and say where each is. Return submitit's jobs, in order.

  Args:
    jobs: of one point each.
    root: of the sweep; made if absent.
    parameters: of every job, see `parse_parameters`.
    cluster: "slurm", or for tests another executor of submitit.

  Raise ConfigError where submitit is missing, there is no SLURM, or it does not know a parameter.
  """
  submitit = load_extra("submitit", "slurm", "--launcher=slurm")
  folder = root / "slurm"
  try:
    executor = submitit.AutoExecutor(folder=folder, cluster=cluster,
                                     **({"slurm_max_num_timeout": _REQUEUES} if cluster == "slurm" else {}))
    executor.update_parameters(**parameters)
  except (RuntimeError, NameError, TypeError, ValueError, KeyError) as error:
    raise ConfigError(f"--launcher=slurm cannot be used: {' '.join(str(error).split())}") from error
  submitted = []
  for job in jobs:
    record = folder / f"{job.name.partition(' ')[0]}.json"
    earlier = _queued(submitit, folder, record) if cluster == "slurm" else None
    if earlier is None:
      try:
        earlier = executor.submit(SlurmCommands(job.commands))
      except (subprocess.CalledProcessError, submitit.core.utils.FailedJobError) as error:
        raise UserError(f"SLURM refuses {job.name}: {' '.join(str(error).split())[-300:]}") from error
      write_json(record, {"job_id": earlier.job_id})
      print(f"{job.name}: submitted as job {earlier.job_id}, log {earlier.paths.stdout}", flush=True)
    else:
      print(f"{job.name}: in the queue as job {earlier.job_id}, log {earlier.paths.stdout}", flush=True)
    submitted.append(earlier)
  return submitted


def _queued(submitit: Any, folder: Path, record: Path) -> Any:
  """Return the job that an earlier command submitted, None where there is none or it has ended."""
  if not record.exists():
    return None
  try:
    job = submitit.SlurmJob(folder=folder, job_id=str(read_json(record)["job_id"]))
  except (KeyError, DataError, UserError):
    return None
  return job if job.watcher.get_state(job.job_id, mode="force").partition(" ")[0] in _IN_QUEUE else None
