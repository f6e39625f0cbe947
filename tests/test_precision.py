"""What reports numbers multiplies in float32 on every machine, as traced programs show; training is as configured."""

import ast
import dataclasses
import importlib
import inspect
from pathlib import Path
from unittest.mock import MagicMock

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from helpers.small_models import small_batch, small_model
from jax.extend.core import ClosedJaxpr, Jaxpr

from experiments import cli
from gdm.dataspec import DataSpec
from gdm.evaluation.classification import evaluate_labels
from gdm.evaluation.likelihood import evaluate_likelihood
from gdm.evaluation.ranking import scores
from gdm.evaluation.report import build_report
from gdm.inference import annealed_importance as annealing
from gdm.inference import gibbs_with_gradients, metropolis, ode, sequential_monte_carlo, tuning
from gdm.inference.quadrature import log_integral
from gdm.likelihood import Kind, LogLikelihood
from gdm.precision import at_highest_precision, highest_precision
from gdm.training.state import optimizers_for, state_shapes
from gdm.training.step import make_train_step

W = np.eye(3, dtype=np.float32) + 0.1
HIGHEST = (jax.lax.Precision.HIGHEST, jax.lax.Precision.HIGHEST)


def precisions(function, *args):
  """The precision of every product in the traced program, at any depth."""
  def visit(jaxpr):
    for equation in jaxpr.eqns:
      if equation.primitive.name in ("dot_general", "conv_general_dilated"):
        yield equation.params["precision"]
      for inner in jax.tree.leaves(equation.params, is_leaf=lambda x: isinstance(x, Jaxpr | ClosedJaxpr)):
        if isinstance(inner, Jaxpr | ClosedJaxpr):
          yield from visit(inner.jaxpr if isinstance(inner, ClosedJaxpr) else inner)

  found = list(visit(jax.make_jaxpr(function)(*args).jaxpr))
  assert found
  return found


def key():
  return jax.random.key(0)


def log_density(x, beta=1.0):
  return -0.5 * beta * jnp.sum(jnp.square(x @ W), axis=-1)


def path():
  def transition(key, x, beta):
    kernel = metropolis.hmc(lambda x: log_density(x, beta), 0.1, 2)
    return metropolis.walk(key, x, lambda x: log_density(x, beta), kernel, 1).x

  return annealing.Path(log_density, transition, lambda key, num: jax.random.normal(key, (num, 3)), jnp.zeros(()))


X = np.ones((4, 3), np.float32)
CALLS = {
    "mala": lambda x: metropolis.walk(key(), x, log_density, metropolis.mala(log_density, 0.1), 3).x,
    "hmc": lambda x: metropolis.walk(key(), x, log_density, metropolis.hmc(log_density, 0.1, 3), 2).x,
    "hmc of a dense mass": lambda x: metropolis.hmc_move(
        key(), x, log_density, 0.1, 2, metropolis.Factor(jnp.asarray(W)))[0],
    "pilot": lambda x: tuning.tune(log_density, x[None], jnp.ones(3), key(), num_leapfrog=2, longest_step=0.4).scales,
    "smc": lambda x: sequential_monte_carlo.run(path(), np.linspace(0.0, 1.0, 4), key(), 2, 2).x + x[0, 0],
    "gibbs with gradients, binary": lambda x: gibbs_with_gradients.binary_step(key(), x, log_density).x,
    "annealing": lambda x: annealing.forward(path(), np.linspace(0.0, 1.0, 4), key(), 4).log_weights + x[0, 0],
    "raise": lambda x: annealing.lower_bound(path(), np.linspace(0.0, 1.0, 4), key(), x),
    "quadrature": lambda x: log_integral(lambda u: -jnp.sum((u @ W[:1]) ** 2, axis=-1), 1, x[0, 0]).nats,
    "ode": lambda x: ode.solve(lambda t, y: -y @ W, x, 0.0, 1.0, ode.Tolerance()).y,
}


@pytest.mark.fast_cases(
    "mala", "hmc", "hmc of a dense mass", "smc", "gibbs with gradients, binary", "gibbs with gradients, categorical",
    "annealing", "raise", "quadrature")
@pytest.mark.parametrize("name", CALLS)
def test_what_decides_or_integrates_is_precise_by_itself(name):
  assert set(precisions(CALLS[name], X)) == {HIGHEST}


@pytest.mark.fast_cases("realnvp")
@pytest.mark.parametrize("name", ["realnvp", "maf", "glow"])
def test_inverses_of_flows_are_precise(name):
  model = small_model(name)
  batch = small_batch(model)
  state = jax.eval_shape(model.init, key(), batch)
  z = jax.eval_shape(lambda state: model.encode(*state, batch, key()), state)
  assert set(precisions(lambda state: model.encode(*state, batch, key()), state)) == {HIGHEST}
  assert set(precisions(lambda state, z: model.decode(*state, z, key()), state, z)) == {HIGHEST}
  assert set(precisions(lambda state: model.sample(*state, key(), 3).x, state)) == {HIGHEST}
  assert set(precisions(lambda state: model.log_likelihood(*state, batch, key()).nats, state)) == {None}


@dataclasses.dataclass(frozen=True)
class Spy:
  """Scores and classifies by a product, and tells in `seen` of what precision it was traced."""

  seen: list = dataclasses.field(hash=False, compare=False)
  objectives: tuple = ()

  @property
  def spec(self):
    return DataSpec((3,), None, num_classes=3)

  def init(self, key, batch):
    return {}, {}

  def _product(self, x):
    self.seen.extend(precisions(lambda x: x @ W, x))
    return x @ W

  def log_likelihood(self, params, carry, batch, key, num_samples=1):
    return LogLikelihood.of(jnp.sum(self._product(batch["x"]), axis=-1), 3, Kind.LOWER_BOUND)

  def log_label_probs(self, params, carry, batch):
    return jax.nn.log_softmax(self._product(batch["x"]))


