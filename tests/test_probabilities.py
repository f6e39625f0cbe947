"""Sums over small spaces and integrals over the plane of every registered model: alone, mixed, given labels, over them.

What each likelihood says of itself is held against enumeration. An exact one sums to one. A bound, averaged over many
draws, has exponentials that sum to at most one; so do the means of the exponentials of its draws, where it says that
these are unbiased, and only then may it be mixed and stay a bound.
"""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.enumeration import states_of

from gdm.baselines.ensemble import Ensemble
from gdm.data.dataset import Dataset
from gdm.data.loader import eval_batches
from gdm.dataspec import DataSpec
from gdm.evaluation.likelihood import evaluate_likelihood
from gdm.evaluation.marginal import OverLabels
from gdm.likelihood import Kind, LogLikelihood
from gdm.mesh import make_mesh
from gdm.model import HasSolve
from gdm.runs.registry import MODELS, build_model, complete

BITS, TERNARY, IMAGE = DataSpec((4,), 2), DataSpec((3,), 3), DataSpec((2, 2, 1), 3)
FEW, PLANE = DataSpec((2,), 4), DataSpec((2,), None)
SMALL_NET = {"hidden": (6,)}
PIXELS = {"width": 6, "first_size": 3, "head_width": 6}
ENERGY = {"network": {"name": "mlp", "hidden": (6,)}, "num_steps": 2, "chains_per_shard": 3}
FLOW = {"num_layers": 3, "hidden": (6,)}
LATENT = {"latent_dims": 2, "encoder": {"name": "mlp", "hidden": (6,)}, "decoder": {"name": "mlp", "hidden": (6,)}}
DIFFUSION = {"network": {"name": "mlp", "hidden": (6,)}}

