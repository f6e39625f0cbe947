"""Two processes, as on two hosts, train and score as one does, and none waits for another that is gone."""

import json
import re
import signal
import time

import numpy as np
import pytest
from helpers.commands import TINY, assert_near, flags, free_port
from helpers.permuted import run_two

from gdm.training import checkpoint
from gdm.training.metrics import read_metrics

DIGITS = f"{TINY}:digits"
RESUME_ME = 75


@pytest.fixture
def pair(commands):
  """Starts a binary as two processes."""
  def start(binary, *args, different=((), ())):
    port = free_port()
    return [commands.start(binary, *args, *different[index], *flags(port, index)) for index in (0, 1)]

  return start


def test_two_processes_train_and_score_as_one(commands, pair, unbroken, tmp_path):
  workdir = tmp_path / "run"
  first, second = (process.wait() for process in pair("train", DIGITS, f"--workdir={workdir}"))
  assert (first.status, second.status) == (0, 0), (first, second)
  assert "mesh data=2 x fsdp=1: 2 devices (cpu) in 2 processes" in first.out
  assert "step" not in second.out and first.out.count("finished at step 30") == 1
  assert_near(workdir, unbroken("digits"))
  alone = commands.good("evaluate", f"--workdir={workdir}", "--config.evaluation.batch_size=7")
  report = json.loads((workdir / "likelihood_test.json").read_text())
  # 300 examples in batches of 8, of which the last has 4: its second half, a process's slice, is padding.
  first, second = (p.wait() for p in pair("evaluate", f"--workdir={workdir}", "--config.evaluation.batch_size=7"))
  assert (first.status, second.status) == (0, 0), (first, second)
  assert re.sub(r"^\[Gloo\].*\n", "", first.out) == alone
  assert json.loads((workdir / "likelihood_test.json").read_text())["num_examples"] == report["num_examples"] == 300


@pytest.mark.slow
def test_two_processes_whose_devices_are_not_in_their_order_train_and_score_as_one(commands, unbroken, tmp_path):
  """Of processes 0, 1, 1, 0, as the mesh of a TPU slice may be; scores must come to lie at their examples' places."""
  alone, workdir = unbroken("digits"), tmp_path / "run"

  def run(binary, *args):
    port = free_port()
    run_two(*([f"--module={binary}", *args, *flags(port, index)] for index in (0, 1)))

  run("train", DIGITS, f"--workdir={workdir}")
  assert_near(workdir, alone)
  run("evaluate", f"--workdir={workdir}", "--config.evaluation.batch_size=32")
  with np.load(workdir / "scores_test.npz") as found:
    scores = found["nats"]
  commands.good("evaluate", f"--workdir={workdir}")
  with np.load(workdir / "scores_test.npz") as expected:
    np.testing.assert_allclose(scores, expected["nats"], rtol=1e-5)


@pytest.mark.slow
def test_slurm_needs_no_flags(commands, unbroken, tmp_path):
  """What srun says to two tasks on this host."""
  workdir, job = tmp_path / "run", free_port()
  processes = [commands.start("train", DIGITS, f"--workdir={workdir}", SLURM_JOB_ID=str(job), SLURM_NTASKS="2",
                              SLURM_STEP_NUM_TASKS="2", SLURM_STEP_NODELIST="localhost", SLURM_STEP_NUM_NODES="1",
                              SLURM_PROCID=str(index), SLURM_LOCALID=str(index)) for index in (0, 1)]
  results = [process.wait() for process in processes]
  assert [result.status for result in results] == [0, 0], results
  assert "2 devices (cpu) in 2 processes" in results[0].out
  assert_near(workdir, unbroken("digits"))


@pytest.mark.slow
def test_an_interrupted_pair_is_resumed_by_one(commands, pair, unbroken, tmp_path):
  workdir = tmp_path / "run"
  processes = pair("train", DIGITS, f"--workdir={workdir}", "--config.mesh.fsdp=2")
  processes[0].until(lambda: len(read_metrics(workdir / "metrics.jsonl")) >= 4)
  processes[1].kill(signal.SIGTERM)  # one of them is enough
  results = [process.wait() for process in processes]
  assert [result.status for result in results] == [RESUME_ME, RESUME_ME], results
  step = re.search(r"interrupted and saved at step (\d+)", results[0].out)[1]
  assert f"resuming from step {step}." in commands.good("train", DIGITS, f"--workdir={workdir}")
  assert_near(workdir, unbroken("digits"))


