"""The evaluator scores every example exactly once, whatever the batches, and says what kind of number it is."""

import dataclasses
import math
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gdm.dataspec import DataSpec
from gdm.errors import ConfigError, DataError, NotFiniteError, UserError
from gdm.evaluation.likelihood import evaluate_likelihood
from gdm.likelihood import Kind, LogLikelihood, LogNormalizer

KEY = jax.random.key(0)


@dataclasses.dataclass(frozen=True)
class Coins:
  """Independent coins: a known probability mass."""

  spec: DataSpec
  heads: float = 0.25
  objectives: tuple = ()

  def init(self, key, batch):
    return {}, {}

  def log_likelihood(self, params, carry, batch, key, num_samples=1):
    log_probs = jnp.where(batch["x"] > 0, math.log(self.heads), math.log(1 - self.heads))
    return LogLikelihood.of(jnp.sum(log_probs, axis=1), self.spec.num_dims)


@dataclasses.dataclass(frozen=True)
class Noisy(Coins):
  """A bound whose nats are standard normal noise, so that averaging draws has a known effect."""

  def log_likelihood(self, params, carry, batch, key, num_samples=1):
    noise = jax.random.normal(key, batch["x"].shape[:1])
    return LogLikelihood.of(noise, self.spec.num_dims, Kind.LOWER_BOUND, given=("y",))


@jax.tree_util.register_static
class CallCounter:
  """Counts on the host; static, so that it can ride in a carry through jit."""

  def __init__(self):
    self.count = 0

  def add(self):
    self.count += 1


@dataclasses.dataclass(frozen=True)
class Exp:
  """p(x) proportional to exp(theta sum(x)) on binary x; log Z = n log(1 + e^theta), handed out as told."""

  spec: DataSpec
  kinds: tuple[Kind, ...] = (Kind.EXACT,)
  stderr: float = 0.0
  offset: float = 0.0
  objectives: tuple = ()

  def init(self, key, batch):
    return {}, {}

  def unnormalized_log_prob(self, params, carry, batch):
    return params["theta"] * jnp.sum(batch["x"], axis=1)

  def log_normalizer(self, params, carry, key, examples=None):
    carry["calls"].add()
    nats = self.spec.num_dims * jnp.log1p(jnp.exp(params["theta"])) + self.offset
    return tuple(LogNormalizer(nats, jnp.asarray(self.stderr), kind) for kind in self.kinds)


def batches_of(x, size, padding=0):
  """Batches of `size`, the last one padded with the value `padding`."""
  for first in range(0, len(x), size):
    part = x[first:first + size]
    pad = [(0, size - len(part))] + [(0, 0)] * (x.ndim - 1)
    mask = np.pad(np.ones(len(part), np.float32), pad[:1])
    yield {"x": np.pad(part, pad, constant_values=padding), "mask": mask}


def bits(num, dims, seed=0):
  return np.random.default_rng(seed).integers(0, 2, (num, dims)).astype(np.uint8)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(num=st.integers(1, 23), size=st.sampled_from([1, 2, 5, 8, 30]), padding=st.integers(0, 1))
def test_neither_batch_size_nor_padding_changes_the_result(num, size, padding):
  x = bits(num, 4, seed=num)
  model = Coins(DataSpec((4,), 2))
  result = evaluate_likelihood(model, {}, {}, batches_of(x, size, padding), key=KEY, num_draws=3)
  direct = (x * math.log(0.25) + (1 - x) * math.log(0.75)).sum(axis=1)
  np.testing.assert_allclose(result.nats, direct, rtol=1e-6)
  assert result.nats.dtype == np.float64
  assert result.num_examples == num
  assert math.isclose(result.nats_mean, direct.mean(), rel_tol=1e-6)
  assert math.isclose(result.bits_per_dim, -direct.mean() / (4 * math.log(2)), rel_tol=1e-6)
  assert (result.kind, result.given, result.num_draws) == (Kind.EXACT, (), 1)  # exact numbers are not repeated


def test_uniform_coins_cost_one_bit_per_dim_with_no_spread():
  result = evaluate_likelihood(Coins(DataSpec((4,), 2), heads=0.5), {}, {}, batches_of(bits(10, 4), 4), key=KEY)
  assert math.isclose(result.bits_per_dim, 1.0, rel_tol=1e-6)
  assert result.nats_stderr == 0.0
  assert result.nats_ci95 == (result.nats_mean, result.nats_mean)


def test_a_plain_batch_without_mask_is_scored_whole():
  x = bits(6, 4)
  assert evaluate_likelihood(Coins(DataSpec((4,), 2)), {}, {}, [{"x": x}], key=KEY).num_examples == 6