# Case -> registry name, fields, spec. A new model gets a line here.
CASES = {
    "independent": ("independent", {}, TERNARY),
    "table": ("table", {}, BITS),
    "markov": ("markov", {"order": 2}, TERNARY),
    "ngram": ("ngram", {"order": 2, "capacity": 100}, TERNARY),
    "bayesian_network": ("bayesian_network", {"parents": ((), (0,), (0, 1))}, TERNARY),
    "chow_liu": ("chow_liu", {}, TERNARY),
    "mixture": ("mixture", {"num_components": 3, "num_restarts": 1, "num_iterations": 5}, TERNARY),
    "block_mixture": ("block_mixture", {"num_components": 3, "num_runs": 2, "num_iterations": 5}, BITS),
    "gaussian_mixture": ("gaussian_mixture", {"num_components": 2, "num_restarts": 1, "num_iterations": 5}, PLANE),
    "ppca": ("ppca", {"latent_dims": 1}, PLANE),
    "factor_analysis": ("factor_analysis", {"latent_dims": 1}, PLANE),
    "ensemble": ("ensemble", {"components": ({"name": "made", "network": {"hidden": (4,)}}, {"name": "fvsbn"}),
                              "weights": (0.7, 0.3)}, TERNARY),
    "token_ensemble": ("token_ensemble", {"components": ({"name": "recurrent", "network": {"width": 4}},
                                                         {"name": "wavenet", "network": {"num_layers": 1, "width": 4}}),
                                          "weights": (0.7, 0.3)}, TERNARY),
    "fvsbn": ("fvsbn", {}, TERNARY),
    "mlp": ("mlp", SMALL_NET, TERNARY),
    "nade": ("nade", {"hidden": 4}, BITS),
    "rnade": ("rnade", {"hidden": 4, "mixture": {"size": 2}}, PLANE),
    "made": ("made", {"network": {"hidden": (6, 6)}}, TERNARY),
    "made_orderings": ("made", {"network": {"hidden": (6, 6)}, "num_orderings": 3, "ordering": "random"}, BITS),
    "recurrent": ("recurrent", {"network": {"cell": "lstm", "width": 4}}, TERNARY),
    "recurrent_frames": ("recurrent_frames", {"network": {"width": 4}, "frame": {"name": "nade", "hidden": 3}},
                         DataSpec((3, 2), 2)),
    "transformer": ("transformer", {"network": {"num_layers": 1, "num_heads": 2, "width": 4}}, TERNARY),
    "wavenet": ("wavenet", {"network": {"num_layers": 2, "num_stacks": 1, "width": 4, "skip_width": 4}}, TERNARY),
    "pixelcnn": ("pixelcnn", {"network": {**PIXELS, "num_blocks": 1}}, IMAGE),
    "gated_pixelcnn": ("gated_pixelcnn", {"network": {"width": 6, "num_layers": 2, "first_size": 3, "skip_width": 6}},
                       IMAGE),
    "pixelsnail": ("pixelsnail", {"network": {**PIXELS, "num_blocks": 1, "num_layers": 1, "head_size": 2}}, IMAGE),
    "pixelcnn_pp": ("pixelcnn_pp", {"network": {"width": 4, "num_blocks": 1, "num_scales": 1, "first_size": 3},
                                    "pixels": {"mixture_size": 2}}, IMAGE),
    "row_lstm": ("row_lstm", {"network": {**PIXELS, "num_layers": 1}}, IMAGE),
    "diagonal_bilstm": ("diagonal_bilstm", {"network": {**PIXELS, "num_layers": 1}}, IMAGE),
    **{name: (name, FLOW, TERNARY) for name in ("nice", "realnvp", "maf", "iaf")},
    "nice_variational": ("nice", {**FLOW, "dequantization": "variational", "dequantization_width": 4}, TERNARY),
    "spline_coupling": ("spline_coupling", {"num_steps": 2, "num_bins": 3, "hidden": (6,)}, TERNARY),
    "spline_autoregressive": ("spline_autoregressive", {"num_layers": 2, "num_bins": 3, "hidden": (6,)}, TERNARY),
    "glow": ("glow", {"num_scales": 1, "num_steps": 1, "width": 4}, IMAGE),
    "flow_pp": ("flow_pp", {"num_steps": (1, 1, 1), "num_components": 2, "hidden": (6,), "dequantization_width": 4},
                TERNARY),
    "integer_flow": ("integer_flow", {"num_steps": 2, "num_components": 2, "hidden": (6,)}, TERNARY),
    "residual_flow": ("residual_flow", {"num_blocks": 2, "hidden": (6,)}, TERNARY),
    "residual_flow_density": ("residual_flow", {"num_blocks": 2, "hidden": (6,)}, PLANE),
    "ffjord_density": ("ffjord", {"hidden": (6,)}, PLANE),
    **{f"{name}_density": (name, FLOW, PLANE) for name in ("nice", "realnvp", "maf", "iaf")},
    "spline_coupling_density": ("spline_coupling", {"num_steps": 2, "num_bins": 3, "hidden": (6,)}, PLANE),
    "spline_autoregressive_density": ("spline_autoregressive", {"num_layers": 2, "num_bins": 3, "hidden": (6,)}, PLANE),
    **{name: (name, DIFFUSION, FEW)
       for name in ("diffusion", "ncsn", "ddpm", "improved_ddpm", "vdm", "score_sde", "edm", "flow_matching")},
    "vdm_density": ("vdm", {**DIFFUSION, "log_snr_max": 3.0}, PLANE),
    "masked": ("masked", {"network": {"name": "transformer", "num_layers": 1, "num_heads": 2, "width": 4}}, TERNARY),
    **{f"masked_{name}": ("masked", {"network": {"name": "mlp", **SMALL_NET}, "likelihood": name, "num_orders": 2},
                          TERNARY) for name in ("orders", "ensemble", "exact")},
    "masked_steps": ("masked", {"network": {"name": "mlp", **SMALL_NET}, "num_noise_steps": 3}, TERNARY),
    "ardm": ("ardm", {"network": {"name": "residual", "width": 4, "num_blocks": 1, "num_heads": 0}}, IMAGE),
    "d3pm": ("d3pm", {"network": {"name": "mlp", **SMALL_NET}, "num_noise_steps": 4}, TERNARY),
    "d3pm_gaussian": ("d3pm", {"network": {"name": "mlp", **SMALL_NET}, "num_noise_steps": 4,
                               "transitions": "gaussian"}, FEW),
    "rbm": ("rbm", {"num_hidden": 3}, BITS),
    "rbm_annealed": ("rbm", {"num_hidden": 3, "normalizer": "ais", "num_temperatures": 3}, BITS),
    "gaussian_rbm": ("gaussian_rbm", {"num_hidden": 3}, PLANE),
    "ising": ("ising", {}, BITS),
    "ebm": ("ebm", ENERGY, FEW),
    "ebm_annealed": ("ebm", {**ENERGY, "normalizer": "ais", "num_temperatures": 3}, FEW),
    "ebm_density": ("ebm", ENERGY, PLANE),
    "jem": ("jem", ENERGY, dataclasses.replace(FEW, num_classes=2)),
    "tilted": ("tilted", {**ENERGY, "base": {"name": "maf", **FLOW}}, PLANE),
    "vae": ("vae", LATENT, TERNARY),
    "vae_image": ("vae", {**LATENT, "output": {"name": "logistic_mixture", "size": 2}}, IMAGE),
    "vae_density": ("vae", LATENT, PLANE),
    "iwae": ("iwae", {**LATENT, "posterior": {"name": "full"}, "prior": {"name": "mixture", "size": 2}}, BITS),
    "hierarchical_vae": ("hierarchical_vae", {"network": {"layers": (1,), "widths": (3,), "latents": (1,),
                                                          "top_latents": 2, "top_width": 4}}, IMAGE),
    "vqvae": ("vqvae", {"num_codes": 3, "code_dims": 2, "encoder": {"widths": (4, 4), "num_blocks": 1},
                        "decoder": {"widths": (4, 4), "num_blocks": 1},
                        "prior": {"name": "made", "network": {"hidden": (4,)}}}, IMAGE),
    "latent_frames": ("latent_frames", {"frame": {"name": "vae", **LATENT}, "latents": {
        "name": "recurrent_frames", "network": {"width": 4},
        "frame": {"name": "rnade", "hidden": 3, "mixture": {"size": 2}}}}, DataSpec((2, 1, 2, 1), 2)),
    "naive_bayes": ("naive_bayes", {}, dataclasses.replace(TERNARY, num_classes=2)),
    "naive_bayes_density": ("naive_bayes", {}, dataclasses.replace(PLANE, num_classes=2)),
    "product": ("product", {"components": 2 * ({"name": "ebm", **ENERGY},), "weights": (1.0, 0.5)}, FEW),
}
NO_DENSITIES = {"autoencoder", "gan", "dcgan", "wgan", "wgan_gp", "conditional_gan", "logistic_regression",
                "mlp_classifier", "cnn_classifier", "consistency",
                "conditional_rbm"}  # of which tests/energy/test_conditional_rbm.py knows
