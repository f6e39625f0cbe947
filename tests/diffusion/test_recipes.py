"""Models composed by name: paths, predictions and weightings train, some find a known density, others are refused."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gdm.dataspec import DataSpec
from gdm.diffusion.diffusion import Diffusion
from gdm.diffusion.networks.denoising_mlp import DenoisingMLP
from gdm.diffusion.networks.diffusion_transformer import DiffusionTransformer
from gdm.diffusion.networks.unet import UNet
from gdm.diffusion.paths.variance_preserving import Cosine, PiecewiseBeta
from gdm.diffusion.predictions import PREDICTIONS
from gdm.diffusion.recipes import PATHS, diffusion
from gdm.diffusion.vdm import LearnedSchedule
from gdm.diffusion.weightings import WEIGHTINGS, MinSNR
from gdm.errors import ConfigError, SpecError
from gdm.runs import defaults
from gdm.runs.registry import build_model, chosen, complete

KEY = jax.random.key(0)
PLANE, DIGITS = DataSpec((2,), None), DataSpec((4, 4, 1), 5)
MLP = {"name": "mlp", "hidden": (4,)}
MEAN, STD = np.array([1.0, -2.0]), np.array([0.5, 2.0])
# Programs that run for less time than it takes to optimize them.
QUICK = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
STEP = jnp.zeros((), int)
INFINITE = {"discrete_vlb"}  # at the first step of most paths


def data(num, seed=0):
  return {"x": (MEAN + STD * np.random.default_rng(seed).normal(size=(num, 2))).astype(np.float32)}


def trained(model, num_steps, batch_size=256, rate=3e-3):
  """Parameters after some steps of Adam, the carry, and the losses."""
  params, carry = jax.jit(model.init)(KEY, data(2000))
  optimizer = optax.adam(rate)

  @jax.jit
  def step(state, inputs):
    (params, moments), (x, key) = state, inputs

    def loss(model_params):
      return model.objectives[0].loss({**params, "model": model_params}, carry, {"x": x}, key, STEP).loss

    value, gradient = jax.value_and_grad(loss)(params["model"])
    updates, moments = optimizer.update(gradient, moments)
    return ({**params, "model": optax.apply_updates(params["model"], updates)}, moments), value

  batches = jnp.asarray(data(num_steps * batch_size, 1)["x"]).reshape(num_steps, batch_size, 2)
  (params, _), losses = jax.lax.scan(step, (params, optimizer.init(params["model"])),
                                     (batches, jax.random.split(KEY, num_steps)))
  return params, carry, losses


@pytest.mark.fast_cases("cosine-v")
@pytest.mark.parametrize(("path", "prediction"), [*itertools.product(PATHS, [*PREDICTIONS, "preconditioned"])])
def test_every_combination_takes_steps_with_a_finite_loss(path, prediction):
  """By each weighting: a small step against the gradient lowers the loss."""
  made = {weighting: diffusion(PLANE, path=path, prediction=prediction, weighting=weighting,
                               network=DenoisingMLP(hidden=(4,))) for weighting in sorted(set(WEIGHTINGS) - INFINITE)}
  batch = data(16)

  @functools.partial(jax.jit, compiler_options=QUICK)
  def run():
    params, carry = made["simple"].init(KEY, batch)
    found = {}
    for weighting, model in made.items():
      loss = functools.partial(lambda model, p: model.loss(p, carry, batch, KEY, STEP).loss, model)
      value, gradient = jax.value_and_grad(loss)(params)
      scale = 1e-3 * value / sum(jnp.sum(g**2) for g in jax.tree.leaves(gradient))
      found[weighting] = value, loss(jax.tree.map(lambda p, g, scale=scale: p - scale * g, params, gradient))
    return found

  for weighting, (before, after) in run().items():
    assert np.isfinite(before) and 0.0 < after < before, weighting


@pytest.mark.slow
@pytest.mark.parametrize("settings", [
    {}, {"weighting": "min_snr"}, {"path": "vp_linear", "prediction": "v", "weighting": "likelihood",
                                   "times": "vlb_importance"},
    {"path": "edm", "prediction": "preconditioned", "weighting": "edm", "times": "log_normal",
     "network_time": "log_snr", "sampler": "heun"},
    {"path": "rectified_flow", "prediction": "velocity", "weighting": "flow_matching"},
    {"times": "discrete", "num_noise_steps": 100, "learn_variance": True, "sampler": "ancestral"},
    {"path": "log_snr_linear", "prediction": "noise", "objective": "bound", "network_time": "log_snr"}],
    ids=lambda s: ",".join(map(str, s.values())) or "default")
def test_known_densities_are_found(settings):
  """A normal: by samples, and by the bound on average, which is the negative entropy at best."""
  model = diffusion(PLANE, network=DenoisingMLP(hidden=(64, 64)), **settings)
  params, carry, _ = trained(model, 1500)
  x = np.asarray(model.sample(params, carry, KEY, 4000).x)
  np.testing.assert_allclose((x.mean(axis=0) - MEAN) / STD, 0.0, atol=0.15)
  np.testing.assert_allclose(x.std(axis=0) / STD, 1.0, atol=0.15)
  bound = jax.jit(lambda: model.log_likelihood(params, carry, data(2000, 2), KEY, 8))().nats.mean()
  entropy = float(np.sum(0.5 * np.log(2.0 * np.pi * np.e * STD**2)))
  assert -entropy - 0.7 < bound < -entropy + 0.15


def test_names_and_objects_are_the_same_model():
  settings = {"name": "ddpm", "path": "cosine", "prediction": "v", "weighting": "min_snr", "num_noise_steps": 50,
              "network": MLP}
  model = build_model(settings, PLANE)
  assert isinstance(model, Diffusion) and isinstance(model.path, PiecewiseBeta) and model.weighting == MinSNR(5.0)
  objects = {"path": Cosine(), "prediction": PREDICTIONS["v"], "weighting": MinSNR(5.0)}
  assert build_model({**settings, **objects}, PLANE) == model
  np.testing.assert_allclose(model.path.alpha(jnp.asarray([0.2, 0.6])), Cosine().alpha(jnp.asarray([0.2, 0.6])),
                             atol=2e-3)


def test_the_network_follows_from_the_data_and_from_its_name():
  assert isinstance(diffusion(DIGITS).module, UNet) and isinstance(diffusion(PLANE).module, DenoisingMLP)
  assert diffusion(DataSpec((4, 4, 3), 5), learn_variance=True, times="discrete", num_noise_steps=9).module.outputs == 6
  config = {"name": "ddpm", "network": {"name": "unet", "width": 16, "num_blocks": 1}}
  with chosen({"model.network": "transformer"}):
    settings = complete(config)
  assert settings["network"] == {"name": "transformer", "width": 16, "patch": 2, "num_layers": 4, "num_heads": 4,
                                 "embedding": "sinusoidal", "dropout": 0.0}
  module = build_model({**settings, "class_conditional": True}, DataSpec((4, 4, 1), 5, num_classes=3)).module
  assert isinstance(module, DiffusionTransformer) and (module.width, module.outputs, module.context) == (16, 1, 3)


def test_a_recipes_shared_fields_have_the_defaults_of_the_class():
  model = defaults.get_config("diffusion").model
  assert (model.tolerance, model.likelihood, model.network, model.path) == (1e-4, "bound", None, "cosine")


@pytest.mark.parametrize(("name", "settings", "error", "message"), [
    ("ddpm", {"path": "ve"}, ConfigError, "path is VE, but discrete steps of noise preserve variance"),
    ("ddpm", {"path": "cosine", "beta_max": 10.0}, ConfigError, "beta_max 10.0, which are of the path 'vp_linear'"),
    ("ddpm", {"prediction": "velocty"}, ConfigError, "did you mean 'velocity'"),
    ("ddpm", {"weighting": "discrete_vlb"}, ConfigError, "num_steps is 0|infinite at the first step"),
    ("ddpm", {"network": {"name": "mpl"}}, ConfigError, "network.name is 'mpl'; did you mean 'mlp'"),
    ("ddpm", {"network": {**MLP, "width": 3}}, ConfigError, "network.width is unknown to mlp"),
    ("ddpm", {"network": {"name": "mlp", "hidden": (1,)}}, ConfigError, r"network.hidden is \(1,\)"),
    ("ddpm", {"width": 3}, ConfigError, "width is unknown to ddpm"),
    ("diffusion", {"path": "sub_vp", "times": "discrete", "num_noise_steps": 9}, ConfigError, "path is SubVP"),
    ("diffusion", {"times": "discrete"}, ConfigError, "num_noise_steps is 0, but times is 'discrete'"),
    ("diffusion", {"num_noise_steps": 9}, ConfigError, "times is 'uniform', which is continuous"),
    ("diffusion", {"learn_variance": True}, ConfigError, "choose discrete times"),
    ("diffusion", {"objective": "bound", "times": "log_normal"}, ConfigError, "objective is 'bound'"),
    ("diffusion", {"objective": "bond"}, ConfigError, "did you mean 'bound'"),
    ("diffusion", {"network_time": "log_snrr"}, ConfigError, "did you mean 'log_snr'"),
    ("diffusion", {"decoder": "uniform_prior"}, SpecError, "decoder is 'uniform_prior'"),
    ("diffusion", {"sampler": "dim"}, ConfigError, "did you mean 'ddim'"),
    ("diffusion", {"steps": 0}, ConfigError, "steps is 0"),
    ("diffusion", {"path": LearnedSchedule()}, ConfigError, "path has parameters, which only 'bound' trains")])
def test_parts_that_do_not_fit_are_refused(name, settings, error, message):
  with pytest.raises(error, match=message):
    build_model({"name": name, "network": MLP, **settings}, PLANE)


def test_a_decoder_by_the_network_needs_a_first_step():
  with pytest.raises(ConfigError, match="decodes a first step of noise"):
    diffusion(DIGITS, decoder="discretized_gaussian")
