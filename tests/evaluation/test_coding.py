"""What is coded comes back exactly, costs what the model says, and opens with nothing else."""

import dataclasses
import functools

import jax
import numpy as np
import pytest
from helpers.small_models import SMALL, small_model
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from gdm.dataspec import DataSpec
from gdm.errors import ConfigError, DataError, NotFiniteError, SpecError
from gdm.evaluation.coding import container, files
from gdm.evaluation.coding.chains import chain_of
from gdm.evaluation.coding.coder import Coder
from gdm.evaluation.coding.files import Coding, Examples
from gdm.evaluation.coding.tables import TOTAL, Stack, bits, quantize, uniform
from gdm.evaluation.leaderboard import collect
from gdm.evaluation.leaderboard_tables import render
from gdm.evaluation.report import write_report
from gdm.model import HasComponents, HasConditionals, HasVariables
from gdm.runs.registry import build_model

BLOCKS = DataSpec((10,), 2, None, ((0, 1, 2, 3), (4,), (5, 7, 9), (6, 8)))
SLACK = 72  # bits: what is left of the stack's top, in words of 32

# Besides the smallest of every model: levels, orders, blocks, and mixtures over orders and masks.
MORE = {
    "fvsbn of levels": ("fvsbn", {"ordering": "random"}, DataSpec((3, 3), 5)),
    "nade of blocks": ("nade", {"hidden": 8}, BLOCKS),
    "mlp of blocks with many escapes": ("mlp", {"hidden": (4,), "fallback": 0.2, "ordering": "random"}, BLOCKS),
    "made of orders": ("made", {"network": {"hidden": (16,)}, "num_orderings": 3}, DataSpec((3, 3), 4)),
    "made of masks and blocks": ("made", {"network": {"hidden": (9,)}, "num_masks": 2}, BLOCKS),
    "made of both": ("made", {"network": {"hidden": (9,)}, "num_masks": 2, "num_orderings": 4}, DataSpec((6,), 2)),
}


# Random examples lie so far out in its logistics' tails that a table's least probability codes them for less.
CONFIDENT = ("pixelcnn_pp",)


def is_chain(name):
  return isinstance(small_model(name), HasConditionals | HasVariables | HasComponents) and SMALL[name][1].is_discrete


@functools.cache
def trained(name):
  """A model with parameters far from where they start."""
  kind, fields, spec = MORE.get(name) or (name, {}, None)
  model = build_model({"name": kind, **fields}, spec) if spec else small_model(name)
  x = np.random.default_rng(0).integers(0, model.spec.levels, (20, *model.spec.event)).astype(np.uint8)
  params, carry = jax.jit(model.init)(jax.random.key(0), {"x": x})
  rng = np.random.default_rng(1)
  return model, jax.tree.map(lambda leaf: leaf + rng.normal(0.0, 0.3, leaf.shape).astype(np.float32), params), carry


def drawn(name, num):
  """Random examples; of blocks, with at most one member each but for the first example, which has all."""
  spec, rng = trained(name)[0].spec, np.random.default_rng(2)
  x = rng.integers(0, spec.levels, (num, *spec.event)).astype(np.uint8)
  for block in spec.blocks:
    x[1:, block] &= np.arange(len(block)) == rng.integers(0, len(block), (num - 1, 1))
    x[0, block] = 1
  return x


def sampled(name, num):
  """Examples that the model finds likely."""
  model, params, carry = trained(name)
  return np.asarray(jax.jit(lambda: model.sample(params, carry, jax.random.key(3), num).x)(), np.uint8)


def claimed_bits(name, batch):
  model, params, carry = trained(name)
  return -float(np.sum(jax.jit(model.log_likelihood)(params, carry, batch, jax.random.key(0)).nats)) / np.log(2.0)


def coding_of(name):
  model, params, carry = trained(name)
  return Coding(model, {"name": name}, params, carry, 7, True)


# Tables


@given(npst.arrays(np.float32, st.tuples(st.integers(1, 4), st.integers(1, 60)),
                   elements=st.floats(0.0, 1.0, width=32)))
