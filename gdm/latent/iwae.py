"""The importance-weighted autoencoder (Burda, Grosse and Salakhutdinov, arXiv:1509.00519)."""

from typing import TypedDict, Unpack

import flax.linen as nn

from gdm.dataspec import DataSpec
from gdm.latent.outputs import Output
from gdm.latent.posteriors import Posterior
from gdm.latent.priors import Prior
from gdm.latent.vae import VAE
from gdm.model import Model


class VAEFields(TypedDict, total=False):
  """Fields of a VAE that an IWAE leaves as they are."""

  class_conditional: bool
  latent_dims: int
  encoder: nn.Module
  decoder: nn.Module
  posterior: Posterior
  prior: Prior | Model
  output: Output | None


def iwae(spec: DataSpec, num_samples: int = 50, gradient: str = "doubly_reparametrized",
         **settings: Unpack[VAEFields]) -> VAE:
  """Return a VAE that is trained by the bound of `num_samples` importance weights.

  Args:
    spec: the data.
    num_samples: k, draws of the latents of each example.
    gradient: reparametrized, as in the paper, or doubly_reparametrized.
    **settings: the other fields of `VAE`.

  Example:
    model = iwae(DataSpec((784,), 2), num_samples=5, latent_dims=50)
  """
  return VAE(spec, num_samples=num_samples, gradient=gradient, **settings)