@pytest.mark.parametrize("num", [2, 9])
def test_standard_errors_are_those_of_a_mean_when_all_examples_are_equally_long(num):
  result = evaluate_likelihood(Noisy(DataSpec((4,), 2)), {}, {}, batches_of(bits(num, 4), 4), key=KEY)
  stderr = np.std(result.nats, ddof=1) / math.sqrt(num)
  assert math.isclose(result.nats_stderr, stderr)
  assert math.isclose(result.bits_per_dim_stderr, stderr / (4 * math.log(2)))
  low, high = result.nats_ci95
  quantile = {2: 12.7062, 9: 2.3060}[num]  # of Student's t with one degree less
  assert math.isclose(high - low, 2 * quantile * stderr, rel_tol=1e-4)
  low, high = result.bits_per_dim_ci95
  assert math.isclose(high - low, 2 * quantile * stderr / (4 * math.log(2)), rel_tol=1e-4)
  assert math.isclose((low + high) / 2, result.bits_per_dim)


def test_the_interval_of_95_percent_covers_the_truth_as_often():
  covered = []
  for seed in range(200):
    result = evaluate_likelihood(Noisy(DataSpec((1,), 2)), {}, {}, [{"x": bits(3, 1)}], key=jax.random.key(seed))
    low, high = result.nats_ci95
    covered.append(low <= 0.0 <= high)
  assert 0.9 <= np.mean(covered) <= 0.99


def test_draws_average_in_nats_and_shrink_the_spread_per_example():
  model = Noisy(DataSpec((4,), 2))
  x = bits(400, 4)
  runs = {draws: evaluate_likelihood(model, {}, {}, batches_of(x, 100), key=KEY, num_draws=draws) for draws in (1, 25)}
  assert runs[25].num_draws == 25
  assert (runs[25].kind, runs[25].given) == (Kind.LOWER_BOUND, ("y",))
  assert math.isclose(np.std(runs[25].nats), np.std(runs[1].nats) / 5, rel_tol=0.2)
  assert math.isclose(runs[25].nats_stderr, np.std(runs[25].nats, ddof=1) / 20)


def test_randomness_is_by_draw_and_batch():
  x = bits(6, 4)
  result = evaluate_likelihood(Noisy(DataSpec((4,), 2)), {}, {}, batches_of(x, 3), key=KEY, num_draws=2)
  draws = [[jax.random.normal(jax.random.fold_in(jax.random.fold_in(KEY, draw), index), (3,)) for index in range(2)]
           for draw in range(2)]
  np.testing.assert_allclose(result.nats, np.mean(np.reshape(draws, (2, 6)), axis=0), rtol=1e-6)


def test_bits_of_unequal_lengths_are_all_bits_over_all_dims():
  @dataclasses.dataclass(frozen=True)
  class Lengths(Coins):
    def log_likelihood(self, params, carry, batch, key, num_samples=1):
      return LogLikelihood(-math.log(2) * batch["length"].astype(jnp.float32), batch["length"], Kind.EXACT)

  batch = {"x": bits(3, 4), "length": np.array([1, 2, 4], np.int32)}
  result = evaluate_likelihood(Lengths(DataSpec((4,), 2)), {}, {}, [batch], key=KEY)
  assert math.isclose(result.bits_per_dim, 1.0, rel_tol=1e-6)
  assert result.bits_per_dim_stderr < 1e-6  # each token costs one bit: the ratio is certain, the nats are not
  assert result.nats_stderr > 0.1


def test_densities_have_no_bits():
  @dataclasses.dataclass(frozen=True)
  class Normal(Coins):
    def log_likelihood(self, params, carry, batch, key, num_samples=1):
      return LogLikelihood.of(jnp.sum(jax.scipy.stats.norm.logpdf(batch["x"]), axis=1), 2)

  x = np.random.default_rng(0).normal(size=(50, 2)).astype(np.float32)
  result = evaluate_likelihood(Normal(DataSpec((2,), None)), {}, {}, batches_of(x, 16), key=KEY)
  assert result.bits_per_dim is None
  assert result.bits_per_dim_stderr is None
  assert math.isclose(result.nats_mean, np.mean(-0.5 * (x**2).sum(1) - math.log(2 * math.pi)), rel_tol=1e-5)


def test_one_example_has_no_standard_error():
  result = evaluate_likelihood(Coins(DataSpec((4,), 2)), {}, {}, batches_of(bits(1, 4), 4), key=KEY)
  assert (result.nats_stderr, result.nats_ci95, result.bits_per_dim_stderr, result.bits_per_dim_ci95) == (None,) * 4


@pytest.mark.slow
@settings(max_examples=20, deadline=None, derandomize=True)
@given(bad=st.integers(0, 12), value=st.sampled_from([np.nan, np.inf, -np.inf]), size=st.sampled_from([1, 4, 13]))
def test_what_is_not_finite_is_an_error_with_its_index_and_padding_is_none(bad, value, size):
  @dataclasses.dataclass(frozen=True)
  class Identity(Coins):
    def log_likelihood(self, params, carry, batch, key, num_samples=1):
      return LogLikelihood.of(batch["x"][:, 0], 1)

  x = np.zeros((13, 1), np.float32)
  model = Identity(DataSpec((1,), None))
  assert evaluate_likelihood(model, {}, {}, batches_of(x, size, np.nan), key=KEY).num_examples == 13
  x[bad] = value
  with pytest.raises(NotFiniteError, match=rf"example {bad} is "):
    evaluate_likelihood(model, {}, {}, batches_of(x, size), key=KEY)


