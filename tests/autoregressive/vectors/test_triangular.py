"""Packed triangles."""

import jax.numpy as jnp
import numpy as np
import pytest

from gdm.autoregressive.vectors.triangular import pack_upper, packed_size, unpack_upper


@pytest.mark.fast_cases("0", "1")
@pytest.mark.parametrize("size", [0, 1, 2, 5, 8])
def test_unpacking_places_every_entry_once_on_or_above_the_diagonal(size):
  packed = np.arange(1, packed_size(size) + 1, dtype=np.float32)
  matrix = np.asarray(unpack_upper(jnp.asarray(packed), size))
  assert matrix.shape == (size, size)
  np.testing.assert_array_equal(np.sort(matrix[np.triu_indices(size)]), packed)
  assert not np.any(np.tril(matrix, -1))


@pytest.mark.parametrize("size", [0, 1, 4, 7])
def test_packing_is_the_inverse(size):
  matrix = np.triu(np.random.default_rng(0).normal(size=(size, size))).astype(np.float32)
  np.testing.assert_array_equal(unpack_upper(jnp.asarray(pack_upper(matrix)), size), matrix)
