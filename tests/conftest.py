"""Eight simulated devices, and shapes checked at run time, for all tests."""

import gc
import os
import pathlib
import pkgutil

# Before the backend starts; jax.config.update would do, but subprocesses of a test must not inherit eight devices.
import jax

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_compilation_cache_dir", os.path.expanduser("~/.cache/gdm/xla-tests"))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)

from jaxtyping import install_import_hook  # noqa: E402

import gdm  # noqa: E402

# All but gdm.runs and gdm.studies, whose tests stand simpler things in for models and runs.
install_import_hook([f"gdm.{module.name}" for module in pkgutil.iter_modules(gdm.__path__)
                     if module.name not in ("runs", "studies")], "beartype.beartype")

import gdm.mesh  # noqa: E402

gdm.mesh.MIN_SPLIT = 1  # models of tests are tiny: they are split like large ones

import hypothesis  # noqa: E402
import pytest  # noqa: E402
from helpers.commands import TINY, Commands  # noqa: E402

# Compiling takes most of the tests' time, and a program that runs once need not be a fast one. XLA's newer way to emit
# fused operations makes faster programs, and takes as long again to compile.
QUICK = (" --xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
         " --xla_cpu_use_fusion_emitters=false")


def pytest_configure(config):
  """The fast tier compiles without optimization, its subprocesses too; the slow tier as users do."""
  if config.option.markexpr == "not slow":
    os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + QUICK


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
  """Of a test marked `fast_cases(...)` the fast tier runs the cases named, as many as a second of a processor pays for.

  Costs were measured with an empty cache of compiled programs, where most of a test is compiling.
  """
  for item in items:
    marker = item.get_closest_marker("fast_cases")
    if marker is not None and item.nodeid.partition("[")[2].removesuffix("]") not in marker.args:
      item.add_marker(pytest.mark.slow)


# The first example of a property compiles, which takes as long as the machine is busy.
hypothesis.settings.register_profile("gdm", deadline=None)
hypothesis.settings.load_profile("gdm")


_since_looked = 0


def pytest_runtest_teardown(item, nextitem):
  """Drop compiled programs before their memory maps reach the kernel's limit, at which the process would crash.

  A program compiled with optimization has hundreds of maps, and Linux allows 65,530 by default.
  """
  del item, nextitem
  global _since_looked
  _since_looked += 1
  maps = pathlib.Path("/proc/self/maps")
  if _since_looked < 3 or not maps.exists():
    return
  _since_looked = 0
  if maps.read_bytes().count(b"\n") > 20_000:
    jax.clear_caches()
    gc.collect()


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
