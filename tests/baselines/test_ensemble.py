import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers.enumeration import Batches, assert_samples_match, assert_sums_to_one, log_probs, states_of

from gdm.baselines.chow_liu import ChowLiu
from gdm.baselines.ensemble import Ensemble
from gdm.baselines.independent import Independent
from gdm.dataspec import DataSpec
from gdm.diffusion.flow_matching import flow_matching
from gdm.diffusion.networks.denoising_mlp import DenoisingMLP
from gdm.energy.continuous.ebm import EBM
from gdm.energy.continuous.jem import JEM
from gdm.energy.continuous.networks import MLPEnergy
from gdm.errors import ConfigError, SpecError
from gdm.flows.maf import MAF
from gdm.inference.diagnostics import failure
from gdm.likelihood import Kind, LogLikelihood
from gdm.model import HasClasses, HasComplete, HasSolve, LossOutput, Mean, Model, Objective, Samples
from gdm.training.state import init_state
from gdm.training.step import make_train_step

SPEC, PLANE = DataSpec((4,), 2), DataSpec((2,), None)


@dataclasses.dataclass(frozen=True)
class Coins:
  """A Bernoulli per dimension, trained by gradient steps; counts its steps in the carry."""

  spec: DataSpec = SPEC
  group: str = "model"
  repeats: int = 1
  kind: Kind = Kind.EXACT
  given: tuple[str, ...] = ()
  unbiased: bool = False

  @property
  def objectives(self):
    return (Objective((self.group,), self.loss, self.repeats),)

  def init(self, key, batch):
    return {self.group: jax.random.normal(key, self.spec.event)}, {"statistics": {"steps": jnp.zeros(())}}

  def loss(self, params, carry, batch, key, step):
    nll = -self.log_likelihood(params, carry, batch, key).nats
    return LossOutput(jnp.mean(nll), {"nll": Mean.of(nll)}, {"statistics": {"steps": carry["statistics"]["steps"] + 1}})

  def log_likelihood(self, params, carry, batch, key, num_samples=1):
    logits = params[self.group]
    nats = jnp.sum(batch["x"] * jax.nn.log_sigmoid(logits) + (1 - batch["x"]) * jax.nn.log_sigmoid(-logits), -1)
    return LogLikelihood.of(nats, 4, self.kind, self.given, unbiased=self.unbiased)


def examples(num=400):
  return (np.random.default_rng(0).random((num, 4)) < [0.9, 0.2, 0.5, 0.7]).astype(np.uint8)


def closed_form():
  """An ensemble of an independent model and a tree, each fitted to its own half."""
  model = Ensemble(SPEC, (Independent(SPEC), ChowLiu(SPEC)), weights=(3.0, 1.0))
  x = examples()
  x[:, 3] = x[:, 0]
  halves = [component.solve(jax.random.key(0), Batches(half))[0]
            for component, half in zip(model.components, (x[:200], x[200:]), strict=True)]
  return model, {f"{k}/{group}": tree for k, params in enumerate(halves) for group, tree in params.items()}, {}


@pytest.mark.slow
def test_is_a_distribution_and_samples_from_it():
  model, params, carry = closed_form()
  assert_sums_to_one(model, params, carry)
  assert_samples_match(model, params, carry, jax.random.key(1))


def test_likelihood_is_the_weighted_sum_of_components():
  model, params, carry = closed_form()
  states = states_of(SPEC)
  first, second = (np.exp(log_probs(component, {"model": params[f"{k}/model"]}, {}, states))
                   for k, component in enumerate(model.components))
  np.testing.assert_allclose(np.exp(log_probs(model, params, carry, states)), 0.75 * first + 0.25 * second, rtol=1e-5)


