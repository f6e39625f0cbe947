"""Attacks stay in their ball and in the data's range, and on a linear model find what a numerical search finds."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
from helpers.attacked import KEY, LEVELS, REALS, linear

from gdm.dataspec import DataSpec
from gdm.discriminative.classifier import Classifier
from gdm.discriminative.logistic_regression import LogisticRegression
from gdm.discriminative.naive_bayes import naive_bayes
from gdm.discriminative.networks.mlp import ClassifierPerceptron
from gdm.errors import ConfigError, DataError, SpecError
from gdm.model import HasRelaxedLabelProbs
from gdm.robustness.attack import Attack, fgsm, iterated, projected_gradient
from gdm.robustness.norms import NORMS, Euclidean, Room
from gdm.robustness.target import AttackTarget


def nats_of(target, x, y):
  return np.asarray(target.log_probs(KEY, jnp.asarray(x)))[np.arange(len(y)), y]


ATTACKS = [fgsm(3.0), fgsm(3.0, "l2"), iterated(3.0), iterated(2.5, "l2", 7), Attack(epsilon=0.0),
           projected_gradient(3.0, num_steps=5, num_restarts=2), projected_gradient(2.5, "l2", 5, 1.0, 2),
           projected_gradient(40.0, "l2", 5), projected_gradient(40.0, num_steps=3)]


@pytest.mark.parametrize("attack", ATTACKS, ids=str)
@pytest.mark.parametrize("spec", [REALS, LEVELS], ids=["reals", "levels"])
def test_an_attack_stays_in_its_ball_and_in_the_range(attack, spec):
  target, batch = linear(spec)
  found = attack.run(target, KEY, batch)
  d = np.asarray(found.x, np.float64) - batch["x"]
  assert np.all(np.asarray(NORMS[attack.norm].size(jnp.asarray(d))) <= attack.epsilon * (1 + 1e-5) + 1e-6)
  if spec.levels is not None:
    assert found.x.dtype == jnp.int32 and found.x.min() >= 0 and found.x.max() < spec.levels
  if not attack.random_start:
    assert np.all(nats_of(target, found.x, batch["y"]) <= nats_of(target, batch["x"], batch["y"]) + 1e-6)
  assert np.all(np.isfinite(found.loss)) and found.num_slopes == attack.num_steps * attack.num_restarts


def test_one_step_on_two_classes_finds_what_a_search_of_the_cubes_corners_finds():
  """The logits' difference is linear, so that its least value over a cube is at a corner."""
  target, batch = linear(REALS)
  found = fgsm(0.3).run(target, KEY, batch)
  corners = np.array(list(itertools.product([-0.3, 0.3], repeat=3)), np.float32)
  least = np.min([nats_of(target, batch["x"] + corner, batch["y"]) for corner in corners], axis=0)
  np.testing.assert_allclose(nats_of(target, found.x, batch["y"]), least, rtol=1e-5)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_projected_gradient_finds_what_a_numerical_search_finds_within_ball_and_range(norm):
  """Of two classes the margin is linear: a convex problem, of which scipy finds the optimum."""
  spec, epsilon = DataSpec((4,), 256, num_classes=2), 60.0
  target, batch = linear(spec)
  weights = np.asarray(target.params["model"]["weights"], np.float64)
  found = projected_gradient(epsilon, norm, num_steps=200, step_size=10.0, num_restarts=2).run(target, KEY, batch)
  for x, y, got in zip(batch["x"].astype(float), batch["y"], np.asarray(found.x, float), strict=True):
    slope = 2.0 * (weights[:, 1 - y] - weights[:, y]) / 255.0
    ball = ({"type": "ineq", "fun": lambda d: epsilon**2 - d @ d},) if norm == "l2" else ()
    edge = epsilon if norm == "linf" else np.inf
    limits = [(max(-value, -edge), min(255.0 - value, edge)) for value in x]
    best = scipy.optimize.minimize(lambda d, slope: -d @ slope, np.zeros(4), (slope,), jac=lambda d, slope: -slope,
                                   bounds=limits, constraints=ball, method="SLSQP",
                                   options={"maxiter": 500, "ftol": 1e-10})
    assert best.success
    # Whole numbers: within half a level of each value of the optimum, where rounding leaves the ball within one.
    assert -best.fun - np.abs(slope).sum() <= (got - x) @ slope <= -best.fun + 1e-4


def test_the_nearest_point_of_ball_and_range_is_what_a_numerical_search_finds():
  rng = np.random.default_rng(0)
  d = rng.normal(size=(6, 3)) * 4.0
  low, high = -rng.uniform(0, 2, (6, 3)), rng.uniform(0, 2, (6, 3))
  found = np.asarray(Euclidean().nearest(jnp.asarray(d), 1.5, Room(jnp.asarray(low), jnp.asarray(high))))
  for row in range(6):
    best = scipy.optimize.minimize(
        lambda p, row=row: np.sum((p - d[row])**2), np.zeros(3), bounds=list(zip(low[row], high[row], strict=True)),
        constraints=({"type": "ineq", "fun": lambda p: 1.5**2 - p @ p},), method="SLSQP", options={"ftol": 1e-12})
    np.testing.assert_allclose(found[row], best.x, atol=1e-4)


