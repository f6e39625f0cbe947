"""The same numbers on one device and on eight, however they are arranged, for every model there is."""

import functools
import importlib
import os
import socket
import subprocess
import sys
import typing
from pathlib import Path

import chex
import jax
import numpy as np
import optax
import pytest
from helpers.device_runs import TWO_PROCESSES, assert_same_gradients, run_steps, set_up
from helpers.small_models import SMALL, each_small
from helpers.toy_models import TRAINED_TOYS

from gdm.dataspec import DataSpec
from gdm.errors import ConfigError
from gdm.mesh import make_mesh, require_divisible, shard_bytes
from gdm.model import HasSolve
from gdm.runs.registry import MODELS, build_model
from gdm.training.loop import compile_step
from gdm.training.state import init_state, optimizers_for
from gdm.training.step import make_train_step

MESHES = {"data=8": 1, "data=4,fsdp=2": 2, "fsdp=8": 8}  # and their axis fsdp
ALL = each_small(*TRAINED_TOYS)
# The fast tier takes the arrangement that splits both ways.
ARRANGEMENTS = [pytest.param("data=8", marks=pytest.mark.slow), "data=4,fsdp=2",
                pytest.param("fsdp=8", marks=pytest.mark.slow)]


def _one():
  return make_mesh(devices=jax.devices()[:1])


@functools.cache
def _gradients_on_one(name):
  return run_steps(name, _one(), 1, np.float32).opt_state


@functools.cache
def _fifty_on_one(name):
  return run_steps(name, _one(), 50, np.float64)


def test_every_trained_model_is_among_them():
  builders = {name: getattr(importlib.import_module(module), builder) for name, (module, builder) in MODELS.items()}
  made = {name: builder if isinstance(builder, type) else typing.get_type_hints(builder)["return"]
          for name, builder in builders.items()}
  solved = {name for name, model in made.items() if issubclass(model, HasSolve)}
  trained = set(builders) - solved - {"ensemble", "token_ensemble", "product"}
  assert trained == set(SMALL)


@pytest.mark.slow
@pytest.mark.parametrize("arrangement", ARRANGEMENTS)
@pytest.mark.parametrize("name", ALL)
def test_gradients_equal_those_of_one_device(name, arrangement):
  assert_same_gradients(run_steps(name, make_mesh(MESHES[arrangement]), 1, np.float32).opt_state,
                        _gradients_on_one(name))


@pytest.mark.slow
@pytest.mark.parametrize("arrangement", ARRANGEMENTS)
@pytest.mark.parametrize("name", ALL)
def test_fifty_steps_equal_those_of_one_device_in_float64(name, arrangement):
  with jax.enable_x64(True):
    end = run_steps(name, make_mesh(MESHES[arrangement]), 50, np.float64)
    chex.assert_trees_all_close(end, _fifty_on_one(name), rtol=1e-8, atol=1e-8)


@pytest.mark.slow
def test_two_processes_equal_one(tmp_path):
  """One-step gradients in float32 and fifty steps in float64, in two processes that talk over gloo."""
  with socket.socket() as probe:
    probe.bind(("localhost", 0))
    port = probe.getsockname()[1]
  script = Path(__file__).parents[1] / "helpers" / "two_processes.py"
  environment = {**os.environ, "PYTHONPATH": f"{script.parents[2]}:{script.parents[1]}", "JAX_PLATFORMS": "cpu",
                 "JAX_COMPILATION_CACHE_DIR": jax.config.jax_compilation_cache_dir,
                 "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1"}
  processes = [subprocess.Popen([sys.executable, str(script), str(port), str(index), str(tmp_path)], env=environment)
               for index in (0, 1)]
  assert [process.wait(timeout=120) for process in processes] == [0, 0]
  for name, fsdp in TWO_PROCESSES:
    with np.load(tmp_path / f"{name}-{fsdp}-gradients.npz") as gradients:
      assert_same_gradients(list(gradients.values()), _gradients_on_one(name))
    with jax.enable_x64(True), np.load(tmp_path / f"{name}-{fsdp}-fifty.npz") as fifty:
      for leaf, expected in zip(fifty.values(), jax.tree.leaves(_fifty_on_one(name)), strict=True):
        np.testing.assert_allclose(leaf, expected, rtol=1e-8, atol=1e-8)


@pytest.mark.fast_cases("8")
@pytest.mark.parametrize("fsdp", [1, 2, 4, 8])
def test_bytes_per_device_fall_as_one_over_fsdp(fsdp):
  model, optimizers, batches = set_up("made")
  example = {key: x[0, 0] for key, x in batches.items()}
  state = init_state(model, optimizers, jax.random.key(0), example, ema=True, mesh=make_mesh(fsdp))
  parts = (state.params, state.opt_state, state.ema["params"])
  for part in parts:
    whole = sum(leaf.nbytes for leaf in jax.tree.leaves(part))
    assert shard_bytes(part) == sum(leaf.addressable_shards[0].data.nbytes for leaf in jax.tree.leaves(part))
    # A first layer of 15 inputs is split along its units; all sizes here are divisible along some axis.
    assert shard_bytes(part) == whole // fsdp


def test_devices_that_cannot_share_a_batch_are_told():
  with pytest.raises(ConfigError, match=r"data.batch_size is 20; .* number of devices, 8, .*: 16 or 24, say"):
    require_divisible(make_mesh(), 20, "data.batch_size")
  model, optimizers, batches = set_up("fvsbn")
  state = init_state(model, optimizers, jax.random.key(0), {key: x[0, 0] for key, x in batches.items()})
  short = {key: x[:, :, :10] for key, x in batches.items()}
  with pytest.raises(ConfigError, match=r"data\.batch_size is 10"):
    compile_step(make_train_step(model, optimizers), state, short, make_mesh())


def test_chains_that_the_devices_cannot_share_are_refused():
  model = build_model({"name": "rbm", "num_hidden": 2, "chain_shards": 3}, DataSpec((4,), 2))
  optimizers = optimizers_for(model, optax.sgd(0.1))
  with pytest.raises(ConfigError, match="chains in 3 shards; that must be a multiple of the 8 devices"):
    init_state(model, optimizers, jax.random.key(0), {"x": np.zeros((8, 4), np.uint8)}, ema=False, mesh=make_mesh(1))
