"""What holds for every diffusion model: bounds below one in all, both likelihoods of one scale, there and back."""

import dataclasses
import functools
import itertools
import math
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.enumeration import states_of

from gdm.dataspec import DataSpec
from gdm.diffusion.bound import prior_loss
from gdm.diffusion.ddpm import ddpm
from gdm.diffusion.diffusion import Diffusion
from gdm.diffusion.improved_ddpm import improved_ddpm
from gdm.diffusion.matching import optimal
from gdm.diffusion.paths.path import noised
from gdm.diffusion.samplers.named import SAMPLERS
from gdm.diffusion.variance import LearnedVariance
from gdm.errors import ConfigError, NotFiniteError, SpecError
from gdm.evaluation.likelihood import evaluate_likelihood
from gdm.likelihood import Kind
from gdm.model import HasLatent, HasLikelihoods, HasLogLikelihood, HasSample, Model
from gdm.runs.registry import build_model
from gdm.runs.scoring import scored_by

KEY = jax.random.key(0)
PLANE = DataSpec((2,), None, num_classes=3)
PAIR = DataSpec((2,), 3, num_classes=3)  # two numbers of three levels
SMALL = {
    "ncsn": {"num_levels": 8, "steps_per_level": 2, "sigma_max": 5.0},
    "ddpm": {"num_noise_steps": 30},
    "improved_ddpm": {"num_noise_steps": 20},
    "vdm": {"log_snr_max": 6.0, "parametrization": "levels"},
    "score_sde": {"path": "sub_vp", "weighting": "likelihood"},
    "edm": {"sigma_max": 10.0},
    "flow_matching": {"coupling": "optimal"},
}
REAL = {**SMALL, "vdm": {"log_snr_max": 6.0, "schedule": "network"}}
each_model = pytest.mark.parametrize("name", SMALL)
some_models = pytest.mark.parametrize("name", [
    pytest.param(name, marks=() if name == "vdm" else pytest.mark.slow) for name in SMALL])


def some(spec, num, seed=0):
  rng = np.random.default_rng(seed)
  shape = (num, *spec.event)
  x = rng.integers(0, spec.levels, shape) if spec.is_discrete else rng.normal(size=shape).astype(np.float32)
  return {"x": x, "y": rng.integers(0, 3, num)}


@functools.lru_cache
def build(name, spec, network="mlp", **fields):
  """A small model with parameters away from their start, where networks give zero."""
  network = {"name": network, **({"hidden": (6,)} if network == "mlp" else {})}
  settings = (SMALL if spec.is_discrete else REAL)[name]
  model = build_model({"name": name, "network": network, **settings, **fields}, spec)
  params, carry = jax.jit(model.init)(KEY, some(spec, 50))
  leaves, treedef = jax.tree.flatten(params["model"])
  keys = jax.random.split(jax.random.key(1), len(leaves))
  moved = [leaf + 0.3 * jax.random.normal(key, leaf.shape) for leaf, key in zip(leaves, keys, strict=True)]
  return model, {**params, "model": jax.tree.unflatten(treedef, moved)}, carry


@pytest.mark.fast_cases("score_sde", "edm", "flow_matching")
@each_model
def test_is_a_model_of_known_capabilities(name):
  for protocol in (Model, HasLogLikelihood, HasLikelihoods, HasSample, HasLatent):
    assert isinstance(build(name, PLANE)[0], protocol)


@pytest.mark.fast_cases("score_sde")
@each_model
def test_every_parameter_is_moved_by_some_objective(name):
  model, params, carry = build(name, PLANE)
  batch = some(PLANE, 64)

  @jax.jit
  def gradients(params):
    return [jax.grad(lambda moved, loss=o.loss: loss({**params, **moved}, carry, batch, KEY, jnp.zeros((), int)).loss)(
        {group: params[group] for group in o.groups}) for o in model.objectives]

  found = gradients(params)
  assert {group for gradient in found for group in gradient} == set(params)
  for path, leaf in jax.tree_util.tree_leaves_with_path(found):
    assert np.isfinite(leaf).all() and np.abs(leaf).max() > 0.0, path


