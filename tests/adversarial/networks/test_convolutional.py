"""Convolutional generators and critics take images of any size, and every parameter has a gradient."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gdm.adversarial.networks.convolutional import ConvolutionalCritic, ConvolutionalGenerator, sides_of
from gdm.errors import ConfigError

KEY = jax.random.key(0)


def moved(network, inputs, labels):
  """The output, and the names of parameters without a gradient."""
  variables = network.init(KEY, inputs, labels)

  def loss(params):
    out, _ = network.apply({**variables, "params": params}, inputs, labels, train=True, mutable=["batch_stats"])
    return jnp.sum(jnp.sin(out + jnp.arange(out.size).reshape(out.shape))), out

  gradients, out = jax.jit(jax.grad(loss, has_aux=True))(variables["params"])
  still = [jax.tree_util.keystr(path) for path, leaf in jax.tree.leaves_with_path(gradients) if not np.any(leaf)]
  return out, still


@pytest.mark.fast_cases("event1-resize-projection")
@pytest.mark.parametrize("event, upsampling, labelled", [
    ((9, 8, 1), "transposed", "concatenate"), ((13, 5, 3), "resize", "projection"), ((1, 1, 1), "resize", "")])
def test_shapes_and_gradients(event, upsampling, labelled):
  labels = jax.nn.one_hot(jnp.arange(3), 4) if labelled else None
  generator = ConvolutionalGenerator(4, upsampling=upsampling, event=event)
  made, still = moved(generator, jax.random.normal(KEY, (3, 5)), labels)
  # Before a normalization over the batch a constant is nothing.
  assert made.shape == (3, *event) and all("bias" in name and "last" not in name for name in still)
  critic = ConvolutionalCritic(4, normalization="layer", labels=labelled or "concatenate")
  scores, still = moved(critic, jax.random.normal(KEY, (3, *event)), labels)
  assert scores.shape == (3,) and not still


def test_sides_are_halved_to_a_small_image():
  assert sides_of((28, 28, 1)) == ((28, 28), (14, 14), (7, 7))
  assert sides_of((13, 5, 3)) == ((13, 5), (7, 3))


@pytest.mark.parametrize("network, fields, words", [
    (ConvolutionalGenerator, {"width": 0}, "generator.width"),
    (ConvolutionalGenerator, {"upsampling": "resiz"}, "did you mean 'resize'"),
    (ConvolutionalGenerator, {"normalization": "layer"}, "generator.normalization is 'layer'"),
    (ConvolutionalCritic, {"normalization": "spectrl"}, "did you mean 'spectral'"),
    (ConvolutionalCritic, {"labels": "project"}, "critic.labels is 'project'"),
])
def test_wrong_fields_are_named(network, fields, words):
  with pytest.raises(ConfigError, match=words):
    network(**fields)
