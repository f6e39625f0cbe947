"""A small instance of every model in the registry, with batches: for what all of them must hold."""

import jax
import numpy as np
import pytest

from gdm.dataspec import DataSpec
from gdm.model import HasSolve
from gdm.runs.registry import build_model

PERCEPTRON = {"name": "mlp", "hidden": (6,)}  # an energy's network
BITS = DataSpec((4, 4), 2)
BATCH = 16
DENOISER = {"name": "mlp", "hidden": (6,)}

# Registry name -> fields and spec. A new model gets a line here.
SMALL = {
    "fvsbn": ({}, BITS),
    "mlp": ({"hidden": (8,)}, BITS),
    "nade": ({"hidden": 8}, BITS),
    "made": ({"network": {"hidden": (16, 16)}}, BITS),
    "rnade": ({"hidden": 6, "mixture": {"size": 2}}, DataSpec((5,), None)),
    "recurrent": ({"network": {"cell": "lstm", "num_layers": 2, "width": 8}}, DataSpec((12,), 5)),
    "recurrent_frames": ({"network": {"cell": "gru", "num_layers": 2, "width": 6, "dropout": 0.2},
                          "frame": {"name": "nade", "hidden": 5}}, DataSpec((3, 4), 2)),
    "transformer": ({"network": {"num_layers": 2, "num_heads": 2, "width": 8}}, DataSpec((12,), 5)),
    "wavenet": ({"network": {"num_layers": 2, "num_stacks": 2, "width": 8, "skip_width": 6}}, DataSpec((12,), 5)),
    "pixelcnn": ({"network": {"width": 6, "num_blocks": 2, "first_size": 3, "head_width": 6}}, DataSpec((3, 2, 3), 4)),
    "gated_pixelcnn": ({"network": {"width": 12, "num_layers": 2, "first_size": 3, "skip_width": 6}},
                       DataSpec((3, 3, 3), 3)),
    "pixelsnail": ({"network": {"width": 6, "num_blocks": 1, "num_layers": 1, "first_size": 3, "head_size": 2,
                                "head_width": 6}}, DataSpec((3, 2, 3), 4)),
    "pixelcnn_pp": ({"network": {"width": 4, "num_blocks": 1, "num_scales": 1, "first_size": 3},
                     "pixels": {"mixture_size": 2}}, DataSpec((2, 2, 3), 4)),
    "row_lstm": ({"network": {"width": 6, "num_layers": 2, "first_size": 3, "head_width": 6}}, DataSpec((3, 2, 3), 4)),
    "diagonal_bilstm": ({"network": {"width": 6, "num_layers": 2, "first_size": 3, "head_width": 6}},
                        DataSpec((3, 2, 3), 4)),
    "nice": ({"num_layers": 3, "hidden": (6,)}, DataSpec((4,), None)),
    "realnvp": ({"num_layers": 2, "hidden": (6,)}, DataSpec((4,), None)),  # with batch statistics
    "glow": ({"num_scales": 1, "num_steps": 1, "width": 4, "dequantization": "variational",
              "dequantization_width": 4}, DataSpec((2, 2, 1), 3)),
    "maf": ({"num_layers": 2, "hidden": (6,)}, DataSpec((3,), None)),
    "iaf": ({"num_layers": 2, "hidden": (6,)}, DataSpec((3,), None)),
    "spline_coupling": ({"num_steps": 2, "num_bins": 3, "hidden": (6,)}, DataSpec((3,), None)),
    "spline_autoregressive": ({"num_layers": 2, "num_bins": 3, "hidden": (6,)}, DataSpec((3,), None)),
    "flow_pp": ({"num_steps": (1, 1, 1), "num_components": 2, "width": 4, "num_blocks": 1, "num_heads": 2,
                 "dequantization_width": 4}, DataSpec((4, 4, 1), 3)),
    "integer_flow": ({"num_steps": 2, "num_components": 2, "hidden": (6,)}, DataSpec((4,), 3)),
    "ffjord": ({"hidden": (6,)}, DataSpec((3,), None)),
    "residual_flow": ({"num_blocks": 2, "hidden": (6,)}, DataSpec((3,), None)),
    "diffusion": ({"network": DENOISER, "weighting": "min_snr"}, DataSpec((3,), None)),
    "ncsn": ({"network": DENOISER, "num_levels": 5}, DataSpec((3,), None)),
    "ddpm": ({"network": {"name": "unet", "width": 4, "num_blocks": 1, "multipliers": (1,)}}, DataSpec((3, 3, 1), 3)),
    "improved_ddpm": ({"network": DENOISER, "num_noise_steps": 30}, DataSpec((3,), None)),
    "vdm": ({"network": DENOISER, "fourier": (1,), "log_snr_max": 3.0}, DataSpec((3,), None)),
    "score_sde": ({"network": DENOISER}, DataSpec((3,), None)),
    "edm": ({"network": DENOISER, "class_conditional": True, "label_dropout": 0.2},
            DataSpec((3,), None, num_classes=2)),
    "consistency": ({"network": DENOISER, "last_levels": 20}, DataSpec((3,), None)),
    "flow_matching": ({"network": {"name": "transformer", "width": 4, "num_layers": 1, "num_heads": 2, "patch": 1},
                       "coupling": "optimal"}, DataSpec((2, 2, 1), 3)),
    "autoencoder": ({"latent_dims": 2, "encoder": PERCEPTRON, "decoder": PERCEPTRON, "drop": 0.2}, BITS),
    "rbm": ({"num_hidden": 6}, BITS),
    "conditional_rbm": ({"num_hidden": 4}, DataSpec((6,), 2, context_dims=3)),
    "gaussian_rbm": ({"num_hidden": 4}, DataSpec((3,), None)),
    "ising": ({"objective": "cd"}, DataSpec((5,), 2)),
    "ebm": ({"network": PERCEPTRON, "num_steps": 2, "chains_per_shard": 3, "kl_weight": 0.1}, DataSpec((3,), None)),
    "jem": ({"network": PERCEPTRON, "num_steps": 1, "chains_per_shard": 3}, DataSpec((3,), None, num_classes=2)),
    "tilted": ({"base": {"name": "realnvp", "num_layers": 2, "hidden": (4,)}, "network": PERCEPTRON, "num_steps": 1,
                "chains_per_shard": 3}, DataSpec((3,), None)),
    "vqvae": ({"num_codes": 4, "code_dims": 3, "encoder": {"widths": (4, 4), "num_blocks": 1},
               "decoder": {"widths": (4, 4), "num_blocks": 1},
               "prior": {"name": "gated_pixelcnn", "network": {"width": 4, "num_layers": 1, "first_size": 3,
                                                               "skip_width": 4}}}, DataSpec((3, 3, 1), 3)),
}
SMALL |= {
    "masked": ({"network": {"name": "transformer", "width": 8, "num_layers": 1, "num_heads": 2}}, DataSpec((12,), 5)),
    "ardm": ({"network": {"name": "residual", "width": 6, "num_blocks": 1, "num_heads": 2}}, DataSpec((3, 2, 3), 4)),
    "d3pm": ({"network": {"name": "mlp", "hidden": (6, 6)}, "num_noise_steps": 5, "auxiliary": 0.1}, DataSpec((4,), 3)),
}
SMALL |= {
    "mlp_classifier": ({"network": {"hidden": (6,)}, "label_smoothing": 0.1}, DataSpec((4,), 3, num_classes=3)),
    "cnn_classifier": ({"network": {"widths": (3, 4), "hidden": 5}}, DataSpec((3, 3, 1), 3, num_classes=2)),
}
LATENT = {"latent_dims": 2, "encoder": {"name": "mlp", "hidden": (6,)}, "decoder": {"name": "mlp", "hidden": (6,)}}
SMALL |= {
    "vae": ({**LATENT, "prior": {"name": "vamp", "size": 3}}, BITS),
    "iwae": ({**LATENT, "num_samples": 3}, DataSpec((3,), None)),
    "hierarchical_vae": ({"network": {"layers": (1,), "widths": (4,), "latents": (1,), "top_latents": 2,
                                      "top_width": 5}}, DataSpec((4, 4, 1), 2)),
    "latent_frames": ({"frame": {"name": "vae", **LATENT},
                       "latents": {"name": "recurrent_frames", "network": {"cell": "gru", "width": 5},
                                   "frame": {"name": "rnade", "hidden": 4, "mixture": {"size": 2},
                                             "activation": "sigmoid"}}},  # without a kink at the fresh state of 0
                      DataSpec((3, 2, 2, 1), 3)),
}

