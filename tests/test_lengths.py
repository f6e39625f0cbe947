"""Padding is no data, for any model there is: one that does not heed lengths refuses them when it is made."""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from helpers.enumeration import states_of
from helpers.small_models import COMPOSED, SMALL, SOLVED, some_parameters

from gdm.data.dataset import Dataset
from gdm.dataspec import DataSpec
from gdm.errors import DataError, NotFiniteError, SpecError
from gdm.evaluation.likelihood import evaluate_likelihood
from gdm.evaluation.ranking import scores
from gdm.likelihood import Kind, LogLikelihood, mix
from gdm.runs import defaults
from gdm.runs.registry import MODELS, build_model
from gdm.runs.trained import TrainedRun

KEY = jax.random.key(0)
SETTINGS = {**SMALL, **SOLVED, **COMPOSED}
HEEDING = ("independent", "markov", "ngram", "ensemble", "token_ensemble", "recurrent", "recurrent_frames",
           "transformer", "wavenet", "masked", "ardm")
BOUNDED = ("latent_frames",)  # heeds lengths and gives a bound: tests/latent/test_latent_frames.py
# Settings of those whose small instance is of images, or scored by a bound.
OF_SEQUENCES = {name: {"network": {"name": "mlp", "hidden": (6,)}, "likelihood": "exact"}
                for name in ("masked", "ardm")}
SLOWLY = ("transformer", "recurrent_frames", "wavenet", "ardm")
OF_SEQUENCES["recurrent_frames"] = {"frame": {"name": "nade", "hidden": 4}, "network": {"width": 5}}
# Of every kind that some model takes, beside the one that its small instance has.
KINDS = [DataSpec((4,), 3), DataSpec((4,), 2), DataSpec((4,), None, num_classes=2),
         DataSpec((4, 4, 1), 3, num_classes=2)]
SEQUENCES = DataSpec((4,), 3, has_lengths=True)


def test_every_model_is_among_them():
  assert set(SETTINGS) == set(MODELS)


@pytest.mark.fast_cases(
    "bayesian_network", "block_mixture", "chow_liu", "ddpm", "diagonal_bilstm", "ebm", "edm", "flow_matching",
    "fvsbn", "gated_pixelcnn", "gaussian_mixture", "gaussian_rbm", "glow", "iaf", "ising", "jem", "made", "maf",
    "mixture", "mlp", "nade", "ncsn", "nice", "pixelcnn", "pixelcnn_pp", "pixelsnail", "product", "rbm", "realnvp",
    "rnade", "row_lstm", "score_sde", "spline_autoregressive", "spline_coupling", "table", "tilted", "vdm")
@pytest.mark.parametrize("name", sorted(set(MODELS) - {*HEEDING, *BOUNDED}))
def test_other_models_refuse_lengths_when_they_are_made(name):
  settings, spec = SETTINGS[name]
  build_model({"name": name, **settings}, spec)
  with pytest.raises(SpecError, match="takes every example whole, but the data has lengths"):
    build_model({"name": name, **settings}, dataclasses.replace(spec, has_lengths=True))
  for kind in KINDS:
    with pytest.raises(SpecError):
      build_model({"name": name, **settings}, dataclasses.replace(kind, has_lengths=True))


@functools.cache
def built(name):
  settings = OF_SEQUENCES.get(name) or SETTINGS[name][0]
  model = build_model({"name": name, **settings}, SEQUENCES)
  rng = np.random.default_rng(0)
  batch = {"x": rng.integers(0, 3, (20, 4)).astype(np.uint8), "length": rng.integers(1, 5, 20).astype(np.int32)}
  return model, some_parameters(model, batch)


@functools.partial(jax.jit, static_argnums=0)
def score(model, params, carry, batch):
  return model.log_likelihood(params, carry, batch, KEY)


@pytest.mark.fast_cases("markov")
@pytest.mark.parametrize("name", [
    pytest.param(name, marks=[pytest.mark.slow] * (name in SLOWLY)) for name in HEEDING])
def test_the_others_score_what_is_real(name):
  model, (params, carry) = built(name)
  states = [states_of(DataSpec((length,), 3)) for length in range(1, 5)]
  length = np.repeat(np.arange(1, 5), list(map(len, states))).astype(np.int32)
  x = np.concatenate([np.pad(part, ((0, 0), (0, 4 - part.shape[1]))) for part in states])
  first = score(model, params, carry, {"x": x, "length": length})
  np.testing.assert_array_equal(first.num_dims, length)
  sums = np.bincount(length, np.exp(np.asarray(first.nats, np.float64)))[1:]
  np.testing.assert_allclose(sums, 1.0, rtol=1e-4)
  for padding in (2, 3, 99, -1):  # even what is no value at all
    other = score(model, params, carry, {"x": np.where(np.arange(4) < length[:, None], x, padding), "length": length})
    np.testing.assert_array_equal(other.nats, first.nats)
  found = evaluate_likelihood(model, params, carry, [{"x": x, "length": length}], key=KEY)
  np.testing.assert_array_equal(found.num_dims, length)
  assert np.isnan(score(model, params, carry, {"x": x[-3:], "length": np.array([0, 5, -1], np.int32)}).nats).all()


@pytest.mark.parametrize("name", ["independent", "markov", "ngram"])
def test_what_is_fitted_to_does_not_depend_on_padding(name):
  model, (params, _) = built(name)
  rng = np.random.default_rng(0)
  batch = {"x": rng.integers(0, 3, (20, 4)).astype(np.uint8), "length": rng.integers(1, 5, 20).astype(np.int32)}
  padded = {**batch, "x": np.where(np.arange(4) < batch["length"][:, None], batch["x"], 200).astype(np.uint8)}
  jax.tree.map(np.testing.assert_array_equal, model.solve(KEY, [padded])[0], params)