def test_evaluation_is_precise_and_the_report_says_so():
  spy, batch = Spy([]), {"x": X, "y": np.zeros(4, np.int32)}
  found = evaluate_likelihood(spy, {}, {}, [batch], key=key())
  evaluate_labels(spy, {}, {}, [batch])
  scores(spy, {}, {}, X, key(), 2)
  assert len(spy.seen) == 3 and set(spy.seen) == {HIGHEST}
  report = build_report(found, model="spy", dataset="d", split="test", step=1, data_fingerprint="ab", parameters="live",
                        num_params=0, train_seconds=0.0, evaluation={})
  assert (report["precision"], report["dtype"]) == ("highest", "float32")
  with jax.enable_x64(True):
    assert evaluate_likelihood(spy, {}, {}, [{"x": X.astype(np.float64)}], key=key()).dtype == "float64"


def traced_step(name, **settings):
  model = small_model(name)
  optimizers, batch = optimizers_for(model, optax.sgd(0.1)), small_batch(model)
  state = state_shapes(model, optimizers, batch)
  step = make_train_step(model, optimizers, **settings)
  return precisions(step, state, jax.tree.map(lambda x: x[None], batch), key())


def test_training_is_as_configured():
  assert set(traced_step("made")) == {None}
  assert set(traced_step("made", precision="highest")) == {HIGHEST}


def test_binaries_are_precise_but_for_training(monkeypatch):
  seen = []
  monkeypatch.setattr(cli.app, "run", lambda call, flags_parser: call([]))
  monkeypatch.setattr(cli, "guarded", lambda call: call())
  for settings in ({}, {"precise": False}):
    cli.run(lambda: seen.append(precisions(lambda x: x @ W, X)), **settings)
  assert seen == [[HIGHEST], [None]]


def test_it_can_be_nested_and_named_precisions_stay():
  @highest_precision()
  def count(n, x):
    return x @ W if n == 0 else count(n - 1, x) @ W

  def call(x):
    return jnp.matmul(count(2, x), W, precision="default") @ W

  default = jax.lax.Precision.DEFAULT
  assert precisions(call, X) == [HIGHEST] * 3 + [(default, default), None]




def normalizers(name):
  model, batch = small_model(name), small_batch(small_model(name))
  state = jax.eval_shape(model.init, key(), batch)
  return precisions(lambda state: [found.nats for found in model.log_normalizer(*state, key())], state)


@pytest.mark.fast_cases("rbm", "ising")
@pytest.mark.parametrize("name", ["rbm", "ising", "ebm", pytest.param("gaussian_rbm", marks=pytest.mark.slow),
                                  pytest.param("jem", marks=pytest.mark.slow),
                                  pytest.param("tilted", marks=pytest.mark.slow)])
def test_log_z_is_precise(name):
  assert set(normalizers(name)) == {HIGHEST}


@pytest.mark.parametrize("name", ["vdm", pytest.param("flow_matching", marks=pytest.mark.slow)])
def test_likelihood_by_the_ode_is_precise(name):
  model = small_model(name).scored_by("ode")
  batch = small_batch(model)
  state = jax.eval_shape(model.init, key(), batch)
  found = precisions(lambda state: model.log_likelihood(*state, batch, key()).nats, state)
  assert set(found) == {HIGHEST}


class Watched:
  """In place of a run: what first asks it for anything is stopped, with the precision of products at that moment."""

  def __getattr__(self, name):
    raise Stopped(jax.config.jax_default_matmul_precision)  # pyright: ignore[reportAttributeAccessIssue]


class Stopped(Exception):
  pass


# What commands call that is given a run and computes nothing by its model.
NO_PRODUCTS = {"coded_report", "save_music", "choose_measures", "require_music", "measure"}


def studies_of_runs():
  """The functions of studies that commands call and whose first argument is a run."""
  commands = Path(cli.__file__).parent.glob("*.py")
  imports = [node for path in commands for node in ast.walk(ast.parse(path.read_text()))
             if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("gdm.studies.")]
  for node in imports:
    for name in (alias.name for alias in node.names):
      function = getattr(importlib.import_module(str(node.module)), name)
      takes = [*inspect.signature(function).parameters] if inspect.isfunction(function) else []
      if takes[:1] == ["run"] and name not in NO_PRODUCTS:
        yield pytest.param(function, id=name)


@pytest.mark.parametrize("function", [*studies_of_runs()])
def test_a_study_of_a_run_is_precise_without_the_command(function):
  needed = [each for each in list(inspect.signature(function).parameters.values())[1:]
            if each.default is each.empty]
  named = {each.name: MagicMock() for each in needed if each.kind is each.KEYWORD_ONLY}
  plain = [MagicMock() for each in needed if each.kind is not each.KEYWORD_ONLY]
  with pytest.raises(Stopped) as caught:
    found = function(Watched(), *plain, **named)
    next(found)
  assert str(caught.value) == "highest"


def test_what_takes_the_items_of_a_precise_generator_computes_as_configured():
  @at_highest_precision
  def items():
    yield precision()
    yield precision()
    return "end"

  def precision():
    return jax.config.jax_default_matmul_precision  # pyright: ignore[reportAttributeAccessIssue]

  def outer():
    seen.append((yield from items()))

  seen, before = [], precision()
  for item in outer():
    seen.append((item, precision()))
  assert seen == [("highest", before), ("highest", before), "end"]
