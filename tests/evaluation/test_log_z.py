"""What a log Z adds to the scores of a split: its kind by its error, its interval, and what refutes a lower end."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gdm.dataspec import DataSpec
from gdm.errors import NotFiniteError
from gdm.evaluation.likelihood import evaluate_likelihood
from gdm.evaluation.report import build_report, one_line
from gdm.evaluation.split_likelihood import SplitLikelihood
from gdm.likelihood import Kind, LogLikelihood, LogNormalizer, mix

KEY = jax.random.key(0)
X = np.zeros((6, 2), np.float32)
PLANE = DataSpec((2,), None)


@dataclasses.dataclass(frozen=True, eq=False)  # models are static, and arrays can't be compared
class Given:
  """Scores of 0 nats, and a log Z, as they are given."""

  own: LogLikelihood | None = None
  log_z: LogNormalizer | None = None
  spec: DataSpec = PLANE
  objectives: tuple = ()

  def init(self, key, batch):
    return {}, {}


class Normalized(Given):

  def log_likelihood(self, params, carry, batch, key, num_samples=1):
    return self.own


class Unnormalized(Given):

  def unnormalized_log_prob(self, params, carry, batch):
    return jnp.zeros(len(batch["x"]))

  def log_normalizer(self, params, carry, key, examples=None):
    return (self.log_z,)


class Both(Normalized, Unnormalized):
  pass


def scored(model):
  return evaluate_likelihood(model, {}, {}, [{"x": X}], key=KEY)


def log_z(nats=0.0, stderr=0.0, kind=Kind.EXACT, **fields):
  return LogNormalizer(jnp.asarray(nats), jnp.asarray(stderr), kind, **fields)


def raised(nats, kind=Kind.SAMPLER_BOUND, **fields):
  return LogLikelihood.of(jnp.asarray(nats, jnp.float32), 2, kind, **fields)


@pytest.mark.fast_cases("0.011-estimate")
@pytest.mark.parametrize("error, kind", [(0.0, Kind.EXACT), (0.009, Kind.EXACT), (0.011, Kind.ESTIMATE)])
def test_an_exact_number_that_is_off_by_more_than_a_hundredth_is_an_estimate(error, kind):
  found = scored(Unnormalized(log_z=log_z(stderr=error)))
  assert found.kind is kind and found.log_z.kind is kind
  # By a model that normalizes itself, whose error is known once it is computed, as good as by its log Z.
  errors = jnp.array([0.0, error, 0.0, 0.0, 0.0, 0.0])
  own = dataclasses.replace(raised(np.zeros(6), Kind.EXACT), error=errors)
  found = scored(Normalized(own=own))
  assert found.kind is kind and found.normalizer_stderr == pytest.approx(error)
  # And through a mixture, under jit, with one that has no error.
  mixed = jax.jit(lambda own: mix([own, raised(np.zeros(6), Kind.EXACT)], np.log([0.5, 0.5])))(own)
  assert mixed.kind is Kind.EXACT and float(mixed.error.max()) == pytest.approx(error)
  assert scored(Normalized(own=mixed)).kind is kind


class Looking(Unnormalized):
  """Its log f is the first value of an example, and its log Z the highest at which it looked."""

  def unnormalized_log_prob(self, params, carry, batch):
    return jnp.asarray(batch["x"])[:, 0]

  def log_normalizer(self, params, carry, key, examples=None):
    return (log_z(np.max(examples, initial=-np.inf)),)


@pytest.mark.parametrize("peak", [0, 150, 4999])
def test_log_z_is_held_against_the_whole_split_not_the_first_batch(peak, monkeypatch):
  monkeypatch.setattr("gdm.evaluation.likelihood.MAX_EXAMPLES", 100)
  x = np.random.default_rng(0).normal(size=(5000, 2)).astype(np.float32)
  x[peak] = 50.0
  padded = np.concatenate([x, np.full((500, 2), 99.0, np.float32)]).reshape(11, 500, 2)  # padding is no example
  batches = [{"x": part, "mask": np.full(500, index < 10, np.float32)} for index, part in enumerate(padded)]
  assert evaluate_likelihood(Looking(), {}, {}, batches, key=KEY).log_z.nats == 50.0


def test_padding_has_no_error():
  own = dataclasses.replace(raised(np.zeros(6), Kind.EXACT), error=jnp.array([0.0, 0, 0, 0, 0, jnp.nan]))
  batch = {"x": X, "mask": np.array([1, 1, 1, 1, 1, 0], np.float32)}
  assert evaluate_likelihood(Normalized(own=own), {}, {}, [batch], key=KEY).kind is Kind.EXACT
  with pytest.raises(NotFiniteError, match="numerical error of the log-likelihood of example 5 is nan"):
    scored(Normalized(own=own))


def test_bounds_and_estimates_keep_their_kind_whatever_their_error():
  for kind in (Kind.LOWER_BOUND, Kind.UPPER_BOUND, Kind.ESTIMATE, Kind.SAMPLER_BOUND):
    assert kind.within(5.0) is kind


def test_the_interval_of_the_scores_contains_that_of_log_z():
  found = scored(Unnormalized(log_z=log_z(3.0, 0.1, Kind.LOWER_BOUND, interval=jnp.array([2.8, 5.0]),
                                          effective_sample_size=jnp.asarray(7.5))))
  assert found.kind is Kind.UPPER_BOUND and found.nats_mean == -3.0
  low, high = found.nats_ci95
  assert low <= -5.0 + 1e-6 and -2.8 - 1e-6 <= high < -2.5  # not symmetric: what annealing overlooks is one-sided
  assert found.log_z.effective_sample_size == 7.5
  # What takes a standard error only is given one that covers the wider side.
  assert 1.96 * found.nats_stderr >= 2.0 - 1e-3
  report = report_of(found)
  assert report["log_z"] == {"nats": 3.0, "stderr": pytest.approx(0.1), "ci95": pytest.approx([2.8, 5.0]),
                             "kind": "lower_bound", "effective_sample_size": 7.5}


def test_an_interval_that_is_not_finite_is_an_error():
  with pytest.raises(NotFiniteError, match=r"log Z is 3\.0, in an interval from 2\.0 to inf"):
    scored(Unnormalized(log_z=log_z(3.0, 0.1, interval=jnp.array([2.0, jnp.inf]))))


report_of = functools.partial(build_report, model="rbm", dataset="bits", split="test", step=1, data_fingerprint="ab",
                              parameters="live", num_params=1, train_seconds=1.0, evaluation={})


def both(own, by_log_z, stderr=0.01, kind=Kind.SAMPLER_BOUND, of_log_z=Kind.LOWER_BOUND):
  return scored(Both(own=raised(own, kind), log_z=log_z(-by_log_z, stderr, of_log_z)))


NOISY = np.array([-0.1, 0.1, -0.2, 0.2, 0.0, 0.0])


def test_a_sampler_s_bound_that_log_z_contradicts_is_refuted():
  found = both(-10.0 + NOISY, -12.0)
  assert found.refuted and found.apart == pytest.approx(-2.0) and found.bracket is None
  report = report_of(found)
  assert report["kind"] == "lower_bound_of_sampler" and report["upper_end"]["refuted"] is True
  assert "bracket_nats" not in report
  assert ("refuted as a bound of log p: by log Z that is at most -12.0000 nats, 2.0000 nats "
          "below, ") in one_line(report)


@pytest.mark.fast_cases("-10.1-0.01", "-12.0-2.0")
@pytest.mark.parametrize("by_log_z, stderr", [(-9.95, 0.01), (-10.1, 0.01), (-12.0, 2.0)])
def test_noise_refutes_nothing(by_log_z, stderr):
  found = both(-10.0 + NOISY, by_log_z, stderr)
  assert not found.refuted and found.bracket is None
  line = one_line(report_of(found))
  assert "refuted" not in line and "log p itself is bounded from above only, by log Z, " in line


def test_a_lower_bound_of_log_p_makes_a_bracket():
  found = both(-10.0 + NOISY, -9.0, kind=Kind.LOWER_BOUND)
  assert found.bracket == found.apart == pytest.approx(1.0)
  assert "the other end 1.0000 nats above" in one_line(report_of(found))


def test_integers_by_annealing_have_no_upper_end():
  found = both(-10.0 + NOISY, -9.0, of_log_z=Kind.ESTIMATE)  # dequantized, and log Z from below
  assert found.upper_end is None and found.apart is None and not found.refuted
  assert "otherwise -9.0000 nats, estimate, so that log p has no upper end" in one_line(report_of(found))


@pytest.mark.fast_cases(
    "lower_bound_of_sampler-lower_bound--10.0--12.0--12.0", "lower_bound_of_sampler-lower_bound--10.0--9.0--10.0")
@pytest.mark.parametrize("kind, of_log_z, own, by_log_z, chosen", [
    (Kind.SAMPLER_BOUND, Kind.LOWER_BOUND, -10.0, -12.0, -12.0),
    (Kind.SAMPLER_BOUND, Kind.LOWER_BOUND, -10.0, -9.0, -10.0),
    (Kind.SAMPLER_BOUND, Kind.ESTIMATE, -10.0, -12.0, -12.0),  # of integers
    (Kind.LOWER_BOUND, Kind.LOWER_BOUND, -10.0, -10.1, -10.0),  # a bound stays one, and noise crosses
])
def test_checkpoints_are_chosen_by_the_lower_of_both(kind, of_log_z, own, by_log_z, chosen):
  assert both(np.full(6, own), by_log_z, kind=kind, of_log_z=of_log_z).pessimistic_nats == pytest.approx(chosen)


def test_exact_scores_are_chosen_by_themselves():
  learned = SplitLikelihood(np.array([-20.0]), np.array([2]), Kind.ESTIMATE, (), 1, False)
  exact = SplitLikelihood(np.array([-10.0]), np.array([2]), Kind.EXACT, (), 1, False, alternatives=(learned,))
  assert exact.pessimistic_nats == -10.0


def test_a_missed_mode_is_told():
  found = scored(Both(own=raised(np.full(6, -10.0)), log_z=log_z(12.0, 0.1, Kind.LOWER_BOUND,
                                                                 missed=jnp.asarray(0.9))))
  report = report_of(found)
  assert report["alternatives"][0]["log_z"]["missed_share"] == pytest.approx(0.9)
  assert "a mode was missed: 90 % of Z is where annealing from the base never comes" in one_line(report)
