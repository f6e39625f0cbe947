"""Convolutional encoders and decoders fit images of any size."""

import jax
import jax.numpy as jnp
import pytest

from gdm.errors import SpecError
from gdm.latent.networks.convolutional import ConvolutionalDecoder, ConvolutionalEncoder
from gdm.latent.networks.perceptrons import PerceptronDecoder, PerceptronEncoder

CONTEXT = jnp.ones((2, 3))


@pytest.mark.parametrize(("event", "upsampling", "context"), [
    ((7, 5, 3), "transposed", CONTEXT), pytest.param((8, 8, 1), "transposed", None, marks=pytest.mark.slow),
    pytest.param((9, 4, 1), "resize", CONTEXT, marks=pytest.mark.slow)])
def test_shapes_and_gradients(event, upsampling, context):
  encoder = ConvolutionalEncoder((4, 4, 6), 8, outputs=5)
  decoder = ConvolutionalDecoder((6, 4, 4), 8, upsampling=upsampling, places=event[:2], outputs=2)
  x = jax.random.normal(jax.random.key(0), (2, *event))
  params = jax.jit(encoder.init)(jax.random.key(1), x, context)
  z = encoder.apply(params, x, context)
  assert z.shape == (2, 5)
  made, variables = jax.jit(decoder.init_with_output)(jax.random.key(2), z, context)
  assert made.shape == (2, *event[:2], 2)
  slopes = jax.jit(jax.grad(lambda params: jnp.sum(jnp.square(decoder.apply(params, z, context)))))(variables)
  assert all(float(jnp.abs(leaf).max()) > 0 for leaf in jax.tree.leaves(slopes))


@pytest.mark.slow
def test_a_context_changes_what_is_made():
  x, z = jnp.ones((2, 4, 4, 1)), jnp.ones((2, 3))
  for module, given in ((ConvolutionalEncoder((4,), 8, outputs=2), x), (PerceptronEncoder((8,), outputs=2), x),
                        (ConvolutionalDecoder((4,), 8, places=(4, 4)), z), (PerceptronDecoder((8,), places=(4,)), z)):
    context = jnp.asarray([[1.0, 0.0], [0.0, 1.0]])
    made, _ = module.init_with_output(jax.random.key(0), given, context)
    assert float(jnp.abs(made[0] - made[1]).max()) > 0


def test_other_data_than_images_is_refused():
  with pytest.raises(SpecError, match="needs images"):
    ConvolutionalEncoder().init(jax.random.key(0), jnp.zeros((2, 5)))
  with pytest.raises(SpecError, match="makes images"):
    ConvolutionalDecoder(places=(5,)).init(jax.random.key(0), jnp.zeros((2, 5)))
