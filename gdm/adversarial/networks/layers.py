"""Normalizations of generators and critics, by name."""

import flax.linen as nn
from jaxtyping import Array, Float

OF_GENERATORS = ("none", "batch")
OF_CRITICS = ("none", "batch", "layer", "spectral")


def weighted(kind: str, layer: nn.Module, x: Float[Array, "batch *shape"],
             train: bool) -> Float[Array, "batch *new_shape"]:
  """Return the layer's output; of kind "spectral" its kernel is divided by its largest singular value.

  The singular value comes from one power iteration in each training pass (Miyato et al., arXiv:1802.05957).
  """
  if kind != "spectral":
    return layer(x)  # pyright: ignore[reportCallIssue]
  return nn.SpectralNorm(layer)(x, update_stats=train)


def normalized(kind: str, h: Float[Array, "batch *shape"], train: bool, name: str) -> Float[Array, "batch *shape"]:
  """Return the activations, normalized over the batch (arXiv:1502.03167) or over each example; or as they are.

  In training a batch is normalized by its own moments, elsewhere by their running means.
  """
  if kind == "batch":
    return nn.BatchNorm(use_running_average=not train, momentum=0.9, name=name)(h)
  return nn.LayerNorm(reduction_axes=tuple(range(1, h.ndim)), name=name)(h) if kind == "layer" else h