CONDITIONAL = [case for case, (name, _, _) in CASES.items() if "class_conditional" in complete({"name": name})]
EVERY = tuple(CASES)
NOISY = ("diffusion", "ncsn", "ddpm", "improved_ddpm", "vdm", "score_sde", "edm", "flow_matching", "masked",
         "masked_steps", "ardm", "d3pm", "d3pm_gaussian", "ffjord")
DRAWS = 400
OTHER = {True: {"name": "independent"}, False: {"name": "gaussian_mixture", "num_components": 1, "num_restarts": 1}}


@dataclasses.dataclass(frozen=True, eq=False)
class Trained:
  """A model with parameters."""

  model: Any
  params: Any
  carry: Any


class Scored(NamedTuple):
  """Nats [draws, states] of a whole space, the volume of each state, and what the likelihood says of itself."""

  nats: np.ndarray
  volume: float
  found: LogLikelihood


def tiered(cases, fast=("independent", "made_orderings", "nice_variational", "vdm", "ebm")):
  return [pytest.param(case, marks=() if case in fast else pytest.mark.slow) for case in cases]


@functools.cache
def trained(case, seed=0, **more):
  """The case's model with parameters far from where training starts; closed forms are fitted to random data."""
  name, fields, spec = CASES[case]
  if more:
    spec = dataclasses.replace(spec, num_classes=2)
  return with_parameters(build_model({"name": name, **fields, **more}, spec), seed)


def with_parameters(model, seed):
  rng, spec = np.random.default_rng(seed), model.spec
  x = rng.integers(0, spec.levels, (64, *spec.event)).astype(np.uint8) if spec.is_discrete else (
      rng.normal(size=(64, *spec.event)).astype(np.float32))
  batch = {"x": x, "y": rng.integers(0, 2, 64).astype(np.int32)}
  if isinstance(model, HasSolve):
    return Trained(model, *model.solve(jax.random.key(seed), [batch]))
  params, carry = jax.jit(model.init)(jax.random.key(seed), batch)
  scale = 0.3 if spec.is_discrete else 0.15  # so that the grid below holds what lies in the plane
  moved = {group for objective in model.objectives for group in objective.groups}
  return Trained(model, {group: jax.tree.map(
      lambda leaf: leaf + scale * rng.normal(size=leaf.shape).astype(leaf.dtype), tree) if group in moved else tree
      for group, tree in params.items()}, carry)


