"""Whole commands on runs in buckets: servers on this machine that speak Amazon's and Google's languages."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time

import pytest
from helpers.commands import TINY, assert_near, assert_same_runs, flags, free_port

from experiments.faults.bucket import served
from gdm.runs.exits import EXIT_BAD_INPUT, EXIT_RESUME_ME
from gdm.storage.mirror import Mirror
from gdm.storage.urls import parse_url

pytestmark = pytest.mark.slow
CONFIG = (f"{TINY}:digits", "--config.training.num_steps=160", "--config.training.eval_every=40",
          "--config.training.checkpoint_every=20", "--config.training.log_every=5")
# The server takes an upload apart with a parser of mails, which drops a carriage return at a file's end.
GOOGLE = """
import sys
from gcp_storage_emulator import server as emulator

class Part:
  def __init__(self, data):
    head, _, self.body = data.partition(b"\\r\\n\\r\\n" if b"\\r\\n\\r\\n" in data[:300] else b"\\n\\n")
    self.kind = head.decode().partition(":")[2].strip()
  def get_payload(self, decode=False):
    return self.body
  def get_content_type(self):
    return self.kind

class Parser:
  def parsebytes(self, data):
    head, _, body = data.partition(b"\\r\\n")
    boundary = b"--" + head.decode().partition("boundary=")[2].strip().strip("'\\"").encode()
    end = b"\\r\\n" if boundary + b"\\r\\n" in body[:len(boundary) + 4] else b"\\n"
    self.parts = [Part(part.removeprefix(end).removesuffix(end)) for part in body.split(boundary)[1:-1]]
    return self
  def get_payload(self):
    return self.parts

emulator.BytesParser = Parser
server = emulator.create_server("127.0.0.1", 0, in_memory=True, default_bucket="faults")
server.start()
print(server._api._httpd.socket.getsockname()[1], flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def google():
  process = subprocess.Popen([sys.executable, "-c", GOOGLE], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                             stderr=subprocess.DEVNULL, text=True)
  try:
    yield "gs://faults", {"STORAGE_EMULATOR_HOST": f"http://127.0.0.1:{process.stdout.readline().strip()}"}
  finally:
    process.kill()
    process.communicate()


@pytest.fixture(scope="module", params=["s3", "gs"])
def bucket(request, tmp_path_factory):
  """The URL of a bucket, and the environment in which commands reach it."""
  pytest.importorskip({"s3": "moto.server", "gs": "gcp_storage_emulator"}[request.param])
  folder = tmp_path_factory.mktemp("bucket")
  with contextlib.ExitStack() as stack:
    if request.param == "s3":
      server = stack.enter_context(served(folder))
      url, environment = server.url, server.environment
    else:
      url, environment = stack.enter_context(google())
    before = dict(os.environ)
    os.environ.update(environment)
    yield url, {**environment, "GDM_STAGING_DIR": str(folder / "staging"), "GDM_LEASE_SECONDS": "5"}
    os.environ.clear()
    os.environ.update(before)


def fetched(url, tmp_path, monkeypatch):
  monkeypatch.setenv("GDM_STAGING_DIR", str(tmp_path / "looked_at"))
  mirror = Mirror(parse_url(url, "workdir"))
  mirror.fetch_run()
  return mirror


def test_a_run_is_trained_interrupted_killed_resumed_scored_and_exported(bucket, commands, tmp_path, monkeypatch):
  url, environment = bucket[0] + "/läufe/run 1", bucket[1]
  commands.good("train", *CONFIG, f"--workdir={tmp_path / 'unbroken'}")
  first = commands.start("train", *CONFIG, f"--workdir={url}", **environment)
  first.until(lambda: "step 50/" in first.out)
  assert first.kill(signal.SIGTERM).wait().status == EXIT_RESUME_ME, first.err
  second = commands.start("train", *CONFIG, f"--workdir={url}", **environment)
  second.until(lambda: "step 100/" in second.out)
  second.kill().wait()
  last = commands.run("train", *CONFIG, f"--workdir={url}", **environment)
  assert last.status == 0 and "resuming from step" in last.out, last
  assert_same_runs(fetched(url, tmp_path, monkeypatch).path, tmp_path / "unbroken")

  out = commands.good("evaluate", f"--workdir={url}", **environment)
  assert str(tmp_path) not in out and "staging" not in out
  commands.good("sample", f"--workdir={url}", "--num=8", **environment)
  commands.good("export", f"--workdir={url}", f"--out={bucket[0]}/weights/made.safetensors", **environment)
  commands.good("trained", f"--workdir={bucket[0]}/weights/made.safetensors", **environment)
  assert "fvsbn" in commands.good("leaderboard", url, **environment)
  names = fetched(url, tmp_path, monkeypatch).names()
  assert {"likelihood_test.json", "scores_test.npz", "samples.png"} <= set(names)
  report = json.loads((tmp_path / "looked_at").glob("*/*/*/läufe/run 1/likelihood_test.json").__next__().read_text())
  commands.good("evaluate", f"--workdir={tmp_path / 'unbroken'}")
  assert report["nats_mean"] == json.loads((tmp_path / "unbroken" / "likelihood_test.json").read_text())["nats_mean"]
  staging = environment["GDM_STAGING_DIR"]
  commands.good("trained", f"--workdir={url}", **environment)  # which deletes what the killed one left
  assert os.listdir(staging) == []


def test_a_second_process_is_refused_while_the_first_lives(bucket, commands):
  url, environment = bucket[0] + "/twice", bucket[1]
  first = commands.start("train", *CONFIG, f"--workdir={url}", **environment)
  first.until(lambda: "step 5/" in first.out)
  second = commands.run("train", *CONFIG, f"--workdir={url}", **environment)
  assert second.status == EXIT_BAD_INPUT and "is in use by another process" in second.err
  assert first.wait().status == 0


def test_one_that_slept_finds_that_it_was_replaced_and_writes_nothing(bucket, commands, tmp_path, monkeypatch):
  url, environment = bucket[0] + "/slept", {**bucket[1], "GDM_LEASE_SECONDS": "2"}
  commands.good("train", *CONFIG, f"--workdir={tmp_path / 'unbroken'}")
  first = commands.start("train", *CONFIG, f"--workdir={url}", **environment)
  first.until(lambda: "step 50/" in first.out)
  first.kill(signal.SIGSTOP)
  second = commands.run("train", *CONFIG, f"--workdir={url}", **environment)
  assert second.status == 0 and "expired, it is taken over" in second.err
  before = fetched(url, tmp_path, monkeypatch).store.list()
  first.kill(signal.SIGCONT)
  result = first.wait()
  assert result.status == EXIT_BAD_INPUT and "was taken over by another process" in result.err
  time.sleep(0.2)
  mirror = fetched(url, tmp_path, monkeypatch)
  assert mirror.store.list() == before
  assert_same_runs(mirror.path, tmp_path / "unbroken")


def test_buckets_that_do_not_exist_are_an_error_at_once(bucket, commands):
  start = time.monotonic()
  result = commands.run("train", *CONFIG, f"--workdir={bucket[0]}-none/run", **bucket[1])
  assert result.status == EXIT_BAD_INPUT and "there is no bucket 'faults-none'" in result.err, result
  assert result.err.count("\n") == 1 and time.monotonic() - start < 20


def test_without_credentials_it_is_an_error_within_seconds(commands, tmp_path):
  pytest.importorskip("s3fs")
  nothing = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_EC2_METADATA_DISABLED": "true",
             "AWS_ENDPOINT_URL": "http://127.0.0.1:9", "HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)}
  result = commands.run("train", *CONFIG, "--workdir=s3://b/run", **nothing)
  assert result.status == EXIT_BAD_INPUT and "no valid credentials were found" in result.err, result
  assert result.err.count("\n") == 1


def test_a_bucket_that_refuses_for_a_while_loses_nothing(commands, tmp_path, monkeypatch):
  pytest.importorskip("moto.server")
  commands.good("train", *CONFIG, f"--workdir={tmp_path / 'unbroken'}")
  with served(tmp_path) as bucket:
    running = commands.start("train", *CONFIG, f"--workdir={bucket.url}/run", **bucket.environment)
    running.until(lambda: "step 50/" in running.out)
    with bucket.refusing("403 Forbidden"):
      time.sleep(8)
      assert not running.ended
    result = running.wait()
    assert result.status == 0 and "it is tried again for" in result.err, result
    monkeypatch.setattr(os, "environ", {**os.environ, **bucket.environment})
    assert_same_runs(fetched(f"{bucket.url}/run", tmp_path, monkeypatch).path, tmp_path / "unbroken")


def test_two_processes_without_a_shared_disk_share_a_run(bucket, commands, tmp_path, monkeypatch):
  """Parameters lie half on each: interrupted, resumed by two, scored by two; equal to a run of one in a folder."""
  url, environment = bucket[0] + "/pair", bucket[1]
  apart = [{**environment, "GDM_STAGING_DIR": str(tmp_path / f"host_{index}")} for index in (0, 1)]

  def pair(binary, *args):
    port = free_port()
    return [commands.start(binary, *args, f"--workdir={url}", *flags(port, index), **apart[index]) for index in (0, 1)]

  config = (*CONFIG, "--config.mesh.fsdp=2")
  processes = pair("train", *config)
  processes[0].until(lambda: "step 50/" in processes[0].out)
  processes[1].kill(signal.SIGTERM)
  assert [process.wait().status for process in processes] == [EXIT_RESUME_ME] * 2
  results = [process.wait() for process in pair("train", *config)]
  assert [result.status for result in results] == [0, 0], results
  assert "resuming from step" in results[0].out
  commands.good("train", *CONFIG, f"--workdir={tmp_path / 'unbroken'}")
  assert_near(fetched(url, tmp_path, monkeypatch).path, tmp_path / "unbroken")
  results = [process.wait() for process in pair("evaluate")]
  assert [result.status for result in results] == [0, 0], results
  assert "likelihood_test.json" in fetched(url, tmp_path, monkeypatch).names()


def test_a_sweep_in_a_bucket_is_made_ranked_and_gone_on_with(bucket, commands):
  args = ("sweep", *CONFIG, "--config.training.num_steps=40", f"--root={bucket[0]}/sweep", "--grid=seed=0,1")
  said = commands.good(*args, **bucket[1])
  assert "2 seeds" in said or said.count("fvsbn") >= 2, said
  again = commands.good(*args, **bucket[1])
  assert again.count("finished and scored already.") == 2
