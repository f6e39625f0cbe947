"""Scores of a whole text: each token once, given what the way says, in blocks of characters."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gdm.data.byte_pairs import BytePairs
from gdm.data.sources import text
from gdm.data.sources.request import Request
from gdm.data.tokens import CHARACTERS, WORDS, Tokenizer
from gdm.dataspec import DataSpec
from gdm.errors import ConfigError
from gdm.evaluation.comparability import compare_reports
from gdm.evaluation.report import build_report, one_line, text_report
from gdm.likelihood import Kind
from gdm.runs.registry import build_model
from gdm.studies import text_scores
from gdm.studies.text_scores import TextWay, character_ends, score_text, text_digest, text_of

KEY = jax.random.key(0)
CONTEXT, LEVELS = 4, 3
SPEC = DataSpec((CONTEXT,), LEVELS, has_lengths=True)
NETWORKS = {"recurrent": {"cell": "gru", "width": 6}, "transformer": {"num_layers": 1, "num_heads": 2, "width": 4}}
TOKENS = np.random.default_rng(0).integers(0, LEVELS, 23)
ABC = Tokenizer.of(CHARACTERS, "abc", unknown=False, end=False)


def built(name, spec=SPEC):
  model = build_model({"name": name, "network": NETWORKS[name]}, spec)
  return model, jax.tree.map(lambda a: a + 0.3, model.init(KEY, {})[0])


def whole(name, rows):
  """The score of each row, as one example of its length."""
  rows = np.asarray(rows, np.int32)
  model, params = built(name, DataSpec((rows.shape[1],), LEVELS))
  return np.asarray(model.log_likelihood(params, {}, {"x": jnp.asarray(rows)}, KEY).nats)


def last(name, row):
  """The score of the last token of a row, given the others."""
  return whole(name, [row])[0] - (whole(name, [row[:-1]])[0] if len(row) > 1 else 0.0)


@pytest.mark.slow
@pytest.mark.fast_cases("3-transformer")
@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("stride", [1, 3, 4])
def test_each_token_is_given_what_its_window_shows(name, stride):
  model, params = built(name)
  found = text_scores.window_scores(model, params, TOKENS, TextWay("stride", CONTEXT, stride))
  for i in (0, 2, 3, 4, 11, 22):
    window = 0 if i < CONTEXT else -(-(i + 1 - CONTEXT) // stride) * stride
    np.testing.assert_allclose(found[i], last(name, TOKENS[window:i + 1]), atol=1e-4)


@pytest.mark.slow
def test_a_carried_state_has_seen_all(monkeypatch):
  monkeypatch.setattr(text_scores, "_AT_ONCE", 8)
  model, params = built("recurrent")
  found = text_scores.carried_scores(model, params, TOKENS)
  np.testing.assert_allclose(np.sum(found), whole("recurrent", [TOKENS])[0], rtol=1e-5)
  np.testing.assert_allclose(found[9], last("recurrent", TOKENS[:10]), atol=1e-4)


def test_blocks_share_out_the_text(monkeypatch):
  monkeypatch.setattr(text_scores, "BLOCK", 10)
  model, params = built("recurrent")
  scores = score_text(model, params, TOKENS, ABC, TextWay.of("carried", CONTEXT))
  np.testing.assert_array_equal(scores.num_dims, [10, 10, 3])
  each = text_scores.carried_scores(model, params, TOKENS)
  np.testing.assert_allclose(scores.nats, [each[:10].sum(), each[10:20].sum(), each[20:].sum()], rtol=1e-6)


@pytest.mark.slow
def test_windows_score_as_the_split_does():
  model, params = built("transformer")
  rows = TOKENS[:20].reshape(5, CONTEXT)
  scores = score_text(model, params, TOKENS[:20], ABC, TextWay.of("windows", CONTEXT))
  np.testing.assert_allclose(np.sum(scores.nats), np.sum(whole("transformer", rows)), rtol=1e-5)


@pytest.mark.parametrize("rule", ["characters", "words", "bpe"])
def test_tokens_end_where_their_text_does(rule):
  written = 'the cat (a "big" one) sat, the cat ran\nthe end' + " é" * (rule != "words")
  if rule == "bpe":
    pytest.importorskip("tokenizers")
    pairs = BytePairs.train([written] * 4, 260)
    tokenizer = Tokenizer.of(pairs, pairs.vocabulary, unknown=False, end=False)
  else:
    made = {"characters": CHARACTERS, "words": WORDS}[rule]
    tokenizer = Tokenizer.of(made, sorted({token for token, _ in made.split(written)}), unknown=False, end=False)
  ids = tokenizer.encode(written)
  ends = character_ends(tokenizer, ids)
  assert ends[-1] == len(tokenizer.decode(ids)) and np.all(np.diff(ends) >= 0)
  for i in range(0, len(ids), 5):
    assert rule == "bpe" or ends[i] == len(tokenizer.decode(ids[:i + 1]))


@pytest.mark.parametrize(("rule", "kind"), [(CHARACTERS, Kind.EXACT), (WORDS, Kind.LOWER_BOUND)])
def test_a_text_that_other_tokens_may_make_is_bounded(monkeypatch, rule, kind):
  monkeypatch.setattr(text_scores, "window_scores", lambda model, params, tokens, way: -np.ones(len(tokens)))
  tokenizer = Tokenizer.of(rule, sorted({token for token, _ in rule.split("the cat")}), unknown=False, end=False)
  model = build_model({"name": "transformer", "network": NETWORKS["transformer"]}, SPEC)
  found = score_text(model, {}, tokenizer.encode("the cat"), tokenizer, TextWay.of("windows", CONTEXT))
  assert found.kind is kind and found.num_dims.tolist() == [7]


def test_texts_of_any_tokens_and_contexts_are_one_set(tmp_path):
  path = tmp_path / "story.txt"
  path.write_text("the cat sat. the cat ran. " * 40)
  sets = [text.load(Request("text", f"{path}", options)) for options in ({"context": "8"}, {"context": "16"})]
  digests = {text_digest(each.tokenizer, text_of(each, "valid")) for each in sets}
  assert len(digests) == 1
  reports = []
  for each, way in zip(sets, ("windows", "carried"), strict=True):
    model = build_model({"name": "recurrent", "network": NETWORKS["recurrent"]}, each.spec)
    tokens = text_of(each, "valid")
    chosen = TextWay.of(way, each.spec.event[0])
    scores = score_text(model, model.init(KEY, {})[0], tokens, each.tokenizer, chosen)
    reports.append(build_report(
        scores, model="recurrent", dataset="text:story, whole", split="valid", step=1, data_fingerprint=min(digests),
        parameters="live", num_params=1, train_seconds=0.0, evaluation={}, text=text_report(scores, str(chosen), 104)))
  comparison = compare_reports(*reports)
  assert not comparison.apart
  assert comparison.beside == ("given more or less of the text: windows of 8 there, carried here",)
  line = one_line(reports[1])
  assert "bits/character" in line and "carried" in line and "nats/character" in line


def test_refuses_what_it_cannot_do(tmp_path):
  path = tmp_path / "story.txt"
  path.write_text("the cat sat.\nthe cat ran.\n" * 40)
  with pytest.raises(ConfigError, match="is not one text"):
    text_of(text.load(Request("text", f"{path}", {"context": "8", "unit": "lines"})), "valid")
  model, params = built("transformer")
  with pytest.raises(ConfigError, match="sees 4 tokens at most"):
    score_text(model, params, TOKENS, ABC, TextWay.of("carried", CONTEXT))
  for wrong, match in (("stride", "stride:S"), ("stride:5", "1 to the context"), ("windows:3", "takes no number"),
                       ("stide:2", "stride")):
    with pytest.raises(ConfigError, match=match):
      TextWay.of(wrong, CONTEXT)
  made = build_model({"name": "made"}, DataSpec((4,), 3))
  with pytest.raises(ConfigError, match="token by token"):
    score_text(made, {}, TOKENS, ABC, TextWay.of("windows", CONTEXT))
