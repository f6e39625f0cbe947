"""Activations and weight initializations by name."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from gdm.errors import ConfigError, nearest

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "elu": jax.nn.elu,
    "gelu": jax.nn.gelu,
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
  """The activation called `name`; a ConfigError names the nearest known one."""
  if name not in ACTIVATIONS:
    raise ConfigError(f"activation is {name!r}; {nearest(name, ACTIVATIONS)}")
  return ACTIVATIONS[name]


def initializer(name: str) -> jax.nn.initializers.Initializer:
  """The weight initialization called `name`; a ConfigError names the nearest known one."""
  if name not in INITIALIZERS:
    raise ConfigError(f"weight_init is {name!r}; {nearest(name, INITIALIZERS)}")
  return INITIALIZERS[name]