TWO = {"generator": PERCEPTRON, "critic": PERCEPTRON}
SMALL |= {
    "gan": ({**TWO, "latent_dims": 2, "r1": 0.1, "pac": 2, "instance_noise": 0.1}, DataSpec((3,), None)),
    "dcgan": ({"latent_dims": 2, "generator": {"width": 3}, "critic": {"width": 3}}, DataSpec((4, 4, 1), 3)),
    "wgan": ({**TWO, "latent_dims": 2, "critic_steps": 2}, DataSpec((3,), None)),
    "wgan_gp": ({**TWO, "latent_dims": 2, "critic_steps": 2}, DataSpec((3,), None)),
    "conditional_gan": ({"latent_dims": 2, "generator": {"width": 3},
                         "critic": {"width": 3, "normalization": "spectral", "labels": "projection"}},
                        DataSpec((4, 4, 1), 3, num_classes=2)),
}

# The same of models that are solved, and of those made of others.
SOLVED = {
    "independent": ({}, DataSpec((5,), 3)),
    "table": ({}, DataSpec((4,), 3)),
    "markov": ({"order": 2, "homogeneous": True}, DataSpec((6,), 3)),
    "ngram": ({"order": 3, "capacity": 500}, DataSpec((6,), 3)),
    "bayesian_network": ({"offsets": ((-1,),)}, DataSpec((5,), 3)),
    "chow_liu": ({}, DataSpec((5,), 3)),
    "mixture": ({"num_components": 2, "num_iterations": 2}, DataSpec((5,), 3)),
    "block_mixture": ({"num_components": 2, "num_runs": 1, "num_iterations": 2, "learn_iterations": 1},
                      DataSpec((5,), 2)),
    "gaussian_mixture": ({"num_components": 2, "num_iterations": 2}, DataSpec((2,), None)),
    "ppca": ({}, DataSpec((4,), None)),
    "factor_analysis": ({"num_iterations": 3}, DataSpec((4,), None)),
    "naive_bayes": ({}, DataSpec((4,), None, num_classes=2)),
    "logistic_regression": ({}, DataSpec((4,), 3, num_classes=2)),
}
COMPOSED = {
    "ensemble": ({"components": tuple({"name": "recurrent", "network": {"num_layers": 1, "width": width}}
                                      for width in (3, 4))}, DataSpec((4,), 3)),
    "token_ensemble": ({"components": tuple({"name": "recurrent", "network": {"num_layers": 1, "width": width}}
                                            for width in (3, 4))}, DataSpec((4,), 3)),
    "product": ({"components": ({"name": "ebm", "network": PERCEPTRON},), "num_temperatures": 2, "num_chains": 2},
                DataSpec((2,), None)),
}