def test_tables_sum_up_and_cost_what_the_probabilities_do(weights):
  weights[:, 0] = np.maximum(weights[:, 0], np.float32(1e-6))
  probs = (weights / weights.sum(axis=1, keepdims=True, dtype=np.float64)).astype(np.float32)
  tables = quantize(probs)
  assert tables.min() >= 1 and (tables.sum(axis=1) == TOTAL).all()
  np.testing.assert_array_equal(tables, quantize(probs.copy()))
  exact = probs.astype(np.float64) / probs.sum(axis=1, keepdims=True, dtype=np.float64)
  for symbol in range(probs.shape[1]):
    cost = bits(tables, np.full(len(probs), symbol))
    claim = -np.log2(np.maximum(exact[:, symbol], 2.0**-24))
    assert (cost <= claim - np.log2(1.0 - probs.shape[1] / TOTAL) + 1e-4).all()


@pytest.mark.parametrize("probs", [[[0.5, np.nan]], [[-0.1, 1.1]], [[0.0, 0.0]], [[np.inf, 0.0]]])
def test_no_table_is_made_of_what_is_no_distribution(probs):
  with pytest.raises(ValueError, match="probabilit"):
    quantize(np.array(probs, np.float32))


@pytest.mark.parametrize("num", [2, 3, 17, 256])
def test_a_stack_costs_what_its_tables_say_to_the_last_unit(num):
  rng = np.random.default_rng(num)
  state = int(rng.integers(2**32, 2**38))
  for _ in range(50):
    table = quantize(rng.dirichlet(np.full(num, 0.1)))
    stack = Stack(np.array([state & 0xFFFFFFFF, state >> 32], np.uint32))
    (symbol,) = stack.pop(table[None])
    ends = np.cumsum(table)
    place = state % TOTAL
    assert symbol == np.searchsorted(ends, place, "right")
    after = (state >> 24) * int(table[symbol]) + place - int(ends[symbol] - table[symbol])
    assert sum(int(word) << 32 * index for index, word in enumerate(stack.words())) == after


@given(st.integers(0, 2**32), st.lists(st.integers(0, 4), max_size=30))
def test_popping_and_pushing_back_leaves_the_stack_as_it_was(seed, below):
  rng = np.random.default_rng(seed)
  stack = Stack()
  stack.push(np.array(below, np.int32), uniform(len(below), 5))
  before, tables = stack.words(), quantize(rng.dirichlet(np.full(7, 0.3), 12))
  stack.push(stack.pop(tables), tables)  # even where there is nothing left to pop
  np.testing.assert_array_equal(stack.words(), before)
  np.testing.assert_array_equal(stack.pop(uniform(len(below), 5)), below)
  assert stack.is_empty


# Round trips


@pytest.mark.fast_cases("fvsbn")
@pytest.mark.parametrize("name", [*filter(is_chain, SMALL), *MORE])
def test_examples_come_back_exactly_at_the_claimed_price(name):
  x = sampled(name, 150) if name in CONFIDENT else drawn(name, 150)
  coder = Coder(chain_of(trained(name)[0]), trained(name)[1], 40)  # the last batch is not full
  words = coder.encode(x)
  back, length = coder.decode(words, len(x))
  np.testing.assert_array_equal(back, x)
  assert length is None
  claim = claimed_bits(name, {"x": x})
  batch_bits = 40 * np.log2(chain_of(trained(name)[0]).num_components)  # the first batch of a mixture
  escapes = len(trained(name)[0].spec.blocks) * 4  # of the first example, which are spelled out
  assert abs(32 * len(words) - claim) <= SLACK + 0.005 * claim + batch_bits + escapes


@pytest.mark.fast_cases("fvsbn")
@pytest.mark.parametrize("name", ["fvsbn", "made of orders", "mlp of blocks with many escapes", "transformer"])
@settings(max_examples=5)
@given(st.data())
def test_any_examples_come_back(name, data):
  coder = _coder(name)
  spec, num = trained(name)[0].spec, data.draw(st.integers(1, 9))
  x = data.draw(npst.arrays(np.uint8, (num, *spec.event), elements=st.integers(0, spec.levels - 1)))
  np.testing.assert_array_equal(coder.decode(coder.encode(x), num)[0], x)


