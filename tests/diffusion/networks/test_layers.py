"""The time's features, and what no class adds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gdm.diffusion.networks.layers import EMBEDDINGS, TimeEmbedding, fourier, sinusoidal
from gdm.errors import ConfigError, SpecError

KEY = jax.random.key(0)
TIME = jnp.array([0.0, 0.3, 1.0])


def test_sinusoids_are_those_of_the_paper():
  t, found = 0.123, sinusoidal(jnp.array([0.123]), 6)[0]
  for i in range(3):
    angle = 1000 * t / 10_000 ** (i / 3)
    np.testing.assert_allclose(found[i::3], [np.sin(angle), np.cos(angle)], atol=1e-4)


@pytest.mark.parametrize("embedding", EMBEDDINGS.values(), ids=EMBEDDINGS)
def test_features_are_on_circles_and_tell_times_apart(embedding):
  found = np.asarray(embedding(jnp.linspace(0.0, 1.0, 101), 32))
  np.testing.assert_allclose(found[:, :16] ** 2 + found[:, 16:] ** 2, 1.0, atol=1e-5)
  distances = np.linalg.norm(found[:, None] - found[None], axis=-1)
  assert np.min(distances + 9.0 * np.eye(101)) > 0.1


def test_fourier_features_have_frequencies_of_the_scale_and_always_the_same():
  slope = jax.jvp(lambda t: fourier(t, 2000), (jnp.zeros(1),), (jnp.ones(1),))[1][0, :1000]  # of sines at 0: 2 pi f
  np.testing.assert_allclose(np.std(slope / (2.0 * np.pi)), 16.0, rtol=0.1)
  np.testing.assert_array_equal(fourier(TIME, 8), fourier(TIME, 8))


@pytest.mark.fast_cases("fourier")
@pytest.mark.parametrize("kind", EMBEDDINGS)
def test_no_class_is_a_row_of_zeros_and_classes_are_told_apart(kind):
  embedding, classes = TimeEmbedding(6, 4, 2, kind), jnp.array([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
  variables = jax.jit(embedding.init)(KEY, TIME)  # without a context, and yet there are weights for it
  apply = jax.jit(embedding.apply)
  without, given = apply(variables, TIME), apply(variables, TIME, classes)
  assert without.shape == (3, 6)
  np.testing.assert_array_equal(without[2], given[2])
  assert np.all(without[:2] != given[:2])
  assert set(variables["params"]) == {"first", "second", "context"}  # and no frequencies


def test_bad_input_is_refused():
  with pytest.raises(ConfigError, match="did you mean 'fourier'"):
    TimeEmbedding(4, 4, kind="fourrier")
  with pytest.raises(ConfigError, match="even"):
    TimeEmbedding(4, 3)
  with pytest.raises(ConfigError, match="context is -1"):
    TimeEmbedding(4, 4, -1)
  with pytest.raises(SpecError, match="width 3, but the network takes one of 2"):
    TimeEmbedding(4, 4, 2).init(KEY, TIME, jnp.ones((3, 3)))