@some_models
def test_bounds_sum_to_less_than_one(name):
  """Over all examples: a mean over draws of a lower bound is a bound, and details are its parts."""
  model, params, carry = build(name, PAIR)
  states = states_of(PAIR)
  score = jax.jit(lambda key: model.log_likelihood(params, carry, {"x": states}, key, 50))
  draws = [score(key) for key in jax.random.split(KEY, 20)]
  assert draws[0].kind is Kind.LOWER_BOUND
  np.testing.assert_allclose(draws[0].nats, -sum(draws[0].details.values()), rtol=1e-5)
  nats = np.array([draw.nats for draw in draws], np.float64)
  mean, error = nats.mean(axis=0), nats.std(axis=0, ddof=1) / math.sqrt(len(nats))
  total = np.exp(mean).sum()
  # The others predict the noise, at random here, and tell no levels apart.
  assert total > 0.01 or name != "vdm"
  assert total < 1.0 + 4.0 * np.sqrt(np.sum((np.exp(mean) * error) ** 2))


@pytest.mark.slow
@some_models
def test_the_flows_density_sums_to_less_than_one(name):
  """The mean over the path's own noise bounds each probability."""
  model, params, carry = build(name, PAIR)
  model, states = model.scored_by("ode", num_probes=0, tolerance=1e-3), states_of(PAIR)
  out = jax.jit(lambda: model.log_likelihood(params, carry, {"x": states}, KEY, 20))()
  assert out.kind is Kind.ESTIMATE and np.all(out.details["solved"] == 1.0)
  total = np.exp(np.asarray(out.nats, np.float64)).sum()
  assert total > 0.05 or name != "vdm"
  assert total < 1.05


@pytest.mark.slow
@pytest.mark.parametrize("way", ["bound", "ode,tolerance=1e-6"])
def test_a_change_of_units_moves_the_density_by_its_logarithm(way):
  """Standardization is inside the model, with its Jacobian."""
  model, params, carry = build("vdm", PLANE)
  model, batch = scored_by(model, way), some(PLANE, 50)
  other = {"x": 10.0 * batch["x"] + 3.0}
  score = jax.jit(lambda carry, batch: model.log_likelihood(params, carry, batch, KEY).nats)
  _, moved = jax.jit(model.init)(KEY, other)
  expected = score(carry, {"x": batch["x"]}) - 2.0 * math.log(10.0)
  np.testing.assert_allclose(score(moved, other), expected, rtol=1e-3, atol=2e-3)


@pytest.mark.fast_cases("vdm-0")
@pytest.mark.parametrize(("name", "sampler"), [
    *((name, "") for name in ("improved_ddpm", "vdm")),
    *(pytest.param(name, sampler, marks=pytest.mark.slow)
      for name, sampler in [*((name, "") for name in SMALL), *itertools.product(SMALL, SAMPLERS)])])
def test_samples_are_as_the_data_is_served(name, sampler):
  model, params, carry = build(name, PAIR)
  frames = 2 if sampler != "adaptive" else 0
  steps = {} if sampler == "adaptive" else {"num_steps": 4}
  out = model.sample(params, carry, KEY, 6, sampler=sampler, **steps, num_frames=frames)
  assert out.x.shape == (6, 2) and out.x.dtype == jnp.int32 and out.x.min() >= 0 and out.x.max() < 3
  assert isinstance(out.info["nfe"], int) and out.info["nfe"] >= 4
  if frames:
    assert out.info["trajectory"].shape == (2, 6, 2)


@pytest.mark.parametrize("option", [{"num_steps": 7}, {"num_steps": 1}, {"grid": "karras"}])
def test_the_adaptive_sampler_takes_no_number_of_steps_and_no_grid(option):
  model, params, carry = build("vdm", PLANE)
  with pytest.raises(ConfigError, match=f"{next(iter(option))} is .*chooses its times by a tolerance"):
    model.sample(params, carry, KEY, 3, sampler="adaptive", **option)
  assert model.sample(params, carry, KEY, 3, sampler="adaptive", num_frames=2).info["trajectory"].shape == (2, 3, 2)


@pytest.mark.slow
def test_any_number_of_steps_and_their_price():
  model, params, carry = build("ddpm", PLANE)
  for steps in (1, 2, 7):
    assert model.sample(params, carry, KEY, 3, sampler="ddim", num_steps=steps).info["nfe"] == steps
  assert model.sample(params, carry, KEY, 3).info["nfe"] == 30