@pytest.mark.slow
def test_a_pair_interrupted_in_a_validation_is_resumed_by_one(commands, pair, unbroken, tmp_path):
  """However little the other one heard of it, both stop there, and what was saved before is whole."""
  workdir, flow = tmp_path / "run", f"{TINY}:flow"
  processes = pair("train", flow, f"--workdir={workdir}", "--config.evaluation.num_draws=1000000")
  processes[0].until(lambda: (workdir / "checkpoints" / "3" / checkpoint.MANIFEST).exists())
  time.sleep(0.5)
  start = time.monotonic()
  processes[1].kill(signal.SIGTERM)
  results = [process.wait() for process in processes]
  assert time.monotonic() - start < 10
  assert [result.status for result in results] == [RESUME_ME, RESUME_ME], results
  assert "interrupted and saved at step 3; the same command resumes." in results[0].out
  assert "error" not in results[0].err + results[1].err
  assert "resuming from step 3." in commands.good("train", flow, f"--workdir={workdir}")
  assert_near(workdir, unbroken("flow"))


@pytest.mark.fast_cases("0")
@pytest.mark.parametrize("gone", [0, 1])
def test_a_process_that_vanishes_ends_the_other(commands, pair, unbroken, tmp_path, gone):
  workdir = tmp_path / "run"
  processes = pair("train", DIGITS, f"--workdir={workdir}", "--config.training.num_steps=100000")
  processes[0].until(lambda: len(read_metrics(workdir / "metrics.jsonl")) >= 8)
  start = time.monotonic()
  processes[gone].kill()
  other = processes[1 - gone].wait()
  assert time.monotonic() - start < 20
  assert other.status == RESUME_ME
  # JAX's own service may notice, and say so, at the same moment.
  assert re.sub(r"(\[Gloo\]|[EFW]\d{4} |Additional GRPC|:UNKNOWN:).*\n", "", other.err) == (
      f"error: process {gone} vanished; the same command on all processes resumes from the last checkpoint.\n")
  processes[gone].wait()
  assert checkpoint.newest_good_step(workdir / "checkpoints") is not None


def test_a_process_that_fails_ends_the_other_with_its_message(pair, tmp_path):
  workdir = tmp_path / "run"
  processes = pair("train", DIGITS, f"--workdir={workdir}", different=((), ("--config.seed=1",)))
  first, second = (process.wait() for process in processes)
  assert (first.status, second.status) == (2, 2)
  message = "seed of process 1 differ from those of process 0; all processes of a run need the same config.\n"
  assert second.err.endswith(f"error: {message}")
  assert first.err.endswith(f"error: process 1: {message}")
  assert not workdir.exists() or not any(workdir.iterdir())


@pytest.mark.fast_cases("0")
@pytest.mark.parametrize("index", [0, 1])
def test_others_that_do_not_come_are_waited_for_within_bounds(commands, tmp_path, index):
  start = time.monotonic()
  result = commands.run("train", DIGITS, f"--workdir={tmp_path / 'run'}", *flags(free_port(), index, timeout=2))
  assert time.monotonic() - start < 20
  assert result.status == 2
  assert re.fullmatch(r"error: all 2 processes did not come together at localhost:\d+ within 2 s; .*\n", result.err)
  assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("given", "message"), [
    (["--coordinator=localhost:1234"], "--num_processes is missing; --coordinator, --num_processes and --process_id"),
    (flags("x", 0), "--coordinator is 'localhost:x'; it must be HOST:PORT"),
    (flags(1, 2), r"--process_id is 2; it must be in \[0, 2\)"),
    (flags(1, 0, count=0), "--num_processes is 0"),
    (["--coordinator=no.such.host.invalid:1", "--num_processes=2", "--process_id=0"], "whose host is unknown"),
])
def test_flags_that_make_no_sense_are_named(commands, tmp_path, given, message):
  result = commands.run("train", DIGITS, f"--workdir={tmp_path / 'run'}", *given)
  assert result.status == 2 and re.search(f"^error: .*{message}", result.err), result