@pytest.mark.parametrize("norm", sorted(NORMS))
def test_starts_are_uniform_in_the_ball(norm):
  """A ball of half the radius has (1/2)^dims of the volume."""
  d = NORMS[norm].draw(KEY, (40_000, 3), 2.0)
  size = np.asarray(NORMS[norm].size(d))
  assert size.max() <= 2.0 + 1e-6
  np.testing.assert_allclose(np.mean(size < 1.0), 0.125, atol=0.006)


def test_no_epsilon_no_change_and_more_restarts_are_never_better_for_the_defender():
  target, batch = linear(LEVELS)
  np.testing.assert_array_equal(Attack(epsilon=0.0).run(target, KEY, batch).x, batch["x"])
  one, three = (projected_gradient(4.0, num_steps=2, num_restarts=num).run(target, KEY, batch) for num in (1, 3))
  assert np.all(np.asarray(three.loss) >= np.asarray(one.loss))


def test_the_margin_has_a_slope_where_the_cross_entropy_has_none():
  """With logits hundreds apart, 1 - p(y | x) is 0 in float32."""
  target, batch = linear(DataSpec((3,), None, num_classes=2), scale=300.0)
  x = jnp.asarray(batch["x"])
  y = jnp.argmax(target.log_probs(KEY, x), axis=1)
  flat, steep = (target.slope(loss, KEY, x, y)[1] for loss in ("cross_entropy", "margin"))
  sure = np.abs(np.asarray(flat)).max(axis=1) == 0.0
  assert sure.any() and np.all(np.abs(np.asarray(steep)).max(axis=1) > 1.0)


@pytest.mark.parametrize("model", [LogisticRegression(LEVELS), Classifier(LEVELS, ClassifierPerceptron((5,)))],
                         ids=lambda model: type(model).__name__)
def test_between_the_levels_probabilities_agree_with_those_at_them(model):
  assert isinstance(model, HasRelaxedLabelProbs)
  batch = linear(LEVELS)[1]
  params, carry = model.init(KEY, batch)
  params = jax.tree.map(lambda leaf: leaf + 0.1, params)
  x = jnp.asarray(batch["x"], jnp.float32)
  np.testing.assert_allclose(model.relaxed_log_label_probs(params, carry, x),
                             model.log_label_probs(params, carry, batch), rtol=1e-6)
  slope = jax.grad(lambda x: model.relaxed_log_label_probs(params, carry, x)[:, 0].sum())(x)
  assert np.all(np.isfinite(slope)) and np.any(slope != 0.0)
  moved = jax.random.normal(KEY, x.shape)
  ends = [model.relaxed_log_label_probs(params, carry, x + side * 1e-2 * moved)[:, 0].sum() for side in (1, -1)]
  np.testing.assert_allclose((ends[0] - ends[1]) / 2e-2, jnp.sum(slope * moved), rtol=2e-2, atol=1e-3)


def test_real_numbers_are_attacked_through_any_model_that_tells_labels():
  """Gaussian naive Bayes of equal variances is linear: one step is the worst there is."""
  model = naive_bayes(REALS)
  own = {"log_prior": jnp.log(jnp.array([0.4, 0.6])), "mean": jnp.array([[0.0, 1, 2], [1.0, 0, 0]]),
         "scale": jnp.ones((2, 3))}
  target = AttackTarget(model, {"model": own}, {})
  batch = {"x": linear(REALS)[1]["x"], "y": np.arange(8) % 2}
  found = fgsm(0.2).run(target, KEY, batch)
  toward = np.sign(np.asarray(own["mean"])[1 - batch["y"]] - np.asarray(own["mean"])[batch["y"]])
  np.testing.assert_allclose(found.x, batch["x"] + 0.2 * toward, rtol=1e-6)


class Tells:
  spec = LEVELS


def test_what_cannot_be_attacked_is_told():
  with pytest.raises(ConfigError, match=r"NaiveBayes tells labels of integers only \(spec.levels is 32\)"):
    AttackTarget(naive_bayes(LEVELS), {}, {})
  with pytest.raises(ConfigError, match="Tells tells no labels"):
    AttackTarget(Tells(), {}, {})
  target, batch = linear(LEVELS)
  with pytest.raises(SpecError, match="the batch must have labels y"):
    fgsm(1.0).run(target, KEY, {"x": batch["x"]})
  with pytest.raises(DataError, match=r"labels: the value at index \[0\] is 3, but num_classes is 3"):
    fgsm(1.0).run(target, KEY, {"x": batch["x"], "y": np.full(8, 3)})
  with pytest.raises(DataError, match=r"levels is 32"):
    fgsm(1.0).run(target, KEY, {**batch, "x": batch["x"] + np.uint8(200)})


@pytest.mark.parametrize(("fields", "message"), [
    ({"epsilon": -1.0}, "epsilon is -1.0; it must be at least 0"), ({"epsilon": np.nan}, "epsilon is nan"),
    ({"norm": "l1"}, "norm is 'l1'"), ({"num_steps": 0}, "num_steps is 0"), ({"step_size": -1.0}, "step_size is -1.0"),
    ({"num_restarts": 0, "random_start": True}, "num_restarts is 0"),
    ({"num_restarts": 2}, "random_start is False"), ({"loss": "hinge"}, "loss is 'hinge'")])
def test_settings_out_of_range_are_told(fields, message):
  with pytest.raises(ConfigError, match=message):
    Attack(**fields)
