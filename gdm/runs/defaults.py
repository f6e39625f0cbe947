"""The sections every config has, with defaults that carry over; a model's config overrides what it needs."""

from collections.abc import Mapping
from typing import Any

import ml_collections

from gdm.errors import ConfigError, nearest
from gdm.runs import registry


def get_config(model: str = "", *settings: Mapping[str, Any]) -> ml_collections.ConfigDict:
  """Return all sections with their defaults.

  Args:
    model: name of a model; its section has all fields of the model, at the model's own defaults.
    settings: what differs, section -> field -> value; later ones win.

  Raise ConfigError for an unknown model.

  Example:
    config = get_config("made", {"model": {"network": {"hidden": (100,)}}, "training": {"num_steps": 500}})
  """
  config = _sections()
  for each in settings:
    config.update(each)
  if model:
    config.model = registry.complete({**config.model.to_dict(), "name": model})
  return config


def _sections() -> ml_collections.ConfigDict:
  return ml_collections.ConfigDict({
      "seed": 0,
      "data": {
          "name": "digits",  # digits | toy2d:<shape> | tfds:<set> | npz:<path> | text:<path> | ...: gdm/data/load.py
          "path": "",  # the file of npz and text
          "data_dir": "",  # where TFDS data lies; "" is TFDS's own place
          "transforms": (),  # names, in order; see gdm/data/transforms.py
          "batch_size": 100,
          "feed": "auto",  # auto | host | device | ahead: how batches come to the devices; see gdm/runs/feeding.py
          "init_examples": 2000,  # training examples, drawn at random, that data-dependent initialization sees
      },
      "model": {"name": ""},
      "optimizer": {
          "name": "adam",  # adam | adamw | sgd | rmsprop | ...; see gdm/training/optimizer.py
          "learning_rate": 1e-3,
          "schedule": "constant",  # constant | cosine | linear: from the peak to learning_rate * final_fraction
          "final_fraction": 0.0,
          "warmup_steps": 0,
          "weight_decay": 0.0,
          "b1": 0.9,  # decay of the running mean of gradients, of optimizers that keep one
          "b2": 0.999,  # decay of the running mean of their squares (lion's second one, for which 0.99 is usual)
          "clip_norm": 0.0,  # 0 means no clipping
          # What differs for some parameter groups: {"critic": {"learning_rate": 4e-4}}.
          "groups": {},
      },
      "mesh": {
          "fsdp": 1,  # devices that share the parameters; it must divide the number of devices
          "tensor": 1,  # devices that share the heads and hidden units of transformers, and each batch
      },
      "training": {
          "num_steps": 1000,
          "init_from": "",  # a run, or an exported one, whose weights training begins with as far as they fit
          "steps_per_call": 1,  # steps per dispatch; raise it for tiny models
          "unroll_call": False,  # write the steps of a call out instead of looping: needed for convolutions on a CPU
          "accumulate": 1,  # micro-batches per minibatch
          "unroll": True,  # write repeats and micro-batches out instead of looping: faster, but compiles longer
          "precision": "float32",  # float32, as the machine has it | bfloat16 | highest: of products in a step
          "remat": "none",  # none | products | stages: what is kept for the backward pass; less takes less memory
          "ema_decay": 0.0,  # 0 means no averaging
          "track": "",  # wandb | mlflow: a record of the run besides; see gdm/runs/trackers.py
          "log_every": 100,
          "eval_every": 500,
          "checkpoint_every": 500,
          "keep": 2,  # checkpoints kept beside the best
          "stall_seconds": 600.0,  # end the run, to be resumed, when a batch takes longer to come; 0 means never
          "patience": 0,  # stop after so many validations without a better one; 0 means never
      },
      # Settings in place of the others for training splits of fewer, or of at least, so many rows, as
      # {"rows": 8000, "model": {"dropout": 0.1}}; what the command line sets holds for every size.
      "small": {},
      "large": {},
      # Values to try of the fields of other sections, by `train --search`: {"model": {"dropout": (0.0, 0.5)}}.
      "search": {},
      "searched": {},  # what such a search came to, for reports
      "evaluation": {
          "batch_size": 500,
          "num_draws": 1,  # repeats of what is random, averaged in nats
          "num_samples": 1,  # importance samples within one bound
          "parameters": "auto",  # auto (ema where there is one) | ema | live
          # Of reals whose values repeat: points per cell of the record, for its probability; 0 for none.
          "cell_points": 40,
          # Of models with several likelihoods the name of one, and settings: "ode,tolerance=1e-5"; "" is their own.
          "likelihood": "",
      },
      "sampling": {
          "num": 64,
          "temperature": 1.0,
          "seed": 0,
          # Of models that go from noise to data; a model is given only what differs from what stands here.
          "sampler": "",  # "" is the model's own choice
          "num_steps": 0,  # 0 is the model's own choice
          "guidance": 1.0,  # how much more than given the labels; 1 is no guidance
          "guidance_interval": (),  # noise levels sigma / alpha between which it is; () is everywhere
          "guidance_rescale": 0.0,  # share by which guided predictions keep their deviation
          "grid": "",  # times that a sampler visits: uniform, log_snr or karras; "" is the sampler's own choice
          "eta": 0.0,  # noise that DDIM adds: 0 none, 1 as much as ancestral sampling
          "start": "",  # of energies, where chains start: base, smc or chains; "" is the model's own choice
          "num_temperatures": 0,  # of energies, steps of annealing; 0 is the model's own choice
      },
  })


def choose(variant: str, variants: dict[str, dict]) -> dict:
  """Return the settings of a variant, or a ConfigError naming the nearest known one."""
  if variant not in variants:
    raise ConfigError(f"--config has no variant {variant!r}; {nearest(variant, variants)}")
  return variants[variant]