def test_one_train_step_trains_all_components_as_if_alone():
  parts = (Coins(), Coins(group="coins", repeats=2))
  model = Ensemble(SPEC, parts)
  optimizers = {"0/model": optax.sgd(0.1), "1/coins": optax.sgd(0.1)}
  x = jnp.asarray(examples(120).reshape(3, 40, 4))
  state = init_state(model, optimizers, jax.random.key(0), {"x": x[0]})
  assert set(state.params) == {"0/model", "1/coins"}
  params = dict(state.params)
  state, metrics = jax.jit(make_train_step(model, optimizers))(state, {"x": x}, jax.random.key(0))
  assert {"0/model/nll", "1/coins/nll"} <= set(metrics)
  # Component 0 sees the first minibatch, component 1 the other two, each on its own.
  for name, part, minibatches in (("0/model", parts[0], x[:1]), ("1/coins", parts[1], x[1:])):
    alone = params[name]
    for minibatch in minibatches:
      def loss(p, part=part, minibatch=minibatch):
        own_carry = {"statistics": {"steps": jnp.zeros(())}}
        return part.loss({part.group: p}, own_carry, {"x": minibatch}, jax.random.key(0), 0).loss
      alone = alone - 0.1 * jax.grad(loss)(alone)
    np.testing.assert_allclose(state.params[name], alone, rtol=1e-5)
  steps = state.carry["statistics"]
  assert {k: float(part["steps"]) for k, part in steps.items()} == {"0": 1.0, "1": 2.0}


def test_components_start_differently():
  params, _ = Ensemble(SPEC, (Coins(), Coins())).init(jax.random.key(0), {"x": jnp.zeros((1, 4))})
  assert not np.allclose(params["0/model"], params["1/model"])


@pytest.mark.fast_cases("parts1-lower_bound", "parts2-estimate", "parts4-lower_bound", "parts5-estimate")
@pytest.mark.parametrize("parts, expected", [
    ((Coins(), Coins()), Kind.EXACT),
    ((Coins(), Coins(kind=Kind.LOWER_BOUND, unbiased=True)), Kind.LOWER_BOUND),
    ((Coins(), Coins(kind=Kind.LOWER_BOUND)), Kind.ESTIMATE),
    ((Coins(kind=Kind.LOWER_BOUND),), Kind.LOWER_BOUND),
    ((Ensemble(SPEC, (Coins(), Coins(kind=Kind.LOWER_BOUND, unbiased=True))), Coins()), Kind.LOWER_BOUND),
    ((Ensemble(SPEC, (Coins(), Coins(kind=Kind.LOWER_BOUND))), Coins()), Kind.ESTIMATE),
])
def test_kinds_are_those_of_mixtures(parts, expected):
  model = Ensemble(SPEC, parts)
  batch = {"x": jnp.asarray(examples(5))}
  params, carry = model.init(jax.random.key(0), batch)
  assert model.log_likelihood(params, carry, batch, jax.random.key(0)).kind == expected


LABELLED = DataSpec((2,), None, num_classes=3)


@dataclasses.dataclass(frozen=True)
class Marked(Coins):
  """Draws its label plus a mark of its own."""

  spec: DataSpec = LABELLED
  mark: float = 0.0
  class_conditional: bool = True
  chains: tuple[tuple[str, float], ...] = ()

  def sample(self, params, carry, key, num, condition=None, scale=1.0):
    return Samples(jnp.broadcast_to(scale * (jnp.asarray(condition) + self.mark)[:, None], (num, 2)),
                   {"nfe": 3, "solved": jnp.asarray(self.mark < 100.0), **dict(self.chains)})


@pytest.mark.slow
def test_models_given_labels_are_sampled_given_labels():
  model = Ensemble(LABELLED, (Marked(mark=10.0), Marked(mark=20.0)), weights=(1.0, 3.0))
  assert isinstance(model, HasClasses) and model.class_conditional
  y, marks = jnp.arange(4000) % 3, jnp.asarray([10.0, 20.0])
  drawn = model.sample({}, {}, jax.random.key(1), 4000, condition=y, scale=2.0)
  np.testing.assert_array_equal(drawn.x[:, 0], 2.0 * (y + marks[drawn.info["picked"]]))
  np.testing.assert_allclose(np.mean(drawn.info["picked"]), 0.75, atol=0.03)
  assert drawn.info["nfe"] == 6 and drawn.info["solved"]
  failed = Ensemble(LABELLED, (Marked(), Marked(mark=100.0))).sample({}, {}, jax.random.key(1), 3, condition=y[:3])
  assert not failed.info["solved"]


