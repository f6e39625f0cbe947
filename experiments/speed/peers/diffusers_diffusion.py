"""diffusers' side, as its users write it: `UNet2DModel` in channels_last, fused AdamW, and the DDIM pipeline.

Run by the python of an environment of its own (`pip install diffusers==0.42.1 torch==2.13.0`); nothing here imports it.
"""

import torch  # pyright: ignore[reportMissingImports]
from diffusers import (  # pyright: ignore[reportMissingImports]
  DDIMPipeline,
  DDIMScheduler,
  DDPMScheduler,
  UNet2DModel,
)
from torch.nn import functional as F  # pyright: ignore[reportMissingImports]

from experiments.speed.peers.diffusion_case import MULTIPLIERS, NUM_STEPS
from experiments.speed.peers.protocol import SAMPLING, TRAINING, Case, serve

TRAIN_STEPS = 1000
NUM_GROUPS = 8


def network(case: Case):
  widths = tuple(case.width * multiplier for multiplier in MULTIPLIERS)
  return UNet2DModel(
      sample_size=case.context, in_channels=case.levels, out_channels=case.levels, block_out_channels=widths,
      layers_per_block=case.num_layers, down_block_types=("DownBlock2D", "AttnDownBlock2D"),
      up_block_types=("AttnUpBlock2D", "UpBlock2D"), attention_head_dim=widths[-1],
      norm_num_groups=min(NUM_GROUPS, case.width), resnet_time_scale_shift="scale_shift")


def build(case: Case):
  torch.set_num_threads(case.threads)
  torch.manual_seed(0)
  unet = network(case).to(memory_format=torch.channels_last)
  optimizer = torch.optim.AdamW(unet.parameters(), lr=1e-3, fused=True)
  scheduler = DDPMScheduler(num_train_timesteps=TRAIN_STEPS)
  pipeline = DDIMPipeline(unet, DDIMScheduler(num_train_timesteps=TRAIN_STEPS))
  pipeline.set_progress_bar_config(disable=True)
  x = torch.randn(case.batch, case.levels, case.context, case.context).to(memory_format=torch.channels_last)

  def train(steps: int) -> None:
    unet.train()
    for _ in range(steps):
      noise, t = torch.randn_like(x), torch.randint(0, TRAIN_STEPS, (case.batch,))
      optimizer.zero_grad(set_to_none=True)
      F.mse_loss(unet(scheduler.add_noise(x, noise, t), t).sample, noise).backward()
      optimizer.step()

  def sample(steps: int) -> None:
    unet.eval()
    for _ in range(steps):
      pipeline(batch_size=case.batch, num_inference_steps=NUM_STEPS, output_type="np")

  return sum(p.numel() for p in unet.parameters()), {TRAINING: train, SAMPLING: sample}


if __name__ == "__main__":
  serve(build)
