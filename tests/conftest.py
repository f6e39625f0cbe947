"""Eight simulated devices, and shapes checked at run time, for all tests."""

import os

# Before the backend starts; jax.config.update would do, but subprocesses of a test must not inherit eight devices.
import jax

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_compilation_cache_dir", os.path.expanduser("~/.cache/gdm/xla-tests"))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)

from jaxtyping import install_import_hook  # noqa: E402

install_import_hook("gdm", "beartype.beartype")

import hypothesis  # noqa: E402
import pytest  # noqa: E402
from fast_cases import FAST_CASES  # noqa: E402

# Compiling takes most of the tests' time, and a program that runs once need not be a fast one.
QUICK = " --xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"


def pytest_configure(config):
  """The fast tier compiles without optimization, its subprocesses too; the slow tier as users do."""
  if config.option.markexpr == "not slow":
    os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + QUICK


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
  """Of costly tests the fast tier runs the cases that `fast_cases` names."""
  for item in items:
    test, _, case = item.nodeid.partition("[")
    fast = FAST_CASES.get(test.removeprefix("tests/"))
    if fast is not None and case.removesuffix("]") not in fast:
      item.add_marker(pytest.mark.slow)


# The first example of a property compiles, which takes as long as the machine is busy.
hypothesis.settings.register_profile("gdm", deadline=None)
hypothesis.settings.load_profile("gdm")