def space(spec):
  """Every state, or a grid that holds nearly all of what lies in the plane; and the volume of each."""
  if spec.is_discrete:
    return states_of(spec), 1.0
  axis = np.arange(-12.0, 12.0, 0.15, dtype=np.float32) + 0.07
  return np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2), 0.15**2


@functools.cache
def scored(part, y=None):
  x, volume = space(part.model.spec)
  batch = {"x": jnp.asarray(x)} if y is None else {"x": jnp.asarray(x), "y": jnp.full(len(x), y, jnp.int32)}
  found = what_it_says(part, batch)
  draws = 1 if found.kind is Kind.EXACT else DRAWS if part.model.spec.is_discrete else DRAWS // 8
  keys = jax.random.split(jax.random.key(1), draws)
  return Scored(np.asarray(scorer(part.model)(part.params, part.carry, batch, keys), np.float64), volume, found)


def what_it_says(part, batch):
  """The likelihood as traced: its kind, and all else that is no number."""
  seen = []

  def score(params, carry, batch):
    seen.append(part.model.log_likelihood(params, carry, batch, jax.random.key(0)))
    return ()

  jax.eval_shape(score, part.params, part.carry, batch)
  return seen[0]


@functools.cache
def scorer(model):
  """Nats for each of several keys, compiled once for all parameters."""
  return jax.jit(lambda params, carry, batch, keys: jax.lax.map(
      lambda key: model.log_likelihood(params, carry, batch, key).nats, keys))


def sum_of_means(result):
  """The sum over the space of exp(mean nats), and four standard errors of it."""
  mean = result.nats.mean(axis=0)
  spread = result.nats.std(axis=0) / np.sqrt(len(result.nats))
  return result.volume * np.exp(mean).sum(), 4 * result.volume * (np.exp(mean) * spread).sum()


def mean_of_sums(result):
  """The mean over draws of the sum over the space of exp(nats), and four standard errors of it."""
  sums = result.volume * np.exp(result.nats).sum(axis=1)
  return sums.mean(), 4 * sums.std() / np.sqrt(len(sums))


def assert_is_what_it_says(part, y=None):
  """Returns the scores of the space, held against what the likelihood says of them."""
  result = scored(part, y)
  exact, slack = result.found.kind is Kind.EXACT, 1e-4 if result.volume == 1.0 else 0.02
  total, noise = sum_of_means(result)
  assert np.isfinite(result.nats).all()
  if exact:
    np.testing.assert_allclose(total, 1.0, rtol=slack)
  if result.found.kind in (Kind.LOWER_BOUND, Kind.SAMPLER_BOUND):
    assert total <= 1.0 + slack + noise, (total, noise)
  if result.found.is_mixable:
    total, noise = mean_of_sums(result)
    assert total <= 1.0 + slack + noise, (total, noise)
  return result


def mixture(*parts, weights=()):
  model = Ensemble(parts[0].model.spec, tuple(part.model for part in parts), weights)
  return Trained(model, *model.join([(part.params, part.carry) for part in parts]))


def assert_mixes(parts, mixed, y=None):
  """The kind of a mixture follows from those of its parts."""
  alone = [scored(part, y).found for part in {id(part): part for part in parts}.values()]
  result = assert_is_what_it_says(mixed, y)
  if all(each.kind is Kind.EXACT for each in alone):
    assert result.found.kind is Kind.EXACT
  elif all(each.is_mixable for each in alone):
    assert result.found.kind in (Kind.LOWER_BOUND, Kind.SAMPLER_BOUND)
  else:
    assert result.found.kind is Kind.ESTIMATE
  return result


def test_every_registered_model_is_here():
  assert {name for name, _, _ in CASES.values()} == set(MODELS) - NO_DENSITIES


