"""Which row of a batch stands where on a mesh, in whatever order its devices are."""

import jax
import numpy as np
import pytest
from helpers.device_runs import assert_same_gradients, run_steps, set_up
from helpers.permuted import ORDER, free_port, permuted, results, run_two
from jax.sharding import PartitionSpec as P

from gdm.errors import ConfigError
from gdm.mesh import (
  batch_sharding,
  batch_shards,
  local_rows,
  local_shards,
  make_mesh,
  parameter_sharding,
  put_batch,
  require_use,
  whole_batch_size,
)
from gdm.studies.accelerators import count_collectives
from gdm.training.loop import lower_step
from gdm.training.state import state_shapes
from gdm.training.step import make_train_step


def assert_equal_results(found, expected):
  for name, values in expected.items():
    np.testing.assert_allclose(found[name], values, rtol=1e-5, atol=1e-6, err_msg=name)


@pytest.mark.slow
@pytest.mark.parametrize("fsdp", [1, 2, 4])
def test_a_permuted_mesh_computes_what_one_device_does(fsdp):
  devices = jax.devices()
  assert_equal_results(results(make_mesh(fsdp, [devices[i] for i in (0, 5, 3, 6, 2, 7, 1, 4)])),
                       results(make_mesh(devices=devices[:1])))


def test_two_processes_on_a_permuted_mesh_compute_what_one_device_does(tmp_path):
  """Parameters, scores and their places; the devices stand in the order of processes 0, 1, 1, 0."""
  path, port = tmp_path / "results.npz", free_port()
  run_two((port, 0, path), (port, 1, path))
  with np.load(path) as found:
    assert_equal_results(found, results(make_mesh(devices=jax.devices()[:1])))


def test_one_process_holds_every_row():
  mesh = make_mesh(2, permuted(jax.devices()[:4]))
  np.testing.assert_array_equal(local_rows(mesh, 12), np.arange(12))
  assert whole_batch_size(mesh, 12) == 12
  x = np.arange(24).reshape(2, 12)
  placed = put_batch(x, batch_sharding(mesh, leading_axes=1))
  assert [int(shard.data[0, 0]) for shard in sorted(placed.addressable_shards, key=lambda shard: shard.device.id)] == [
      3 * ORDER.index(i) for i in range(4)]


def test_parameters_are_split_by_the_names_of_their_layers_and_by_size(monkeypatch):
  mesh = make_mesh(2, tensor=2)
  spec = lambda shape, *path: parameter_sharding(mesh, shape, path).spec  # noqa: E731
  assert dict(mesh.shape) == {"data": 2, "fsdp": 2, "tensor": 2} and batch_shards(mesh) == local_shards(mesh) == 4
  assert spec((8, 6), "blocks_0", "attention", "query", "kernel") == P("fsdp", "tensor")
  assert spec((8, 6), "mu", "attention", "out", "kernel") == P("tensor", "fsdp")  # of an optimizer
  assert spec((8, 32), "expand", "kernel") == P("fsdp", "tensor")
  assert spec((32,), "expand", "bias") == P("tensor") and spec((8,), "contract", "bias") == P("fsdp")
  assert spec((8, 7), "query", "kernel") == P("fsdp", None)  # two devices cannot share seven units
  assert spec((3, 8), "readout", "kernel") == P(None, "fsdp") and spec((), "count") == P()
  monkeypatch.setattr("gdm.mesh.MIN_SPLIT", 100)
  assert spec((9, 11), "readout", "kernel") == spec((99,), "scale") == P()
  assert spec((10, 10), "readout", "kernel") == P("fsdp", None)
  assert spec((8, 6), "query", "kernel") == P(None, "tensor")  # what is computed apart is no matter of size


def test_an_axis_that_divides_nothing_is_refused():
  with pytest.raises(ConfigError, match=r"mesh.tensor is 3; it must divide the number of devices / mesh.fsdp, 4"):
    make_mesh(2, tensor=3)
  shapes = {("attention", "query", "kernel"): (9, 6), ("readout", "kernel"): (9, 3)}
  require_use(make_mesh(2, tensor=2), shapes)
  with pytest.raises(ConfigError, match=r"mesh.fsdp is 4, which divides no axis of any of the model's 2 parameters"):
    require_use(make_mesh(4), shapes)
  with pytest.raises(ConfigError, match=r"mesh.tensor is 4, but it can split no parameter of the model"):
    require_use(make_mesh(tensor=4), shapes)


@pytest.mark.parametrize("axes, expected", [({"fsdp": 2, "tensor": 2}, 4), ({"tensor": 8}, 1)])
def test_a_batch_is_whole_on_every_device_along_tensor(axes, expected):
  mesh = make_mesh(**axes)
  x = np.arange(24).reshape(1, 24)
  placed = put_batch(x, batch_sharding(mesh, leading_axes=1))
  assert len({shard.data.tobytes() for shard in placed.addressable_shards}) == expected == batch_shards(mesh)
  np.testing.assert_array_equal(local_rows(mesh, 24), np.arange(24))
  assert whole_batch_size(mesh, 24) == 24


@pytest.mark.parametrize("name, fsdp, tensor", [
    ("transformer", 2, 2), *[pytest.param(name, fsdp, 2, marks=pytest.mark.slow) for name, fsdp in
                             (("transformer", 4), ("masked", 2), ("flow_matching", 2), ("pixelsnail", 2))]])
def test_gradients_with_shared_heads_equal_those_of_one_device(name, fsdp, tensor):
  found = run_steps(name, make_mesh(fsdp, tensor=tensor), 1, np.float32).opt_state
  assert_same_gradients(found, run_steps(name, make_mesh(devices=jax.devices()[:1]), 1, np.float32).opt_state)


def _collectives(name, **axes):
  """Operations between devices in a training step."""
  model, optimizers, batches = set_up(name)
  mesh, example = make_mesh(**axes), {key: x[0, 0] for key, x in batches.items()}
  state = state_shapes(model, optimizers, example, mesh=mesh)
  lowered = lower_step(make_train_step(model, optimizers), state, batches, mesh).lowered
  with jax.set_mesh(mesh):
    return count_collectives(lowered.compile().as_text())


@pytest.mark.slow
def test_small_parameters_are_not_gathered(monkeypatch):
  assert _collectives("ddpm", fsdp=8)["all-gather"] > 20
  monkeypatch.setattr("gdm.mesh.MIN_SPLIT", 1 << 16)
  found = _collectives("ddpm", fsdp=8)
  assert found.get("all-gather", 0) == 0 and found["all-reduce"] >= 1


def test_shared_heads_cost_two_sums_a_block_in_each_direction(monkeypatch):
  """Those of Megatron-LM (arXiv:1909.08053, figure 3), in two blocks; at most three more are of gradients."""
  monkeypatch.setattr("gdm.mesh.MIN_SPLIT", 1 << 16)
  found = _collectives("transformer", tensor=2)
  assert set(found) == {"all-reduce"} and 8 <= found["all-reduce"] <= 11
