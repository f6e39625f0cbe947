"""This project's side of diffusion: a U-Net that predicts noise, trained by the one train step; DDIM in one call."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.speed.peers.diffusion_case import MULTIPLIERS, NUM_STEPS
from experiments.speed.peers.gdm_step import training
from experiments.speed.peers.protocol import SAMPLING, Case, serve
from gdm.dataspec import DataSpec
from gdm.diffusion.networks.unet import UNet
from gdm.diffusion.paths.path import noised
from gdm.diffusion.paths.variance_preserving import VPLinear
from gdm.diffusion.predictions import Noise, denoiser
from gdm.diffusion.samplers.ddim import DDIM
from gdm.diffusion.samplers.grids import UniformGrid
from gdm.diffusion.samplers.sampler import sample
from gdm.model import LossOutput, Objective
from gdm.runs.allocation import keep_freed_memory

PATH = VPLinear()
WEIGHT = 0.02  # of the network that samples, whose speed does not depend on it: drawing weights would compile for long


@dataclasses.dataclass(frozen=True)
class NoisePrediction:
  """DDPM's simple loss (Ho et al., arXiv:2006.11239, equation 14) and nothing else."""

  spec: DataSpec
  network: UNet

  @property
  def objectives(self) -> tuple[Objective, ...]:
    return (Objective(("model",), self.loss),)

  def init(self, key, batch):
    x = jnp.zeros_like(batch["x"], jnp.float32)
    return {"model": jax.jit(self.network.init)(key, x, jnp.zeros(x.shape[0]))["params"]}, {}

  def loss(self, params, carry, batch, key, step):
    time_key, key = jax.random.split(key)
    t = jax.random.uniform(time_key, batch["x"].shape[:1], minval=PATH.ends[0], maxval=PATH.ends[1])
    seen = noised(PATH, batch["x"], jax.random.normal(key, batch["x"].shape), t)
    return LossOutput(jnp.mean((self.noise(params, seen.x, t) - seen.noise) ** 2), {}, carry)

  def noise(self, params, x, t) -> Any:
    return self.network.apply({"params": params["model"]}, x, t)


def model(case: Case) -> NoisePrediction:
  side, channels = case.context, case.levels
  network = UNet(channels, case.width, MULTIPLIERS, case.num_layers, attention=(-(-side // 2),))
  return NoisePrediction(DataSpec((side, side, channels), None), network)


def sampler(case: Case, num_steps: int = NUM_STEPS) -> Callable[[Any, Any], Any]:
  """(params, key) -> samples by DDIM, the data it predicts kept to [-1, 1] as diffusers' scheduler does."""
  made = model(case)

  def draw(params, key):
    denoise = denoiser(Noise(), PATH, lambda x, t: made.noise(params, x, t))

    def kept(x, t):
      return jnp.clip(denoise(x, t), -1.0, 1.0)

    return sample(DDIM(), kept, PATH, UniformGrid(), num_steps, key, (case.batch, *made.spec.event)).x

  return draw


def build(case: Case):
  made = model(case)
  x = np.random.default_rng(0).normal(size=(case.batch, *made.spec.event)).astype(np.float32)
  num, tasks = training(made, x)
  key, draw = jax.random.key(0), jax.jit(sampler(case))
  shapes, _ = jax.eval_shape(made.init, key, {"x": x})
  params = jax.tree.map(lambda leaf: jnp.full(leaf.shape, WEIGHT), shapes)

  def take(steps: int) -> None:
    for i in range(steps):
      jax.block_until_ready(draw(params, jax.random.fold_in(key, i)))

  return num, {**tasks, SAMPLING: take}


if __name__ == "__main__":
  keep_freed_memory()
  serve(build)