# Those that the fast tier takes: one for each way to be built, of products, loops, attention, convolutions, masks.
FAST = ("made", "recurrent", "transformer", "pixelcnn", "maf")


def each_small(*more):
  """Every name as a parameter, and `more`; the slow tier takes those that are not in FAST."""
  return [pytest.param(name, marks=() if name in FAST else pytest.mark.slow) for name in SMALL] + list(more)


def small_model(name):
  settings, spec = {**SMALL, **SOLVED, **COMPOSED}[name]
  return build_model({"name": name, **settings}, spec)


def some_parameters(model, batch, seed=0, scale=0.3):
  """Parameters and carry: solved on the batch, or fresh ones of which every entry is moved, but for recording steps,
  which must be positive."""
  key = jax.random.key(seed)
  if isinstance(model, HasSolve):
    return model.solve(key, [batch])
  params, carry = jax.jit(model.init)(key, batch)
  leaves, tree = jax.tree.flatten_with_path(params)
  keys = jax.random.split(key, len(leaves))

  def moved(path, leaf, key):
    if not np.issubdtype(leaf.dtype, np.floating):
      return leaf
    there = leaf + scale * jax.random.normal(key, leaf.shape, leaf.dtype)
    return np.abs(there) if path[-1] == jax.tree_util.DictKey("step") else there

  return jax.tree.unflatten(tree, [moved(path, leaf, key)
                                   for (path, leaf), key in zip(leaves, keys, strict=True)]), carry


def small_batch(model, lead=(), seed=0):
  """Random examples [*lead, batch, *event], and random labels where the model takes them."""
  rng, spec = np.random.default_rng(seed), model.spec
  shape = (*lead, BATCH, *spec.event)
  x = rng.integers(0, spec.levels, shape).astype(np.uint8) if spec.is_discrete else rng.normal(size=shape)
  batch = {"x": x if spec.is_discrete else x.astype(np.float32)}
  if spec.num_classes:
    batch["y"] = rng.integers(0, spec.num_classes, (*lead, BATCH)).astype(np.int32)
  if getattr(model, "context_conditional", False):
    batch["context"] = rng.normal(size=(*lead, BATCH, spec.context_dims)).astype(np.float32)
  return batch
