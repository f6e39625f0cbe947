"""The processes of a run on several hosts, joined, and one's end, which the others learn of."""

import functools
import importlib.util
import io
import os
import socket
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from gdm.errors import ConfigError
from gdm.runs import exits
from gdm.training.lifeline import Lifeline


class _Silence(io.TextIOBase):
  """A stream that forgets what is written to it."""

  def write(self, text: str, /) -> int:
    return len(text)


def join(coordinator: str | None = None, num_processes: int | None = None, process_id: int | None = None,
         timeout: int = 300) -> None:
  """Join the other processes; must come before anything asks JAX for its devices.

  Args:
    coordinator: HOST:PORT of process 0; None where a cluster says it, or there is one process.
    num_processes: how many processes there are, with a coordinator.
    process_id: which of them this is, from 0, with a coordinator.
    timeout: seconds to wait for all of them.

  Raise ConfigError for arguments that say half or contradict each other; ends the process, with a line that says why,
  where the others cannot be reached in time.
  """
  arguments = _arguments(coordinator, num_processes, process_id)
  if not arguments and not in_cluster(os.environ):
    return
  where = coordinator or "the cluster's coordinator"
  timer = threading.Timer(timeout, _give_up, [where, num_processes, timeout])
  timer.daemon = True
  timer.start()
  try:  # the timer ends first, since JAX would abort with a stack trace
    jax.distributed.initialize(**arguments, initialization_timeout=timeout + 60)
  except ValueError:
    if arguments:
      raise
    timer.cancel()
    return  # a TPU, but no cluster of them
  if jax.process_count() > 1:
    exits.at_end(functools.partial(_leave, Lifeline(coordinator.rpartition(":")[0] if coordinator else None)))
  timer.cancel()
  if jax.process_index() != 0:
    sys.stdout = _Silence()  # one process speaks for all; errors go to stderr


def in_cluster(environment: Mapping[str, str]) -> bool:
  """Return whether a launcher started this process as one of several, or it has a TPU, whose runtime knows.

  A job's batch script or interactive shell, which no launcher started, has some of a launcher's variables but is alone.
  """
  def several(name: str) -> bool:
    return environment.get(name, "").isdigit() and int(environment[name]) > 1

  mpi = several("OMPI_COMM_WORLD_SIZE") and "OMPI_MCA_orte_hnp_uri" in environment
  return several("SLURM_STEP_NUM_TASKS") or mpi or _has_tpu()


def _has_tpu() -> bool:
  devices = [*Path("/dev").glob("accel*"), *Path("/dev/vfio").glob("*")]
  return bool(devices) and importlib.util.find_spec("libtpu") is not None


def _leave(lifeline: Lifeline, code: int, message: str) -> None:
  """End this process's part in the run; with a message, which is what went wrong, everybody's, and at once."""
  if not message:  # in order: finished, or interrupted together
    lifeline.leave()
    return
  if code == exits.EXIT_BUG:  # perhaps a peer that vanished in the middle of a sum, of which the lifeline can say more
    time.sleep(3)
  lifeline.fail(code, message)
  sys.stdout.flush()
  sys.stderr.flush()
  os._exit(code)  # JAX would wait for the others


def _arguments(coordinator: str | None, num_processes: int | None, process_id: int | None) -> dict[str, Any]:
  """Return the arguments of `jax.distributed.initialize`, {} for no flags. Raise ConfigError for flags that make no
  sense."""
  if coordinator is None or num_processes is None or process_id is None:
    given = {"coordinator": coordinator, "num_processes": num_processes, "process_id": process_id}
    missing = [name for name, value in given.items() if value is None]
    if len(missing) < len(given):
      raise ConfigError(f"--{missing[0]} is missing; --coordinator, --num_processes and --process_id go together.")
    return {}
  host, _, port = coordinator.rpartition(":")
  if not host or not port.isdigit() or not 0 < int(port) < 65536:
    raise ConfigError(f"--coordinator is {coordinator!r}; it must be HOST:PORT, as node1:1234.")
  if num_processes < 1:
    raise ConfigError(f"--num_processes is {num_processes}; it must be at least 1.")
  if not 0 <= process_id < num_processes:
    raise ConfigError(f"--process_id is {process_id}; it must be in [0, {num_processes}).")
  try:
    socket.getaddrinfo(host, int(port))
  except OSError as error:
    raise ConfigError(f"--coordinator is {coordinator!r}, whose host is unknown: {error.strerror}.") from error
  return {"coordinator_address": coordinator, "num_processes": num_processes, "process_id": process_id}


def _give_up(where: str, count: int | None, timeout: int) -> None:
  who = f"all {count} processes" if count else "all processes"
  os.write(2, f"error: {who} did not come together at {where} within {timeout} s; start each of them, and check "
              "that its address can be reached from every host.\n".encode())
  os._exit(2)
