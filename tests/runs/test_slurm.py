"""Jobs given to SLURM: by submitit's executor of this machine, and by a pretended SLURM."""

import os
import pathlib
import signal
import stat
import sys
import time

import pytest
from helpers.commands import TINY

from gdm.errors import ConfigError
from gdm.runs.sweep.jobs import Job
from gdm.runs.sweep.slurm import parse_parameters, submit

# Ends with 75 twice: the second time because it is told to, by the signal that comes before a job's time is up.
RESTARTS = """
import pathlib, signal, sys, time
place = pathlib.Path(sys.argv[1])
count = len(place.read_text()) if place.exists() else 0
place.write_text("x" * (count + 1))
if count == 0:
  sys.exit(75)
if count == 1:
  def stop(number, frame):
    pathlib.Path(sys.argv[1] + ".told").write_text(str(number))
    sys.exit(75)
  signal.signal(signal.SIGTERM, stop)
  time.sleep(60)
pathlib.Path(sys.argv[1] + ".done").touch()
"""


def test_parameters_are_pairs():
  assert parse_parameters("slurm_partition=gpu,gpus_per_node=8,slurm_time=4:00:00") == {
      "slurm_partition": "gpu", "gpus_per_node": 8, "slurm_time": "4:00:00"}
  assert parse_parameters("") == {}
  for text in ("gpu", "=3", "a=1,b"):
    with pytest.raises(ConfigError, match=r"--slurm has .*; it must be NAME=VALUE pairs"):
      parse_parameters(text)


def test_without_slurm_and_with_wrong_parameters_it_says_so(tmp_path, monkeypatch):
  pytest.importorskip("submitit")
  job = Job("lr=0.1 (1/1)", ((sys.executable, "-m", "nothing"),))
  monkeypatch.setenv("PATH", "/nowhere")
  with pytest.raises(ConfigError, match=r'--launcher=slurm cannot be used: Could not detect "srun"'):
    submit([job], tmp_path, {})
  with pytest.raises(ConfigError, match=r"--launcher=slurm cannot be used: .*partitoin"):
    submit([job], tmp_path, {"partitoin": "gpu"}, cluster="local")


@pytest.mark.slow
def test_a_job_is_requeued_until_its_command_has_finished(tmp_path):
  pytest.importorskip("submitit")
  place = tmp_path / "count"
  (tmp_path / "restarts.py").write_text(RESTARTS)
  command = (sys.executable, str(tmp_path / "restarts.py"), str(place))
  (job,) = submit([Job("lr=0.1 (1/1)", (command, command))], tmp_path, {"timeout_min": 60}, cluster="local")
  end = time.monotonic() + 60
  while not (place.exists() and len(place.read_text()) == 2):
    assert time.monotonic() < end, job.stderr()
    time.sleep(0.1)
  time.sleep(1.0)  # until it listens
  (task,) = pathlib.Path(f"/proc/{job.job_id}/task/{job.job_id}/children").read_text().split()
  os.kill(int(task), signal.SIGUSR2)
  assert job.result() == 0
  assert (tmp_path / "count.told").read_text() == str(int(signal.SIGTERM)) and (tmp_path / "count.done").exists()
  assert (tmp_path / "slurm" / "lr=0.1.json").exists()


SBATCH = """#!{python}
import os, pathlib, subprocess, sys
script = sys.argv[-1]
queue = pathlib.Path("{queue}")
number = str(100 + len(list(queue.glob("*.script"))))
(queue / (number + ".script")).write_text(script)
(queue / (number + ".state")).write_text("RUNNING")
subprocess.Popen(["{queue}/start", number], start_new_session=True, stdout=subprocess.DEVNULL,
                 stderr=subprocess.DEVNULL)
print("Submitted batch job " + number)
"""
START = """#!/bin/sh
export SLURM_JOB_ID=$1 SLURM_PROCID=0 SLURM_LOCALID=0 SLURM_NODEID=0 SLURM_NTASKS=1 SLURM_JOB_NUM_NODES=1
export SLURM_JOB_NODELIST=localhost PATH={queue}:$PATH
sh "$(cat {queue}/$1.script)"
test -e {queue}/$1.again && rm {queue}/$1.again && exec {queue}/start $1
echo COMPLETED > {queue}/$1.state
"""
SRUN = """#!{python}
import os, sys
first = next(i for i, each in enumerate(sys.argv) if os.path.basename(each).startswith("python"))
out = sys.argv[sys.argv.index("--output") + 1].replace("%j", os.environ["SLURM_JOB_ID"]).replace("%t", "0")
file = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
os.dup2(file, 1)
os.dup2(file, 2)
os.execv(sys.argv[first], sys.argv[first:])
"""
SCONTROL = """#!/bin/sh
touch {queue}/$2.again
"""
SACCT = """#!/bin/sh
echo "JobID|State|NodeList"
for state in {queue}/*.state; do echo "$(basename $state .state)|$(cat $state)|localhost"; done
"""


@pytest.mark.slow
def test_a_sweep_becomes_jobs_of_slurm_which_are_requeued(commands, tmp_path):
  """SLURM is pretended: sbatch starts the script here, srun the command, and scontrol starts it again."""
  pytest.importorskip("submitit")
  queue = tmp_path / "queue"
  queue.mkdir()
  for name, text in (("sbatch", SBATCH), ("start", START), ("srun", SRUN), ("scontrol", SCONTROL), ("sacct", SACCT)):
    (queue / name).write_text(text.format(python=sys.executable, queue=queue))
    (queue / name).chmod(0o755 | stat.S_IXUSR)
  root = tmp_path / "sweep"
  args = ("sweep", f"{TINY}:digits", f"--root={root}", "--grid=seed=0,1", "--launcher=slurm",
          "--slurm=slurm_partition=any,timeout_min=60", "--config.training.num_steps=20000")
  environment = {"PATH": f"{queue}:{os.environ['PATH']}", "PYTHONPATH": os.environ.get("PYTHONPATH", "")}
  said = commands.good(*args, **environment)
  assert "seed=0 (1/2): submitted as job 100" in said and "seed=1 (2/2): submitted as job 101" in said
  assert "#SBATCH --partition=any" in next((root / "slurm").glob("*.sh")).read_text()
  assert "in the queue as job 100" in commands.good(*args, **environment)
  end = time.monotonic() + 120
  logs = [root / "slurm" / f"{number}_0_log.out" for number in (100, 101)]
  while not all(log.exists() and "step 2/" in log.read_text() for log in logs):
    assert time.monotonic() < end, [log.read_text() for log in logs if log.exists()]
    time.sleep(0.2)
  for process in children_of(queue):  # as SLURM does before the time is up: to everything in the job
    os.kill(process, signal.SIGUSR2)
  while not all("resuming from step" in log.read_text() for log in logs):
    assert time.monotonic() < end, [log.read_text() for log in logs]
    time.sleep(0.2)
  for process in children_of(queue):
    os.kill(process, signal.SIGKILL)


def children_of(queue):
  """Processes of jobs: those whose environment has the queue in its path, but for its own scripts."""
  found = []
  for folder in os.scandir("/proc"):
    if folder.name.isdigit() and int(folder.name) != os.getpid():
      try:
        environment, arguments = (pathlib.Path(folder.path, name).read_bytes() for name in ("environ", "cmdline"))
      except OSError:
        continue
      if b"SLURM_JOB_ID=" in environment and str(queue).encode() in environment and b"python" in arguments:
        found.append(int(folder.name))
  return found
