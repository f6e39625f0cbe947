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

# The first example of a property compiles, which takes as long as the machine is busy.
hypothesis.settings.register_profile("gdm", deadline=None)
hypothesis.settings.load_profile("gdm")
