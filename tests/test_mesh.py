"""Which row of a batch stands where on a mesh, in whatever order its devices are."""

import jax
import numpy as np
import pytest
from helpers.permuted import ORDER, free_port, permuted, results, run_two

from gdm.mesh import batch_sharding, local_rows, make_mesh, put_batch, whole_batch_size


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
