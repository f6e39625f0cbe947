"""Programs compiled for a CPU are right in a process as users start it, or a warning says that they are not."""

import os
import subprocess
import sys
import warnings

import jax
import pytest

from gdm import compiler
from gdm.mesh import make_mesh

FLAG, VALUE = compiler.FLAG, compiler.VALUE

SUMS = """
import gdm
import jax, jax.numpy as jnp, numpy as np
t = np.linspace(1e-5, 1.0, 65536)
noise = np.random.default_rng(0).normal(size=(len(t), 2))
def function(xp, t, noise):
  return getattr(xp, NAME)(t) * xp.sum(noise * getattr(xp, NAME)(-0.9 * t)[:, None], axis=-1)
for NAME in ("expm1", "log1p"):
  compiled = jax.jit(lambda t, noise: function(jnp, t, noise))(np.float32(t), np.float32(noise))
  np.testing.assert_allclose(compiled, function(np, t, noise), rtol=1e-3, atol=1e-6)
"""

CONSTANTS = """
import gdm
import flax.linen as nn
import jax, jax.numpy as jnp, numpy as np
x = np.random.default_rng(0).normal(size=(32, 64)).astype(np.float32)
for constant in (0.0, 1.0, -2.5):
  w = np.full((64, 64), constant, np.float32)
  for function, expected in (
      (lambda x: x @ jnp.full((64, 64), constant), x @ w),
      (lambda x: jax.grad(lambda x: jnp.sum(x @ jnp.full((64, 64), constant)))(x), np.ones_like(x) @ w.T),
      (lambda x: jax.vmap(lambda row: row @ jnp.full((64, 64), constant))(x), x @ w),
      (lambda x: jnp.stack([x, x]) @ jnp.full((2, 64, 64), constant), np.stack([x @ w, x @ w]))):
    np.testing.assert_allclose(jax.jit(function)(x), expected, rtol=1e-4, atol=1e-4)
np.testing.assert_allclose(jax.jit(lambda x: x @ jnp.eye(64))(x), x, rtol=1e-6)
layer = nn.Dense(64, kernel_init=nn.initializers.zeros)
y, _ = jax.jit(lambda key: layer.init_with_output(key, x))(jax.random.key(0))
np.testing.assert_array_equal(y, np.zeros((32, 64)))
"""

OVERWRITTEN = """
import gdm, gdm.mesh, os
os.environ["XLA_FLAGS"] = "--xla_cpu_enable_fast_math=false"
gdm.mesh.make_mesh()
"""

IN_A_TRACE = """
import jax
jax.devices()
@jax.jit
def function(x):
  import gdm
  return x + 1
assert function(1) == 2
"""


def run(program, **environment):
  """What a process writes to stderr that compiles as users do, without the flags of the test suite."""
  without = {key: value for key, value in os.environ.items() if key != "XLA_FLAGS"}
  process = subprocess.run([sys.executable, "-c", program], env={**without, **environment}, capture_output=True,
                           text=True)
  assert process.returncode == 0, process.stderr
  return process.stderr


@pytest.mark.fast_cases("single_products-sums")
@pytest.mark.parametrize("program", [SUMS, CONSTANTS], ids=["sums", "constants"])
@pytest.mark.parametrize("value", [None, *compiler.RIGHT], ids=["set_by_gdm", "empty", "single_products"])
def test_programs_are_right(program, value):
  environment = {} if value is None else {"XLA_FLAGS": f"{FLAG}={value}"}
  assert "CompilerWarning" not in run(program, **environment)


@pytest.mark.fast_cases("late_and_set_late")
@pytest.mark.parametrize("program, environment", [
    ("import jax; jax.devices(); import gdm", {}),
    ("import jax, os; jax.devices(); os.environ['XLA_FLAGS'] = '" + FLAG + "='; import gdm", {}),
    (OVERWRITTEN, {}),
    (IN_A_TRACE, {}),
], ids=["late", "late_and_set_late", "overwritten", "in_a_trace"])
def test_an_import_too_late_warns_and_names_the_remedy(program, environment):
  stderr = run(program, **environment)
  assert "CompilerWarning: this process compiles some sums wrongly" in stderr
  assert f"start Python with XLA_FLAGS={FLAG}={VALUE} " in stderr


def test_a_late_import_leaves_xla_flags_which_are_part_of_the_key_of_cached_programs():
  run("import jax, os, warnings; jax.devices(); warnings.simplefilter('ignore'); import gdm; "
      "assert 'XLA_FLAGS' not in os.environ")


