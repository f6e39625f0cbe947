import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from enumeration import Batches, assert_samples_match, assert_sums_to_one, log_probs, states_of

from gdm.baselines.chow_liu import ChowLiu
from gdm.baselines.ensemble import Ensemble
from gdm.baselines.independent import Independent
from gdm.dataspec import DataSpec
from gdm.errors import SpecError
from gdm.likelihood import Kind, LogLikelihood
from gdm.model import HasComplete, HasSolve, LossOutput, Mean, Model, Objective
from gdm.training.state import init_state
from gdm.training.step import make_train_step

SPEC = DataSpec((4,), 2)


@dataclasses.dataclass(frozen=True)
class Coins:
  """A Bernoulli per dimension, trained by gradient steps; counts its steps in the carry."""

  spec: DataSpec = SPEC
  group: str = "model"
  repeats: int = 1
  kind: Kind = Kind.EXACT
  given: tuple[str, ...] = ()

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
    return LogLikelihood.of(nats, 4, self.kind, self.given)


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


@pytest.mark.parametrize("kinds, expected", [
    ((Kind.EXACT, Kind.EXACT), Kind.EXACT),
    ((Kind.EXACT, Kind.LOWER_BOUND), Kind.LOWER_BOUND),
    ((Kind.LOWER_BOUND, Kind.UPPER_BOUND), Kind.ESTIMATE),
])
def test_kinds_combine(kinds, expected):
  model = Ensemble(SPEC, tuple(Coins(kind=kind) for kind in kinds))
  batch = {"x": jnp.asarray(examples(5))}
  params, carry = model.init(jax.random.key(0), batch)
  assert model.log_likelihood(params, carry, batch, jax.random.key(0)).kind == expected


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
  model = Ensemble(SPEC, (Coins(), Coins(given=("y",))))
  params, carry = model.init(jax.random.key(0), batch)
  with pytest.raises(SpecError, match="conditional on the same"):
    model.log_likelihood(params, carry, batch, jax.random.key(0))
  with pytest.raises(SpecError, match=r"components\[0\], Coins, cannot sample"):
    model.sample(params, carry, jax.random.key(0), 3)
