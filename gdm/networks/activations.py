"""Activations and weight initializations by name."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from gdm import checks

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "elu": jax.nn.elu,
    "gelu": jax.nn.gelu,
    "leaky_relu": lambda x: jax.nn.leaky_relu(x, 0.2),  # as in arXiv:1511.06434
    "relu": jax.nn.relu,
    "sigmoid": jax.nn.sigmoid,
    "silu": jax.nn.silu,
    "softplus": jax.nn.softplus,
    "tanh": jnp.tanh,
}

INITIALIZERS: dict[str, jax.nn.initializers.Initializer] = {
    "glorot_normal": jax.nn.initializers.glorot_normal(),
    "glorot_uniform": jax.nn.initializers.glorot_uniform(),
    "he_normal": jax.nn.initializers.he_normal(),
    "lecun_normal": jax.nn.initializers.lecun_normal(),
    "orthogonal": jax.nn.initializers.orthogonal(),
}


def activation(name: str) -> Callable[[Float[Array, "*shape"]], Float[Array, "*shape"]]:
  """Return the activation called `name`; a ConfigError names the nearest known one."""
  checks.one_of("activation", name, ACTIVATIONS)
  return ACTIVATIONS[name]


def initializer(name: str) -> jax.nn.initializers.Initializer:
  """Return the weight initialization called `name`; a ConfigError names the nearest known one."""
  checks.one_of("weight_init", name, INITIALIZERS)
  return INITIALIZERS[name]
