"""One server of commands for all tests of the binaries, and runs that several tests compare with."""

import pytest
from commands import TINY, Commands


@pytest.fixture(scope="session")
def commands(tmp_path_factory):
  server = Commands(tmp_path_factory.mktemp("commands"))
  yield server
  server.close()


@pytest.fixture(scope="session")
def unbroken(commands, tmp_path_factory):
  """Workdirs of finished runs, by the arguments after the config; each is made once and must not be changed."""
  made = {}

  def make(variant, *args):
    if (variant, args) not in made:
      made[variant, args] = workdir = tmp_path_factory.mktemp("unbroken") / "run"
      commands.good("train", f"{TINY}:{variant}", f"--workdir={workdir}", *args)
    return made[variant, args]

  return make