@functools.cache
def _coder(name):
  return Coder(chain_of(trained(name)[0]), trained(name)[1], 4)


@pytest.mark.fast_cases("length1")
@pytest.mark.parametrize("length", [np.full(100, 12), np.r_[np.full(99, 12), 3], np.arange(100) % 12 + 1])
def test_sequences_cost_their_own_tokens_and_little_for_their_lengths(length):
  x = np.where(np.arange(12) < length[:, None], drawn("transformer", 100), 4).astype(np.int32)
  coded = files.encode(coding_of("transformer"), Examples(x, length.astype(np.int32)), split="valid", data="ab" * 8,
                       batch_size=30)
  found = files.decode(coding_of("transformer"), *_header_and_payload(coded))
  np.testing.assert_array_equal(found.x, x)
  np.testing.assert_array_equal(found.length, length)
  assert found.x.dtype == x.dtype and found.length.dtype == np.int32 and coded.num_symbols == length.sum()
  lengths = 100 * np.log2(12) if len(set(length)) == 12 else 12 * len(set(length))
  assert coded.payload_bits <= claimed_bits("transformer", {"x": x, "length": length}) + SLACK + 1.1 * lengths


def _header_and_payload(coded):
  return coded.header, coded.payload


def test_probabilities_that_are_not_finite_code_nothing():
  model, params, _ = trained("fvsbn")
  params = jax.tree.map(lambda leaf: leaf * np.nan, params)
  with pytest.raises(NotFiniteError, match="NaN"):
    Coder(chain_of(model), params, 4).encode(drawn("fvsbn", 2))


# Refusals


def test_what_cannot_be_coded_is_refused():
  with pytest.raises(ConfigError, match="Independent has no conditionals"):
    chain_of(build_model({"name": "independent"}, DataSpec((4,), 2)))
  with pytest.raises(SpecError, match="lossless coding needs discrete data"):
    chain_of(build_model({"name": "rnade"}, DataSpec((4,), None)))
  x = drawn("fvsbn", 4)
  with pytest.raises(ConfigError, match="takes padding for data"):
    _coder("fvsbn").encode(x, np.full(4, 2))
  with pytest.raises(DataError, match=r"example 2 holds values from 0 to 2; they must lie in \[0, 2\)"):
    x = x * 0
    x[2, 1] = 2
    _coder("fvsbn").encode(x)
  ragged = np.arange(24).reshape(2, 12) % 5
  with pytest.raises(DataError, match="filled up with several values"):
    files.encode(coding_of("transformer"), Examples(ragged, np.array([3, 12])), split="test", data="ab" * 8,
                 batch_size=2)


@pytest.fixture(scope="module")
def coded(tmp_path_factory):
  coded = files.encode(coding_of("fvsbn"), Examples(drawn("fvsbn", 50)), split="test", data="ab" * 8, batch_size=20)
  return coded, coded.to_bytes(), tmp_path_factory.mktemp("coded") / "file"


def test_a_file_says_all_that_decoding_takes(coded):
  coded, data, path = coded
  path.write_bytes(data)
  header, payload = container.unpack(path)
  assert (header, payload) == (coded.header, coded.payload)
  assert len(data) == container.HEADER_BYTES + len(payload) and container.HEADER_BYTES <= 256
  assert (header.step, header.averaged, header.split, header.data, header.batch_size) == (7, True, "test", "ab" * 8, 20)
  found = files.decode(coding_of("fvsbn"), header, payload)
  np.testing.assert_array_equal(found.x, drawn("fvsbn", 50))
  assert found.x.dtype == np.uint8


@given(st.data())
def test_an_edited_file_is_refused(coded, data):
  _, whole, path = coded
  place, bit = data.draw(st.integers(0, len(whole) - 1)), data.draw(st.integers(0, 7))
  path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << bit]) + whole[place + 1:])
  with pytest.raises(DataError, match=r"damaged|no file of experiments\.compress"):
    container.unpack(path)


@given(st.data())
def test_a_cut_file_is_refused(coded, data):
  _, whole, path = coded
  path.write_bytes(whole[:data.draw(st.integers(0, len(whole) - 1))])
  with pytest.raises(DataError, match="is cut"):
    container.unpack(path)