@pytest.mark.fast_cases("")
@pytest.mark.parametrize("value", compiler.RIGHT)
def test_a_late_import_into_a_process_that_started_with_the_flag_is_silent(value):
  assert run("import jax; jax.devices(); import gdm, gdm.mesh; gdm.mesh.make_mesh()", XLA_FLAGS=f"{FLAG}={value}") == ""


def test_an_import_of_jax_alone_is_not_too_late():
  assert run("import jax, gdm, os; from gdm import compiler; "
             f"assert os.environ['XLA_FLAGS'] == '{FLAG}={VALUE}' and not compiler.miscompiled()") == ""


def test_products_under_a_dangerous_value_are_found_wrong_also_where_nan_is_an_error():
  program = ("import gdm, jax; jax.config.update('jax_debug_nans', True); "
             "assert gdm.compiler.miscompiled() == ('products',)")
  assert "returns wrong numbers for some sums or products" in run(program, XLA_FLAGS=f"{FLAG}=LIBRARY_FUSION_TYPE_DOT")


@pytest.fixture
def fresh(monkeypatch):
  """The state of a process before JAX starts; returns what `prepare` makes of XLA_FLAGS and of a version of jaxlib."""
  monkeypatch.setattr(compiler, "_started", lambda: False)
  monkeypatch.setattr(compiler, "_left", None)

  def prepared(flags, version="0.10.2"):
    monkeypatch.setattr(compiler.metadata, "version", lambda name: version)
    monkeypatch.setenv("XLA_FLAGS", flags)
    with warnings.catch_warnings(record=True) as found:
      warnings.simplefilter("always")
      compiler.prepare()
    return os.environ["XLA_FLAGS"], [str(warning.message) for warning in found]

  return prepared


@pytest.mark.parametrize("version", ["0.10.0", "0.10.1", "0.10.2", "0.11.0", "0.11.1", "0.12.0", "0.12.0.1"])
def test_every_version_that_the_project_allows_gets_the_flag(fresh, version):
  assert fresh("", version) == (f"{FLAG}={VALUE}", [])
  assert fresh("--xla_cpu_enable_fast_math=false", version) == (f"--xla_cpu_enable_fast_math=false {FLAG}={VALUE}", [])


@pytest.mark.parametrize("version", ["0.9.2", "0.13.0", "1.0.0"])
def test_a_version_that_may_not_know_the_flag_does_not_get_it(fresh, version):
  """XLA would end the process."""
  assert fresh("", version) == ("", [])


@pytest.mark.parametrize("flags", [
    f"{FLAG}=", f"{FLAG}=LIBRARY_FUSION_TYPE_DOT {FLAG}=", f"{FLAG}=''", f"{FLAG}={VALUE}"])
def test_a_right_value_is_left_alone(fresh, flags):
  assert fresh(flags) == (flags, [])


@pytest.mark.parametrize("value", ["LIBRARY_FUSION_TYPE_DOT", "+LIBRARY_FUSION_TYPE_REDUCE", "'reduce,dot'"])
def test_another_value_is_named_in_a_warning(fresh, value):
  flags = f"{FLAG}= {FLAG}={value}"
  kept, (message,) = fresh(flags)
  assert kept == flags
  assert f"{FLAG}={value.strip(chr(39))} " in message
  assert f"Set {FLAG}={VALUE} or leave it out" in message


def test_a_flag_whose_name_only_begins_alike_is_another(fresh):
  assert fresh(f"{FLAG}_of_tomorrow=x")[0] == f"{FLAG}_of_tomorrow=x {FLAG}={VALUE}"


def test_xla_flags_that_name_a_file_are_not_spoilt(fresh, tmp_path):
  file = tmp_path / "flags"
  file.write_text("--xla_cpu_enable_fast_math=false\n")
  kept, (message,) = fresh(str(file))
  assert kept == str(file)
  assert f"Add the line {FLAG}={VALUE} to it" in message
  file.write_text(f"--xla_cpu_enable_fast_math=false\n{FLAG}=\n")
  assert fresh(str(file)) == (str(file), [])


def test_nothing_is_claimed_where_the_default_device_is_no_cpu(monkeypatch):
  monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
  compiler.miscompiled.cache_clear()
  assert compiler.miscompiled() == ()
  compiler.miscompiled.cache_clear()


def test_a_mesh_warns_once_jax_has_started_wrongly(monkeypatch):
  monkeypatch.setattr(compiler, "_left", None)
  monkeypatch.setattr(compiler, "miscompiled", lambda: ("sums",))
  with pytest.warns(compiler.CompilerWarning, match="compiles some sums wrongly"):
    make_mesh()