@pytest.mark.slow
def test_guidance_goes_from_no_label_to_the_label_and_beyond():
  model, params, carry = build("edm", PLANE, class_conditional=True, label_dropout=0.2)
  draw = functools.partial(model.sample, params, carry, KEY, 5, num_steps=3)
  free, given, more = (draw(condition=jnp.asarray(1), guidance=g).x for g in (0.0, 1.0, 2.0))
  np.testing.assert_allclose(free, draw().x, rtol=1e-4, atol=1e-4)
  assert np.abs(given - free).max() > 1e-3 and np.abs(more - given).max() > 1e-3
  assert draw(condition=jnp.asarray(1), guidance=2.0).info["nfe"] == 2 * draw(condition=jnp.asarray(1)).info["nfe"]
  out = model.log_likelihood(params, carry, some(PLANE, 4), KEY)
  assert out.given == ("y",)


@pytest.mark.parametrize("name", ["vdm", *(pytest.param(name, marks=pytest.mark.slow)
                                           for name in ("score_sde", "edm", "flow_matching"))])
def test_encoding_and_decoding_undo_each_other(name):
  model, params, carry = build(name, PAIR)
  states = {"x": states_of(PAIR)}
  back = jax.jit(lambda: model.decode(params, carry, model.encode(params, carry, states, KEY), KEY))
  np.testing.assert_array_equal(back(), states["x"])


@pytest.mark.slow
def test_the_score_is_that_of_the_noise_in_the_datas_units():
  model, params, carry = build("ddpm", PLANE)
  batch = some(PLANE, 50)
  score = model.score(params, carry, jnp.asarray(batch["x"]), 0.4)
  _, wide = jax.jit(model.init)(KEY, {"x": 5.0 * batch["x"]})
  np.testing.assert_allclose(model.score(params, wide, 5.0 * jnp.asarray(batch["x"]), 0.4), score / 5.0, rtol=1e-3,
                             atol=1e-4)


@pytest.mark.slow
def test_sliced_score_matching_is_the_trace_and_the_square():
  """Over all signs the mean of v' J v is J's trace: sigma^2 (tr J + |s|^2 / 2) / D."""
  model, params, _ = build("ncsn", PLANE, matching="sliced")
  data = jnp.asarray(some(PLANE, 3)["x"])
  path, t = model.noise_path(params), jnp.asarray([0.3, 0.5, 0.9])
  sample = noised(path, data, jax.random.normal(KEY, data.shape), t)
  losses = jax.jit(jax.vmap(lambda key: model.errors(params, path, sample, None, key)))(jax.random.split(KEY, 4000))

  def score(x, t):
    return (-model.predict(params, path, x[None], t[None]) / path.sigma(t))[0]

  jacobian, value = jax.vmap(jax.jacfwd(score))(sample.x, t), jax.vmap(score)(sample.x, t)
  exact = path.sigma(t) ** 2 * (jnp.trace(jacobian, axis1=1, axis2=2) + 0.5 * jnp.sum(value**2, axis=1)) / 2
  error = np.std(losses, axis=0) / math.sqrt(len(losses))
  assert np.all(np.abs(losses.mean(axis=0) - exact) < 4.0 * error + 1e-5)


def test_the_divergence_of_a_step_is_none_for_the_truth():
  """Of Improved DDPM: zero for the true data and the posterior's variance, else above."""
  model, params, _ = build("improved_ddpm", PLANE)
  path, data = model.sampling_path(params), jnp.asarray(some(PLANE, 4)["x"])
  t = jnp.asarray([0.1, 0.3, 0.5, 0.7])
  divergence = jax.jit(functools.partial(model.variance.divergence, path, t - 0.05, t, data))
  np.testing.assert_allclose(divergence(data, jnp.zeros_like(data)), 0.0, atol=1e-4)
  assert np.all(divergence(data, jnp.full_like(data, 0.7)) > 1e-3)
  assert np.all(divergence(data + 0.5, jnp.zeros_like(data)) > 1e-3)


class Perfect(nn.Module):
  """A network that predicts the data, one of 256 levels for each row, times `factor`; and `v` at 1 / T."""

  noise_path: Any
  v: float = 0.0
  factor: float = 1.0
  outputs: int = 1
  context: int = 0

  def __call__(self, x, time, context=None):
    level = self.noise_path.level(time).like(x)
    noise = (x - level.alpha * self.factor * jnp.linspace(-1.0, 1.0, 256)[:, None]) / level.sigma
    v = jnp.where(time[:, None] < 1.5 / len(self.noise_path.betas), self.v, 0.0)
    return noise if self.outputs == 1 else jnp.concatenate([noise, 2.0 * v - 1.0], axis=-1)


