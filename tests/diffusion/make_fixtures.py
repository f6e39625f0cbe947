"""Makes fixtures/diffusers.npz: steps of diffusers' schedulers on a known function, for test_diffusers.py.

Run where `diffusers==0.42.1` and `torch==2.13.0` are installed, which the project does not need otherwise:

  python tests/diffusion/make_fixtures.py

The noise prediction is tanh(x) (0.5 + i / 2000) at their timestep i, in float64; Heun's, whose timesteps are not whole,
is that of i = 400. Fixtures hold x at the start, the
timesteps, every x after, and the noise that a step drew.
"""

import pathlib

import numpy as np
import torch
from diffusers import (
  DDIMScheduler,
  DDPMScheduler,
  DPMSolverMultistepScheduler,
  EDMEulerScheduler,
  HeunDiscreteScheduler,
)

START = torch.tensor(np.random.default_rng(0).normal(size=(3, 2)))


def noise(x, i):
  return torch.tanh(x) * (0.5 + i / 2000.0)


def ddpm(variance):
  """20 of 1,000 steps; the draws are those of the generator, recovered from the step without them."""
  scheduler = DDPMScheduler(clip_sample=False, variance_type=variance, timestep_spacing="leading")
  scheduler.set_timesteps(20)
  xs, drawn, x = [], [], START
  for i, t in enumerate(scheduler.timesteps):
    shape = x.shape
    drawn.append(torch.randn(shape, generator=torch.Generator().manual_seed(i), dtype=x.dtype))
    x = scheduler.step(noise(x, t), t, x, generator=torch.Generator().manual_seed(i)).prev_sample
    xs.append(x)
  return {"t": scheduler.timesteps, "x": torch.stack(xs), "noise": torch.stack(drawn)}


def ddim(eta):
  scheduler = DDIMScheduler(clip_sample=False, set_alpha_to_one=True)
  scheduler.set_timesteps(20)
  xs, drawn, x = [], [], START
  for i, t in enumerate(scheduler.timesteps):
    drawn.append(torch.randn(x.shape, generator=torch.Generator().manual_seed(i), dtype=x.dtype))
    x = scheduler.step(noise(x, t), t, x, eta=eta, variance_noise=drawn[-1] if eta else None).prev_sample
    xs.append(x)
  return {"t": scheduler.timesteps, "x": torch.stack(xs), "noise": torch.stack(drawn)}


def dpm_solver():
  scheduler = DPMSolverMultistepScheduler(algorithm_type="dpmsolver++", solver_order=2, solver_type="midpoint",
                                          final_sigmas_type="zero", lower_order_final=False, euler_at_final=True)
  scheduler.set_timesteps(20)
  xs, x = [], START
  for t in scheduler.timesteps:
    x = scheduler.step(noise(x, t), t, x).prev_sample
    xs.append(x)
  return {"t": scheduler.timesteps, "x": torch.stack(xs)}


def heun():
  """In x / alpha and sigma / alpha; xs are after each whole step."""
  scheduler = HeunDiscreteScheduler(beta_start=0.0001, beta_end=0.02, beta_schedule="linear")
  scheduler.set_timesteps(20)
  x = START * scheduler.init_noise_sigma
  start, xs = x, []
  for i, t in enumerate(scheduler.timesteps):
    whole = scheduler.state_in_first_order
    scaled = scheduler.scale_model_input(x, t)
    x = scheduler.step(noise(scaled, 400), t, x).prev_sample
    if not whole or i == len(scheduler.timesteps) - 1:
      xs.append(x)
  sigma = torch.cat([scheduler.sigmas[:1], scheduler.sigmas[1:-1:2], scheduler.sigmas[-1:]])
  return {"sigma": sigma, "x": torch.stack(xs), "start": start}


def edm_euler():
  """The network is tanh of its preconditioned input, whatever the noise."""
  scheduler = EDMEulerScheduler()
  scheduler.set_timesteps(20)
  x = START * scheduler.init_noise_sigma
  start, xs = x, []
  for t in scheduler.timesteps:
    scaled = scheduler.scale_model_input(x, t)
    x = scheduler.step(torch.tanh(scaled), t, x).prev_sample
    xs.append(x)
  return {"sigma": scheduler.sigmas, "x": torch.stack(xs), "start": start}


FIXTURES = {"ddpm_small": lambda: ddpm("fixed_small"), "ddpm_large": lambda: ddpm("fixed_large"),
            "ddim": lambda: ddim(0.0), "ddim_eta": lambda: ddim(0.7), "dpm_solver": dpm_solver, "heun": heun,
            "edm_euler": edm_euler}

if __name__ == "__main__":
  arrays = {"start": START.numpy()}
  for name, make in FIXTURES.items():
    arrays.update({f"{name}/{key}": np.asarray(value, np.float64) for key, value in make().items()})
  np.savez_compressed(pathlib.Path(__file__).parent / "fixtures" / "diffusers.npz", **arrays)