def exp_result(num=40, **fields):
  model = Exp(DataSpec((3,), 2), **fields)
  carry = {"calls": CallCounter()}
  x = bits(num, 3)
  result = evaluate_likelihood(model, {"theta": jnp.asarray(0.7)}, carry, batches_of(x, 16), key=KEY, num_draws=5)
  return result, carry, x


def test_unnormalized_models_are_normalized_once_and_sum_to_one():
  result, carry, x = exp_result()
  log_z = 3 * math.log1p(math.exp(0.7))
  np.testing.assert_allclose(result.nats, 0.7 * x.sum(1, dtype=float) - log_z, rtol=1e-6)
  assert carry["calls"].count == 1
  assert (result.kind, result.num_draws) == (Kind.EXACT, 1)
  every = np.array([[a, b, c] for a in (0, 1) for b in (0, 1) for c in (0, 1)], np.uint8)
  total = evaluate_likelihood(Exp(DataSpec((3,), 2)), {"theta": jnp.asarray(0.7)}, {"calls": CallCounter()},
                              batches_of(every, 3), key=KEY)
  assert math.isclose(np.exp(total.nats).sum(), 1.0, rel_tol=1e-6)


@pytest.mark.parametrize(("of_log_z", "of_log_p"), [
    (Kind.EXACT, Kind.EXACT), (Kind.LOWER_BOUND, Kind.UPPER_BOUND), (Kind.UPPER_BOUND, Kind.LOWER_BOUND),
    (Kind.ESTIMATE, Kind.ESTIMATE)])
def test_a_bound_on_log_z_bounds_log_p_from_the_other_side(of_log_z, of_log_p):
  assert exp_result(kinds=(of_log_z,))[0].kind is of_log_p


def test_the_variance_of_log_z_does_not_shrink_with_the_split():
  without, _, _ = exp_result(num=4000)
  result, _, _ = exp_result(num=4000, stderr=0.5)
  assert math.isclose(result.nats_stderr**2, without.nats_stderr**2 + 0.25)
  assert result.nats_stderr >= 0.5
  assert math.isclose(result.bits_per_dim_stderr, result.nats_stderr / (3 * math.log(2)))


def test_further_estimates_of_log_z_are_kept():
  result, carry, _ = exp_result(kinds=(Kind.UPPER_BOUND, Kind.LOWER_BOUND))
  assert result.kind is Kind.LOWER_BOUND
  assert [other.kind for other in result.alternatives] == [Kind.UPPER_BOUND]
  assert carry["calls"].count == 1


def test_a_log_z_that_is_not_finite_is_an_error():
  with pytest.raises(NotFiniteError, match="log Z is nan"):
    exp_result(offset=math.nan)


def test_evaluating_again_compiles_nothing():
  traces = []

  @dataclasses.dataclass(frozen=True)
  class Traced(Coins):
    def log_likelihood(self, params, carry, batch, key, num_samples=1):
      traces.append(num_samples)
      return super().log_likelihood(params, carry, batch, key)

  for _ in range(3):
    evaluate_likelihood(Traced(DataSpec((4,), 2)), {}, {}, batches_of(bits(10, 4), 4), key=KEY)
  assert traces == [1]


def test_what_cannot_be_scored_is_a_user_error():
  model = Coins(DataSpec((4,), 2))
  silent = types.SimpleNamespace(spec=model.spec, objectives=(), init=model.init)
  with pytest.raises(UserError, match="neither log_likelihood nor"):
    evaluate_likelihood(silent, {}, {}, batches_of(bits(3, 4), 4), key=KEY)
  with pytest.raises(DataError, match="no examples"):
    evaluate_likelihood(model, {}, {}, [], key=KEY)
  with pytest.raises(DataError, match="3 examples were scored, but the split has 4"):
    evaluate_likelihood(model, {}, {}, batches_of(bits(3, 4), 4), key=KEY, num_examples=4)
  with pytest.raises(ConfigError, match=r"evaluation\.num_draws is 0"):
    evaluate_likelihood(model, {}, {}, batches_of(bits(3, 4), 4), key=KEY, num_draws=0)


def test_a_sampler_without_a_likelihood_is_sent_to_measures_of_its_samples():
  @dataclasses.dataclass(frozen=True)
  class Sampler:
    spec: DataSpec = DataSpec((2,), None)
    objectives: tuple = ()

    def init(self, key, batch):
      return {}, {}

    def sample(self, params, carry, key, num, condition=None):
      raise NotImplementedError

  with pytest.raises(ConfigError, match=r"Sampler has no likelihood to evaluate: .*What it has: samples .* whose "
                                        r"quality experiments\.quality measures\."):
    evaluate_likelihood(Sampler(), {}, {}, [], key=KEY)