LEVELS = np.arange(256)[:, None]
NO_PARAMS = {"model": {}}


def perfect(recipe, num_steps, v=0.0, factor=1.0, **fields):
  model = recipe(DataSpec((1,), 256), num_noise_steps=num_steps, **fields)
  return dataclasses.replace(model, network=Perfect(model.path, v, factor))


@pytest.mark.slow
def test_the_bound_is_of_the_clipped_predictions_that_samples_are_made_of():
  """At the lowest and the highest level, which twice the data lies beyond."""
  model = perfect(improved_ddpm, 50, factor=2.0)
  path, data = model.sampling_path(NO_PARAMS), model.scaling({}).values(jnp.asarray(LEVELS))
  s, t = (jnp.full(256, i / 50) for i in (48, 49))
  step = jax.jit(lambda: model.step_loss(NO_PARAMS, path, s, t, data, jax.random.normal(KEY, data.shape), None))()
  np.testing.assert_allclose(step[jnp.asarray([0, -1])], 0.0, atol=1e-5)
  assert step[20] > step[1] > 0.0


@pytest.mark.fast_cases("improved_ddpm-4000-0.0-auto-0.12")
@pytest.mark.parametrize(("recipe", "num_steps", "v", "decoder", "floor"), [
    (ddpm, 1000, 1.0, "auto", 1.70), (ddpm, 1000, 1.0, "uniform_prior", 2.38),
    (improved_ddpm, 4000, 1.0, "auto", 0.34), (improved_ddpm, 4000, 0.0, "auto", 0.12)])