def test_a_foreign_file_or_one_that_goes_on_is_refused(coded):
  _, whole, path = coded
  for contents, message in ((b"\x89PNG....", "is no file of experiments.compress"),
                            (whole + b"x", "goes on too long: its payload has")):
    path.write_bytes(contents)
    with pytest.raises(DataError, match=message):
      container.unpack(path)
  with pytest.raises(DataError, match="cannot be read: No such file"):
    container.unpack(path.with_name("nowhere"))


def test_other_weights_settings_and_machines_are_refused(coded, monkeypatch):
  header, payload = coded[0].header, coded[0].payload
  coding = coding_of("fvsbn")
  bias = coding.params["model"]["bias"]
  nudged = {"model": {**coding.params["model"], "bias": bias.at[0].add(1e-6)}}
  for other in (coding._replace(params=nudged), coding._replace(settings={"name": "fvsbn", "ordering": "random"})):
    with pytest.raises(DataError, match="other weights or settings"):
      files.decode(other, header, payload)
  with pytest.raises(DataError, match=r"shape \(4, 4\) with 2 levels, but the model's have \(3, 3\) with 5"):
    files.decode(coding_of("fvsbn of levels"), header, payload)
  monkeypatch.setattr(files, "backend", lambda: (b"0" * 16, "TPU v9, jax 0.99"))
  with pytest.raises(DataError, match=r"another machine or by other versions \(cpu.*here TPU v9, jax 0.99\)"):
    files.decode(coding, header, payload)


def test_garbage_is_never_handed_out(coded):
  """As if the machine had lied: the same fingerprints, other probabilities."""
  header, payload = coded[0].header, coded[0].payload
  model, params, _ = trained("fvsbn")
  coder = Coder(chain_of(model), jax.tree.map(lambda leaf: leaf * 1.01, params), header.batch_size)
  with pytest.raises(DataError, match=r"not what was encoded|more bits than its examples"):
    files._decoded(coder, header, payload)
  coder = Coder(chain_of(model), params, header.batch_size)
  np.testing.assert_array_equal(files._decoded(coder, header, payload).x, drawn("fvsbn", 50))
  with pytest.raises(DataError, match="not what was encoded"):
    files._decoded(coder, dataclasses.replace(header, examples=b"0" * 16), payload)


# The leaderboard


def test_the_leaderboard_shows_coded_bits_where_they_belong(tmp_path):
  report = {"model": "made", "dataset": "digits", "split": "test", "step": 5, "kind": "exact", "given": [],
            "nats_mean": -85.0, "nats_stderr": 1.0, "nats_ci95": [-87.0, -83.0], "bits_per_dim": 1.9,
            "bits_per_dim_stderr": 0.02, "num_examples": 300, "num_dims": 64, "num_draws": 1,
            "data_fingerprint": "ab12", "parameters": "ema", "num_params": 5, "train_seconds": 6.0}
  for name, fields in (("a", {}), ("b", {"step": 4}), ("c", None)):
    (tmp_path / name).mkdir()
    write_report(tmp_path / name / "likelihood_test.json", report)
    if fields is not None:
      write_report(tmp_path / name / "coded_test.json", {**report, "coded_bits_per_dim": 1.90625, **fields})
  [table] = collect([tmp_path])
  assert [row.coded for row in table.rows] == [1.90625, None, None]  # b was coded by other weights
  lines = render([table]).splitlines()
  assert "coded bits/dim" in lines[1] and [("1.9062" in line) for line in lines[3:]] == [True, False, False]
  sheet = render([table], "csv").splitlines()
  assert sheet[0].endswith(",coded_bits_per_dim") and sheet[1].endswith(",1.90625") and sheet[2].endswith(",")
  [other] = collect([tmp_path / "c"])
  assert "coded" not in render([other]) + render([other], "csv")
  for damaged in ("{", "[]", "{}", '{"coded_bits_per_dim": "x"}'):
    (tmp_path / "a" / "coded_test.json").write_text(damaged)
    with pytest.raises(DataError, match=r"a/coded_test\.json"):
      collect([tmp_path])
