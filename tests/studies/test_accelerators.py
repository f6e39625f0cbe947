"""Programs for accelerators that are not here: every model's can be exported, and libtpu compiles them."""

import os

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers.small_models import COMPOSED, SMALL, SOLVED, small_batch, small_model

from gdm import platforms
from gdm.errors import ConfigError
from gdm.networks.convolution import Convolution
from gdm.studies.accelerators import (
  PROGRAMS,
  Program,
  compile_program,
  compile_step,
  count_collectives,
  export_program,
  programs,
  topology_mesh,
)
from gdm.training.state import optimizers_for

LIBTPU = os.environ.get("TPU_LIBRARY_PATH")


def programs_of(name, **more):
  model = small_model(name)
  return programs(model, optimizers_for(model, optax.adam(1e-3)), small_batch(model), **more)


def test_code_is_traced_for_the_kind_that_is_asked_for():
  layer, x = Convolution(5), jnp.zeros((1, 8, 8, 7))
  text = {}
  for kind in ("cpu", "tpu"):
    with platforms.tracing_for(kind):
      assert platforms.backend() == kind
      text[kind] = str(jax.make_jaxpr(lambda x: layer.init_with_output(jax.random.key(0), x)[0])(x))
  assert platforms.backend() == "cpu" and text["cpu"] != text["tpu"]
  assert text["tpu"].count("conv_general_dilated") == 1


@pytest.mark.parametrize("name", [
    pytest.param(name, marks=() if name == "made" else pytest.mark.slow) for name in (*SMALL, *SOLVED, *COMPOSED)])
def test_every_program_can_be_exported(name):
  found = programs_of(name)
  assert {program.name for program in found} <= set(PROGRAMS)
  assert ("step" in {program.name for program in found}) == (name in SMALL)
  with platforms.tracing_for("tpu"):
    for program in found:
      text = export_program(program)
      assert "func.func public @main" in text and "callback" not in text, program.name


def test_a_program_that_needs_the_host_is_seen():
  def log(x):
    return jax.pure_callback(lambda x: np.log(x), jax.ShapeDtypeStruct(x.shape, x.dtype), x)

  with platforms.tracing_for("tpu"):
    try:
      assert "callback" in export_program(Program("log", log, (jax.ShapeDtypeStruct((3,), jnp.float32),)))
    except NotImplementedError as error:
      assert "callback" in str(error)


def test_collectives_are_counted_once():
  text = """
  %a = f32[8]{0} all-gather(f32[1]{0} %x), dimensions={0}
  %b = (f32[1]{0}, f32[8]{0}) all-gather-start(f32[1]{0} %x), dimensions={0}
  %c = f32[8]{0} all-gather-done((f32[1]{0}, f32[8]{0}) %b)
  %e = f32[8]{0} all-gather(f32[1]{0} %x), channel_id=3, dimensions={0}
  %f = f32[8]{0} all-gather(f32[1]{0} %x), channel_id=3, dimensions={0}
  %d = f32[] all-reduce(f32[] %c), to_apply=%sum, metadata={op_name="all-reduce(x)"}
  """
  assert count_collectives(text) == {"all-gather": 3, "all-reduce": 1}


def test_without_libtpu_it_is_named(monkeypatch, tmp_path):
  monkeypatch.setenv("TPU_LIBRARY_PATH", str(tmp_path / "libtpu.so"))
  with pytest.raises(ConfigError, match=r"TPU_LIBRARY_PATH is .*there is no such file"):
    topology_mesh("v5e:2x2")
  monkeypatch.delenv("TPU_LIBRARY_PATH")
  monkeypatch.setitem(__import__("sys").modules, "libtpu", None)
  with pytest.raises(ConfigError, match="pip install --target=libtpu"):
    topology_mesh("v5e:2x2")


@pytest.mark.slow
@pytest.mark.skipif(not LIBTPU, reason="libtpu is not here: pip install --target=libtpu --no-deps libtpu, and set "
                                       "TPU_LIBRARY_PATH=libtpu/libtpu/libtpu.so")
def test_the_tpu_s_compiler_splits_a_batch_and_parameters(monkeypatch):
  model = small_model("made")
  optimizers, batch = optimizers_for(model, optax.adam(1e-3)), small_batch(model)
  data = compile_step(model, optimizers, batch, topology_mesh("v5e:2x2"))
  fsdp = compile_step(model, optimizers, batch, topology_mesh("v5e:2x2", fsdp=0))
  assert set(data.collectives) == {"all-reduce"} and fsdp.collectives["all-gather"] >= 1
  assert fsdp.arguments < data.arguments and min(data.flops, fsdp.flops) > 0
  with pytest.raises(ConfigError, match="--topologies has 'v9z:2x2'"):
    topology_mesh("v9z:2x2")
  for program in programs_of("made", only=("log_likelihood", "sample")):
    assert compile_program(program, topology_mesh("v5e:2x2")).arguments > 0
