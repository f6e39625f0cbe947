"""Recorded reals: where values repeat, and probabilities of cells, which are at most 1 however narrow the peaks are."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from gdm.dataspec import DataSpec
from gdm.errors import SpecError
from gdm.evaluation.recording import OverCells, Recording
from gdm.likelihood import Kind, LogLikelihood

STEP, ORIGIN = (0.5, 0.25), (0.0, 0.125)


@dataclasses.dataclass(frozen=True)
class Peaks:
  """An equal mixture of normals of one deviation about `centres`."""

  centres: tuple
  deviation: float
  kind: Kind = Kind.EXACT
  unbiased: bool = False
  levels: int | None = None
  objectives: tuple = ()

  @property
  def spec(self):
    return DataSpec((2,), self.levels)

  def log_likelihood(self, params, carry, batch, key, num_samples=1):
    centres = jnp.asarray(self.centres)
    each = jax.scipy.stats.norm.logpdf(batch["x"][:, None], centres, self.deviation).sum(axis=-1)
    nats = jax.nn.logsumexp(each, axis=1) - jnp.log(len(self.centres))
    return LogLikelihood.of(nats, 2, self.kind, unbiased=self.unbiased)


def cells(model, x, repeats=200):
  """Mean over draws of the estimated log-probability, and of the probability."""
  over = OverCells(model, STEP, ORIGIN)
  call = jax.jit(jax.vmap(lambda key: over.log_likelihood({}, {}, {"x": x}, key).nats))
  nats = np.asarray(call(jax.random.split(jax.random.key(0), repeats)), np.float64)
  return nats.mean(axis=0), np.exp(nats).mean(axis=0)


def true_probabilities(model, x):
  middle = np.array(ORIGIN) + np.array(STEP) * np.round((x - ORIGIN) / np.array(STEP))
  ends = [stats.norm.cdf((middle[:, None] + side * 0.5 * np.array(STEP) - np.array(model.centres)) / model.deviation)
          for side in (1, -1)]
  return np.prod(ends[0] - ends[1], axis=-1).mean(axis=1)


@pytest.mark.fast_cases("0.002")
@pytest.mark.parametrize("deviation", [1.0, 0.1, 0.002])  # much wider than a cell, as wide, and much narrower
def test_the_probability_of_a_cell_is_the_integral_over_it(deviation):
  model = Peaks(((0.0, 0.125), (0.6, 0.4)), deviation)
  x = np.array([[0.0, 0.125], [0.6, 0.4]], np.float32)  # the second is not in the middle of its cell
  log_mean, mean = cells(model, x)
  expected = true_probabilities(model, x)
  np.testing.assert_allclose(mean, expected, rtol=0.1)
  assert np.all(log_mean <= np.log(expected) + 0.03)


def test_cells_tile_the_plane():
  model = Peaks(((0.1, 0.2),), 0.4)
  x = np.array(list(itertools.product(np.arange(-8, 9) * STEP[0] + ORIGIN[0],
                                      np.arange(-16, 17) * STEP[1] + ORIGIN[1])), np.float32)
  log_mean, mean = cells(model, x, 20)
  np.testing.assert_allclose(mean.sum(), 1.0, rtol=0.02)
  assert np.exp(log_mean).sum() <= 1.01


@pytest.mark.slow
def test_peaks_on_recorded_values_raise_the_density_without_end_and_no_probability_above_one():
  x = np.array([[0.0, 0.125], [0.5, 0.375]], np.float32)
  densities = []
  for deviation in (0.1, 0.01, 0.003):
    model = Peaks(tuple(map(tuple, x.tolist())), deviation)
    densities.append(float(model.log_likelihood({}, {}, {"x": x}, None).nats.mean()))
    log_mean, _ = cells(model, x)
    assert np.all(log_mean <= 0.0)
  assert densities[2] > densities[1] + 2.0 > densities[0] + 4.0
  assert np.all(log_mean > np.log(0.5) - 0.5)  # half of the mass is in either cell


@pytest.mark.fast_cases(
    "lower_bound-True-lower_bound", "lower_bound-False-estimate", "estimate-False-estimate",
    "upper_bound-False-estimate")
@pytest.mark.parametrize(("kind", "unbiased", "expected"), [
    (Kind.EXACT, False, Kind.LOWER_BOUND), (Kind.LOWER_BOUND, True, Kind.LOWER_BOUND),
    (Kind.LOWER_BOUND, False, Kind.ESTIMATE), (Kind.ESTIMATE, False, Kind.ESTIMATE),
    (Kind.UPPER_BOUND, False, Kind.ESTIMATE)])
def test_the_kind_of_a_cell_s_probability(kind, unbiased, expected):
  model = Peaks(((0.0, 0.0),), 1.0, kind, unbiased)
  found = OverCells(model, STEP, ORIGIN, 5).log_likelihood({}, {}, {"x": np.zeros((2, 2), np.float32)},
                                                           jax.random.key(0))
  assert found.kind is expected


def test_what_has_no_cells_is_refused():
  with pytest.raises(SpecError, match="needs continuous data"):
    OverCells(Peaks(((0.0, 0.0),), 1.0, levels=2), STEP, ORIGIN)
  with pytest.raises(SpecError, match="num_points is 6"):
    OverCells(Peaks(((0.0, 0.0),), 1.0), STEP, ORIGIN, 6)


def test_repeated_values_are_counted_in_each_column_whatever_the_order():
  rng = np.random.default_rng(0)
  x = np.stack([rng.normal(size=500), np.round(rng.normal(size=500), 1), np.arange(500.0)], axis=1).astype(np.float32)
  x[:100, 2] = 7.0  # a spike, and one more 7
  found, again = (Recording.of(rows) for rows in (x, x[rng.permutation(500)]))
  counts = [np.unique(column, return_counts=True)[1] for column in x.T]
  np.testing.assert_allclose(found.repeated, [sum(count[count > 1]) / 500 for count in counts])
  np.testing.assert_allclose(found.step[1], 0.1, rtol=1e-2)
  assert found.is_unbounded and found.repeated[0] == 0.0
  for name in ("step", "origin", "repeated"):
    np.testing.assert_array_equal(getattr(found, name), getattr(again, name))
  assert not Recording.of(x[:, :1]).is_unbounded