@pytest.mark.fast_cases("independent")
@pytest.mark.parametrize("case", tiered(EVERY))
def test_alone(case):
  """All but bounds by diffusion may be mixed."""
  assert assert_is_what_it_says(trained(case)).found.is_mixable == (case.partition("_density")[0] not in NOISY)


@pytest.mark.fast_cases("independent-2")
@pytest.mark.parametrize("copies", [2, pytest.param(8, marks=pytest.mark.slow)])
@pytest.mark.parametrize("case", tiered(EVERY))
def test_copies(case, copies):
  """Copies add nothing to a model but noise, which lifts the mixture."""
  part = trained(case)
  alone, mixed = scored(part), assert_mixes([part], mixture(*[part] * copies))
  if mixed.found.kind is Kind.EXACT:
    np.testing.assert_allclose(mixed.nats, alone.nats, atol=1e-4)
  if case in NOISY:  # where it would be wrong to call it a bound
    assert alone.found.kind is Kind.LOWER_BOUND and mixed.found.kind is Kind.ESTIMATE
    assert mixed.nats.mean() > alone.nats.mean() + 0.1


@pytest.mark.slow
@pytest.mark.parametrize("case", tiered(EVERY, fast=("made_orderings", "vdm")))
def test_with_others(case):
  part, again = trained(case), trained(case, seed=1)
  other = with_parameters(build_model(OTHER[part.model.spec.is_discrete], part.model.spec), 2)
  assert_mixes([part, again, other], mixture(part, again, other, weights=(0.5, 0.3, 0.2)))
  assert_mixes([part, again, other], mixture(mixture(part, other), again))


@pytest.mark.slow
@pytest.mark.parametrize("case", tiered(CONDITIONAL, fast=("nice",)))
def test_given_labels_and_over_them(case):
  part, again = (trained(case, seed, class_conditional=True) for seed in (0, 1))
  both = mixture(part, again)
  for y in (0, 1):
    assert assert_is_what_it_says(part, y).found.given == ("y",)
    assert_mixes([part, again], both, y)
  for each in (part, both):
    given = scored(each, 0).found
    over = assert_is_what_it_says(Trained(OverLabels(each.model, (np.log(0.3), np.log(0.7))), each.params, each.carry))
    assert over.found.given == ()
    assert over.found.kind is (given.kind if given.is_mixable else Kind.ESTIMATE)


@pytest.mark.slow
@pytest.mark.parametrize("case", tiered(EVERY, fast=("made_orderings",)))
def test_parameters_closed_over_give_what_parameters_passed_in_do(case):
  for part in (trained(case), mixture(trained(case), trained(case, seed=1))):
    batch, key = {"x": jnp.asarray(space(part.model.spec)[0][:81])}, jax.random.key(1)[None]
    closed = jax.jit(lambda batch, part=part: part.model.log_likelihood(
        part.params, part.carry, batch, jax.random.key(1)).nats)(batch)
    passed = scorer(part.model)(part.params, part.carry, batch, key)[0]
    np.testing.assert_allclose(closed, passed, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("case", tiered(EVERY, fast=("made_orderings",)))
def test_a_space_scored_on_eight_devices_in_any_order_is_that_scored_on_one(case):
  """As the evaluator does it, in batches of which the last is smaller, with the same randomness on every mesh."""
  part, devices = trained(case), jax.devices()
  spec = part.model.spec
  x = space(spec)[0][:90].astype(np.uint8 if spec.is_discrete else np.float32)
  y = {"y": np.zeros(len(x), np.int32)} if spec.num_classes else {}
  data = Dataset("space", spec, {"test": {"x": x, **y}})

  def nats(mesh):
    return evaluate_likelihood(part.model, part.params, part.carry, eval_batches(data, "test", 40),
                               key=jax.random.key(1), mesh=mesh).nats

  expected = nats(make_mesh(devices=devices[:1]))
  for fsdp, order in ((1, range(8)), (1, (0, 5, 3, 6, 2, 7, 1, 4)), (4, (0, 5, 3, 6, 2, 7, 1, 4))):
    np.testing.assert_allclose(nats(make_mesh(fsdp, [devices[i] for i in order])), expected, rtol=1e-4, atol=1e-4)
  if spec.is_discrete and what_it_says(part, {"x": jnp.asarray(x)}).kind is Kind.EXACT:
    np.testing.assert_allclose(np.exp(np.float64(expected)).sum(), 1.0, rtol=1e-4)