def test_a_batch_with_lengths_is_refused_by_a_model_that_knows_of_none():
  batch = {"x": np.zeros((2, 4), np.uint8), "length": np.array([1, 4])}
  for name in ("made", "markov", "mixture", "independent"):
    model = build_model({"name": name}, DataSpec((4,), 3))
    params, carry = jax.eval_shape(model.init, KEY, batch)
    with pytest.raises(DataError, match="the batch has lengths, but the spec says nothing of them"):
      jax.eval_shape(model.log_likelihood, params, carry, batch, KEY)
  with pytest.raises(DataError, match="the batch has lengths, but the spec says nothing of them"):
    model.solve(KEY, [batch])


@dataclasses.dataclass(frozen=True)
class Careless:
  """Somebody's own model, that neither looks at lengths nor at values."""

  spec: DataSpec
  objectives = ()

  def init(self, key, batch):
    return {}, {}

  def log_likelihood(self, params, carry, batch, key, num_samples=1):
    return LogLikelihood.of(-jnp.ones(len(batch["x"])), self.spec.num_dims)


def test_evaluation_lets_no_model_score_padding_nor_values_that_there_are_none_of():
  batch = {"x": np.zeros((3, 4), np.uint8), "length": np.array([4, 2, 4])}
  with pytest.raises(DataError, match="scored 4 dimensions of example 1, of which 2 are real: it takes padding"):
    evaluate_likelihood(Careless(SEQUENCES), {}, {}, [batch], key=KEY)
  with pytest.raises(NotFiniteError, match="of example 5 is nan"):
    good, bad = np.zeros((3, 4), np.int32), np.eye(3, 4, -2, np.int32) * 3
    evaluate_likelihood(Careless(DataSpec((4,), 3)), {}, {}, [{"x": good}, {"x": bad}], key=KEY)


@pytest.mark.slow
def test_a_mixture_is_the_same_in_any_order_of_its_parts():
  rng = np.random.default_rng(0)
  parts = [LogLikelihood(jnp.asarray(rng.normal(size=4), jnp.float32), jnp.arange(1, 5), Kind.EXACT) for _ in range(3)]
  weights = np.log([0.2, 0.3, 0.5])
  found = [mix([parts[i] for i in order], weights[list(order)]) for order in itertools.permutations(range(3))]
  for other in found:
    np.testing.assert_allclose(other.nats, found[0].nats, rtol=1e-6)
    np.testing.assert_array_equal(other.num_dims, [1, 2, 3, 4])


@pytest.mark.slow
def test_parts_that_count_other_dimensions_are_not_mixed():
  whole, real = LogLikelihood.of(jnp.zeros(3), 4), LogLikelihood(jnp.zeros(3), jnp.array([4, 2, 4]), Kind.EXACT)
  with pytest.raises(SpecError, match="of example 1 they count 4, 2; one takes padding for data"):
    mix([whole, real], np.zeros(2))
  for pair in ((whole, real), (real, whole)):  # where nothing can be raised it is NaN, which no report lets pass
    found = jax.jit(lambda *parts: mix(parts, np.zeros(2)))(*pair)
    assert np.isnan(np.asarray(found.nats)).tolist() == [False, True, False]
    np.testing.assert_array_equal(found.num_dims, [4, 4, 4])


def test_a_run_of_sequences_scores_nothing_but_what_is_real():
  rng, model = np.random.default_rng(0), build_model({"name": "ngram", "order": 2}, SEQUENCES)
  rows = {"x": rng.integers(0, 3, (6, 4)).astype(np.uint8), "length": np.array([1, 2, 3, 4, 4, 2], np.int32)}
  params, carry = model.solve(KEY, [rows])
  config = defaults.get_config()
  config.model.name = "ngram"
  run = TrainedRun.of(config, Dataset("lines", SEQUENCES, {"train": rows, "test": rows}), model, params, carry)
  expected = model.log_likelihood(params, carry, rows, KEY).nats
  np.testing.assert_allclose(run.log_likelihood(rows["x"], length=rows["length"]).nats, expected, rtol=1e-6)
  with pytest.raises(DataError, match=r"lines have lengths, .* give length, .*: np.full\(6, 4\) where all are"):
    run.log_likelihood(rows["x"])
  with pytest.raises(SpecError, match="NGram have lengths"):
    scores(model, params, carry, rows["x"], KEY, 4)


def test_labels_of_sequences_are_told_by_what_is_real():
  spec = dataclasses.replace(SEQUENCES, num_classes=2)
  model = build_model({"name": "recurrent", "network": {"num_layers": 1, "width": 3}, "class_conditional": True}, spec)
  rows = {"x": np.array([[0, 1, 2, 2], [0, 1, 0, 1]], np.uint8), "length": np.array([2, 2], np.int32),
          "y": np.array([0, 1], np.int32)}
  config = defaults.get_config()
  config.model.name = "recurrent"
  run = TrainedRun.of(config, Dataset("lines", spec, {"train": rows}), model, *some_parameters(model, rows, scale=1.0))
  found = run.log_label_probs(rows["x"], length=rows["length"])
  np.testing.assert_allclose(found[0], found[1], rtol=1e-5)  # they differ in padding alone
  assert abs(found[0, 0] - found[0, 1]) > 1e-3
  with pytest.raises(DataError, match="give length"):
    run.labels(rows["x"])