def test_a_failure_of_one_components_chains_is_seen():
  good = {"least_acceptance": 0.9, "least_acceptance_beta": 0.5, "stuck": 0.0, "lost": 0.0, "least_path": 1.0,
          "acceptance": 0.8}
  for name, value in (("least_acceptance", 0.0), ("stuck", 0.5), ("lost", 0.1), ("least_path", 0.0),
                      ("acceptance", 0.0)):
    bad = {**good, name: value, "least_acceptance_beta": 0.1}
    parts = (*(Marked(chains=tuple(facts.items())) for facts in (good, bad, good)), Marked())
    drawn = Ensemble(LABELLED, parts).sample({}, {}, jax.random.key(0), 3, condition=jnp.zeros(3))
    assert failure(drawn.info), name
    if name == "least_acceptance":
      np.testing.assert_allclose(drawn.info["least_acceptance_beta"], 0.1)
  healthy = Ensemble(LABELLED, (Marked(chains=tuple(good.items())), Marked()))
  assert not failure(healthy.sample({}, {}, jax.random.key(0), 3, condition=jnp.zeros(3)).info)


def test_draws_need_labels_only_where_all_components_do():
  joint = JEM(LABELLED, network=MLPEnergy((4,)))
  assert Ensemble(LABELLED, (joint, joint)).class_conditional
  assert not Ensemble(LABELLED, (joint, EBM(LABELLED, network=MLPEnergy((4,))))).class_conditional
  assert not Ensemble(SPEC, (Coins(), Coins())).class_conditional


def test_one_name_chooses_the_likelihood_of_all_components_that_have_several():
  flow, path = MAF(PLANE, num_layers=1, hidden=(4,)), flow_matching(PLANE, network=DenoisingMLP(hidden=(4,)))
  model = Ensemble(PLANE, (Ensemble(PLANE, (path, flow)), flow)).scored_by("ode", tolerance=1e-3)
  assert model == Ensemble(PLANE, (Ensemble(PLANE, (path.scored_by("ode", tolerance=1e-3), flow)), flow))
  with pytest.raises(ConfigError, match="likelihood 'ode' is asked of an ensemble whose components have one"):
    Ensemble(PLANE, (Ensemble(PLANE, (flow,)), flow)).scored_by("ode")


def test_capabilities():
  model, _, _ = closed_form()
  assert isinstance(model, Model) and model.objectives == ()
  assert not isinstance(model, HasSolve) and not isinstance(model, HasComplete)


def test_what_cannot_be_mixed_is_named():
  batch = {"x": jnp.asarray(examples(5))}
  with pytest.raises(SpecError, match="components is empty"):
    Ensemble(SPEC, ())
  with pytest.raises(SpecError, match=r"components\[1\] models DataSpec\(event=\(5,\)"):
    Ensemble(SPEC, (Coins(), Coins(DataSpec((5,), 2))))
  with pytest.raises(SpecError, match="2 positive numbers"):
    Ensemble(SPEC, (Coins(), Coins()), weights=(1.0, 0.0))
  with pytest.raises(SpecError, match="2 positive numbers"):
    Ensemble(SPEC, (Coins(), Coins()), weights=(1.0, math.inf))
  model = Ensemble(SPEC, (Coins(), Coins(given=("y",))))
  with pytest.raises(SpecError, match=r"components\[1\], Coins, is given \('y',\), but model.components\[0\]"):
    model.init(jax.random.key(0), batch)  # before anything is trained
  model = Ensemble(SPEC, (Coins(), Coins()))
  params, carry = model.init(jax.random.key(0), batch)
  with pytest.raises(SpecError, match=r"components\[0\], Coins, cannot sample"):
    model.sample(params, carry, jax.random.key(0), 3)
