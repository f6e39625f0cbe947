"""Joins the processes of a run on several hosts, or does nothing where there is one.

On a cluster that says so (SLURM's srun, Open MPI's mpirun, a Cloud TPU pod) JAX finds the others itself. Elsewhere each
process is told by --coordinator=HOST:PORT --num_processes=N --process_id=I.
"""

from absl import flags

from gdm.runs import cluster

_COORDINATOR = flags.DEFINE_string("coordinator", None, "HOST:PORT of process 0, where no cluster says it.")
_NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "Number of processes, with --coordinator.")
_PROCESS_ID = flags.DEFINE_integer("process_id", None, "Which of them this is, from 0, with --coordinator.")
_WAIT = flags.DEFINE_integer("coordinator_timeout", 300, "Seconds to wait for all processes to come together.")


def join() -> None:
  """Join the other processes; must come before anything asks JAX for its devices. See `gdm.runs.cluster.join`."""
  cluster.join(_COORDINATOR.value, _NUM_PROCESSES.value, _PROCESS_ID.value, _WAIT.value)