def test_the_floors_of_the_decoders_are_the_papers(recipe, num_steps, v, decoder, floor):
  """bits/dim of 256 levels by a perfect network: no divergence in any step, hardly any prior, and the decoder's."""
  model = perfect(recipe, num_steps, v, decoder=decoder)
  path, batch = model.sampling_path(NO_PARAMS), {"x": LEVELS}
  data = model.scaling({}).values(jnp.asarray(batch["x"]))

  @jax.jit
  def part(key):
    t = jnp.full(len(data), path.ends[0])
    x = noised(path, data, jax.random.normal(key, data.shape), t).x
    return prior_loss(path, data) + model.reconstruction(NO_PARAMS, path, x, data, batch, None)

  parts = jnp.stack([part(key) for key in jax.random.split(KEY, 50 if decoder == "uniform_prior" else 1)])
  assert float(parts.mean()) / math.log(2.0) == pytest.approx(floor, abs=0.02 if decoder == "uniform_prior" else 0.005)
  # A step has no divergence; by the control variate its estimate has at least that mean.
  s, t = (jnp.full(len(data), i / num_steps) for i in (num_steps // 2, num_steps // 2 + 1))
  noise = jax.random.normal(KEY, data.shape)
  step = jax.jit(lambda: model.step_loss(NO_PARAMS, path, s, t, data, noise, None))()
  assert abs(float(step.mean())) <= 4.0 * float(step.std()) / math.sqrt(len(data)) + 1e-6


@pytest.mark.fast_cases("ddpm-uniform_prior")
@pytest.mark.parametrize(("name", "decoder"), [("ddpm", "auto"), ("ddpm", "uniform_prior"), ("improved_ddpm", "auto")])
def test_a_decoder_is_a_distribution_and_named_in_the_report(name, decoder):
  """Over all examples, given any x at the first time."""
  model, params, _ = build(name, PAIR, decoder=decoder)
  path, states = model.sampling_path(params), states_of(PAIR)
  x = jnp.asarray([0.7, -2.0]) + jnp.zeros((len(states), 2))
  data = model.scaling({}).values(jnp.asarray(states))
  loss = jax.jit(lambda: model.reconstruction(params, path, x, data, {"x": states}, None))()
  np.testing.assert_allclose(np.exp(-loss).sum(), 1.0, rtol=1e-5)
  used = {"auto": "discretized_gaussian"}.get(decoder, decoder)
  assert model.decoder.name == f"reconstruction_{used}"
  assert build(name, PLANE)[0].decoder.name == "reconstruction"


@pytest.mark.parametrize("spec", [PAIR, pytest.param(PLANE, marks=pytest.mark.slow)])
def test_the_hybrid_loss_adds_the_bounds_terms_in_bits(spec, monkeypatch):
  """At each time T times the bound's term, L_0 of integers at the first, over D log 2; it moves the variances alone."""
  model, params, carry = build("improved_ddpm", spec)
  monkeypatch.setattr(Diffusion, "clipped", Diffusion.denoiser)  # as in training
  path, batch, num_steps = model.sampling_path(params), some(spec, 6), model.times.num_steps
  data = model.scaling(carry).values(jnp.asarray(batch["x"]))
  noise = jax.random.normal(KEY, data.shape)
  t = jnp.asarray([1, 1, 2, 3, 10, 20]) / num_steps
  sample = noised(model.noise_path(params), data, noise, t)

  def added(params):
    without, full = (
        dataclasses.replace(model, variance=LearnedVariance(num_steps, weight)).errors(
            params, model.noise_path(params), sample, None, KEY) for weight in (0.0, 1.0))
    return full - without

  @jax.jit
  def all_of(params):
    first = model.reconstruction(params, path, sample.x, data, batch, None) if spec.is_discrete else jnp.zeros(len(t))
    inner = model.step_loss(params, path, jnp.maximum(t - 1 / num_steps, 1 / num_steps), t, data, noise, None)
    return jnp.where(t < 1.5 / num_steps, first, inner), added(params), jax.grad(lambda p: added(p).sum())(params)

  term, found, gradient = all_of(params)
  np.testing.assert_allclose(found, term * num_steps / (spec.num_dims * math.log(2.0)), rtol=1e-3, atol=1e-3)
  bias = next(leaf for leaf in jax.tree.leaves(gradient) if leaf.shape == (4,))  # of outputs: two noises, two v
  np.testing.assert_allclose(bias[:2], 0.0, atol=1e-3)
  assert np.all(np.abs(bias[2:]) > 0.1)


def test_optimal_couplings_are_shortest():
  rng = np.random.default_rng(0)
  data, noise = (jnp.asarray(rng.normal(size=(5, 2)), jnp.float32) for _ in range(2))
  orders = np.array(list(itertools.permutations(range(5))))
  best = np.min(np.sum((data - np.asarray(noise)[orders]) ** 2, axis=(1, 2)))
  np.testing.assert_allclose(np.sum((data - jax.jit(optimal)(data, noise)) ** 2), best, rtol=1e-5)


def test_a_learned_schedule_falls_and_keeps_its_ends():
  model, params, _ = build("vdm", PLANE)
  path, t = model.noise_path(params), jnp.linspace(0.0, 1.0, 50)
  log_snr = np.asarray(path.log_snr(t))
  assert (np.diff(log_snr) < 0.0).all()
  np.testing.assert_allclose(log_snr[[0, -1]], [6.0, -5.0], rtol=1e-5)
  np.testing.assert_allclose(model.inputs(path, jnp.zeros((50, 2)), t)[1][jnp.asarray([0, -1])], [0.0, 1.0], atol=1e-5)


@pytest.mark.slow
def test_an_ode_out_of_tolerance_is_an_error_with_its_price():
  model, params, carry = build("flow_matching", PLANE)
  model = scored_by(model, "ode,tolerance=1e-12,num_probes=0")
  with pytest.raises(NotFiniteError, match=r"example 0 is nan.*nfe \d+, .*solved 0, tolerance 1e-12"):
    evaluate_likelihood(model, params, carry, [{"x": some(PLANE, 3)["x"]}], key=KEY)


@pytest.mark.parametrize(("call", "error", "message"), [
    (lambda: build("ddpm", PLANE, network="unett"), ConfigError, "did you mean 'unet'"),
    (lambda: build("ddpm", PLANE, network="unet"), SpecError, "use 'mlp'"),
    (lambda: build("ddpm", PLANE, likelihood="odd"), ConfigError, "did you mean 'ode'"),
    (lambda: build("ddpm", PLANE, num_noise_steps=0), ConfigError, "num_noise_steps is 0"),
    (lambda: build("ddpm", PLANE, beta_max=-1.0), ConfigError, "beta_max is -1.0"),
    (lambda: build("ddpm", PAIR, decoder="discretised_gaussian"), ConfigError, "did you mean 'discretized_gaussian'"),
    (lambda: build("ddpm", PLANE, decoder="uniform_prior"), SpecError, "decoder is 'uniform_prior', which is"),
    (lambda: build("edm", PLANE, sigma_min=100.0), ConfigError, "SNR would not fall"),
    (lambda: build("vdm", PLANE, log_snr_max=-9.0), ConfigError, "would not fall"),
    (lambda: build("vdm", PLANE, parametrization="levels"), SpecError, "needs discrete data"),
    (lambda: build("score_sde", PLANE, path="vp_liner"), ConfigError, "did you mean 'vp_linear'"),
    (lambda: build("ncsn", PLANE, matching="slice"), ConfigError, "did you mean 'sliced'"),
    (lambda: build("flow_matching", PLANE, class_conditional=True), ConfigError, "independent"),
    (lambda: build("ddpm", PLANE, label_dropout=0.1), ConfigError, "label_dropout is 0.1"),
    (lambda: build("ddpm", DataSpec((2,), None), class_conditional=True), SpecError, "no labels"),
    (lambda: draw_of("ddpm", sampler="dim"), ConfigError, "did you mean 'ddim'"),
    (lambda: draw_of("ddpm", num_steps=-1), ConfigError, "num_steps is -1"),
    (lambda: draw_of("ddpm", guidance=2.0), ConfigError, "needs labels"),
    (lambda: draw_of("ddpm", num_steps=1, num_frames=1), ConfigError, "num_frames is 1, .* of which 1 steps have 0"),
    (lambda: draw_of("ddpm", num_steps=3, num_frames=3), ConfigError, "num_frames is 3, .* of which 3 steps have 2"),
    (lambda: build_model({"name": "ddpm"}, DataSpec((1,), None)).sample(
        {}, {}, KEY, 2, guidance=2.0, guidance_rescale=0.5), ConfigError, "guidance_rescale is 0.5, .*data has one"),
    (lambda: draw_of("ddpm", condition=jnp.asarray(1)), SpecError, "condition must be None"),
    (lambda: draw_of("ddpm", sampler="heun", eta=0.5), ConfigError, "ddim's alone"),
    (lambda: build("ddpm", PLANE)[0].score(*build("ddpm", PLANE)[1:], jnp.ones((1, 2)), 1.5), ConfigError,
     "time is 1.5"),
    (lambda: scored_by(build("ddpm", PLANE)[0], "ode,probes=3"), ConfigError, "num_probes"),
    (lambda: scored_by(build("ddpm", PLANE)[0], "ode,tolerance"), ConfigError, "name=value")])
def test_bad_input(call, error, message):
  with pytest.raises(error, match=message):
    call()


def draw_of(name, **options):
  model, params, carry = build(name, PLANE)
  return model.sample(params, carry, KEY, 2, **options)


@pytest.mark.parametrize("deviation", [0.5, 3.0])
def test_denoised_draws_are_of_the_posterior_of_normal_data(monkeypatch, deviation):
  """With the best prediction of N(c, s^2) data, clean given noisy has the mean and the variance of Gaussians."""
  monkeypatch.setattr(Diffusion, "denoiser", lambda self, params, path, context=None: lambda x, t: (
      path.level(t).like(x).alpha * x / (path.level(t).like(x).alpha**2 + path.level(t).like(x).sigma**2)))
  model = build_model({"name": "score_sde", "network": {"name": "mlp", "hidden": (6,)}}, DataSpec((2, 2), None))
  centre, scale = 5.0, 2.0
  params, _ = model.init(KEY, some(DataSpec((2, 2), None), 9))
  carry = {"statistics": {"centre": jnp.asarray(centre), "scale": jnp.asarray(scale)}}
  x = jnp.broadcast_to(jnp.array([[3.0, 5.0], [6.0, 9.0]]), (4000, 2, 2))
  drawn = np.asarray(model.denoise(params, carry, KEY, x, deviation, num_steps=100).x)
  share = scale**2 / (scale**2 + deviation**2)
  np.testing.assert_allclose(drawn.mean(axis=0), centre + share * (np.asarray(x[0]) - centre), atol=0.12)
  np.testing.assert_allclose(drawn.std(axis=0), deviation * share**0.5, rtol=0.08)


def test_what_cannot_be_denoised_is_told():
  model, params, carry = build("ddpm", PLANE)
  x = jnp.zeros((2, 2))
  with pytest.raises(SpecError, match="the 2 dimensions have scales of their own"):
    model.denoise(params, carry, KEY, x, 1.0)
  with pytest.raises(ConfigError, match="deviation is 0"):
    model.denoise(params, carry, KEY, x, 0.0)
