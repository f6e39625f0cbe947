"""Which network a model gets where none is named, and how it is made for the data."""

import flax.linen as nn

from gdm.dataspec import DataSpec
from gdm.discrete_diffusion.networks.perceptron import Perceptron
from gdm.discrete_diffusion.networks.residual import Residual
from gdm.errors import SpecError


def network_for(spec: DataSpec, network: nn.Module | None, timed: bool, context: int = 0) -> nn.Module:
  """Return a network made for this data and a context of that width: the one given, or residual convolutions for
  images, else a perceptron."""
  chosen = network if network is not None else Residual() if spec.is_image else Perceptron()
  if isinstance(chosen, Residual) and len(spec.event) != 3:
    raise SpecError(f"network is 'residual', which takes images (height, width, channels), but spec.event is "
                    f"{spec.event}; set it to 'mlp' or 'transformer'.")
  return chosen.clone(event=tuple(spec.event), levels=spec.require_discrete("discrete diffusion"), timed=timed,
                      context=context)
