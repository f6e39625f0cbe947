"""Text and sound from a trained model: what is printed and written, beyond the context too, and what is refused."""

import dataclasses
import json
import re

import jax
import numpy as np
import pytest

from gdm.autoregressive.vectors.fvsbn import FVSBN
from gdm.data.load import load_dataset
from gdm.data.sources.audio import read_sound, write_wav
from gdm.errors import ConfigError, DataError
from gdm.inference.generation import Alternatives, Generated
from gdm.runs.load import load_run
from gdm.runs.workdir import Workdir
from gdm.studies.continuation import continue_prompts, require_generator

LEVELS, EOS = 50, 49
TINY_TRANSFORMER = [
    "--config=configs/autoregressive/transformer.py:text", "--config.model.network.num_layers=1",
    "--config.model.network.num_heads=1", "--config.model.network.width=8", "--config.data.batch_size=4",
    "--config.optimizer.warmup_steps=0",
    *(f"--config.training.{name}=4" for name in ("num_steps", "steps_per_call", "eval_every", "checkpoint_every",
                                                 "log_every"))]


@dataclasses.dataclass
class Counting:
  """Says the number after the last one; of one call it remembers the prompts and the length."""

  context: int | None
  calls: list = dataclasses.field(default_factory=list)

  def generate(self, params, key, num=None, *, prompt=None, prompt_length=None, max_length=None, eos=None,
               num_alternatives=0):
    rows = [[] for _ in range(num)] if prompt is None else [
        row[:length].tolist() for row, length in zip(prompt, prompt_length, strict=True)]
    self.calls.append(([list(row) for row in rows], max_length))
    tokens, lengths = np.zeros((len(rows), max_length), np.int32), []
    for i, row in enumerate(rows):
      given = len(row)
      while len(row) < max_length and not (len(row) > given and row[-1] == eos):
        row.append((row[-1] + 1) % LEVELS if row else 0)
      tokens[i, :len(row)] = row
      lengths.append(len(row))
    alternatives = Alternatives(tokens[..., None], -tokens[..., None] / 10)
    return Generated(tokens, np.array(lengths), -tokens / 10, alternatives if num_alternatives else None)


def counted(model, prompts, length, **options):
  return continue_prompts(model, {}, jax.random.key(0), [np.array(prompt, np.int32) for prompt in prompts], length,
                          LEVELS, **options)


def test_many_sequences_are_drawn_in_batches_each_by_its_own_key():
  keys = []

  class Keyed(Counting):
    def generate(self, params, key, *args, **options):
      keys.append(jax.random.key_data(key))
      return super().generate(params, key, *args, **options)

  prompts = [[3], [7, 8], [1], [2], [5]]
  whole, parts = (counted(Keyed(10), prompts, 6, batch_size=size) for size in (5, 2))
  assert whole == parts and [len(each) for each in keys] == [5, 2, 2, 1]
  np.testing.assert_array_equal(np.concatenate(keys[1:]), keys[0])


def test_within_the_context_one_call_is_enough():
  model = Counting(10)
  found = counted(model, [[3], [7, 8]], 6)
  assert [item.drawn for item in found] == [[4, 5, 6, 7, 8, 9], [9, 10, 11, 12, 13, 14]]
  assert model.calls == [([[3], [7, 8]], 8)]
  assert found[0].log_probs == [-0.4, -0.5, -0.6, -0.7, -0.8, -0.9] and found[0].alternatives == []


def test_beyond_the_context_the_last_half_of_it_is_what_counts():
  model = Counting(6)
  found = counted(model, [[3], [7, 8]], 12, num_alternatives=1)
  assert [item.drawn for item in found] == [list(range(4, 16)), list(range(9, 21))]
  assert model.calls[0] == ([[3], [7, 8]], 6)
  assert model.calls[1] == ([[6, 7, 8], [10, 11, 12]], 6) and model.calls[2] == ([[9, 10, 11], [13, 14, 15]], 6)
  for item in found:
    assert item.alternatives == [[(token, -token / 10)] for token in item.drawn]
    assert item.log_probs == [-token / 10 for token in item.drawn] and not item.ended


def test_a_sequence_ends_at_its_eos_and_the_others_go_on():
  model = Counting(6)
  found = counted(model, [[45], [1]], 9, eos=EOS)
  assert (found[0].drawn, found[0].ended) == ([46, 47, 48, 49], True)
  assert (found[1].drawn, found[1].ended) == (list(range(2, 11)), False)


def test_without_a_limit_or_without_a_prompt():
  model = Counting(None)
  assert counted(model, [[], []], 7)[1].drawn == list(range(7))
  assert model.calls == [([[], []], 7)]


def test_prompts_up_to_the_context():
  assert counted(Counting(4), [[1, 2, 3, 4]], 3)[0].drawn == [5, 6, 7]
  with pytest.raises(DataError, match="has 5 tokens, but the context is 4"):
    counted(Counting(4), [[1, 2, 3, 4, 5]], 3)
  with pytest.raises(ConfigError, match="beyond it only a context of at least 2"):
    counted(Counting(1), [[]], 3)


@pytest.fixture(scope="module")
def train(commands, tmp_path_factory):
  def run(name):
    workdir = tmp_path_factory.mktemp("generate") / "run"
    commands.good("train", *TINY_TRANSFORMER, f"--config.data.name={name}", f"--workdir={workdir}")
    return workdir
  return run


@pytest.fixture(scope="module")
def text(train, tmp_path_factory):
  path = tmp_path_factory.mktemp("data") / "story.txt"
  path.write_text("the cat sat on the mat.\n" * 40)
  return train(f"text:{path}#context=16")


@pytest.mark.slow
def test_the_log_probabilities_told_are_those_of_the_model(commands, text, tmp_path):
  out = tmp_path / "texts.json"
  said = commands.good("generate", f"--workdir={text}", "--num=3", "--length=16", "--alternatives=2", f"--out={out}")
  found = json.loads(out.read_text())["texts"]
  assert said.startswith(f"--- 1 of 3 ---\n{found[0]['text']}\n--- 2 of 3 ---\n") and str(out) in said
  run = load_run(Workdir(text), {})
  x = np.stack([run.dataset.tokenizer.encode(item["text"]) for item in found])
  nats = jax.jit(run.model.log_likelihood)(run.params, run.carry, {"x": x}, jax.random.key(0)).nats
  np.testing.assert_allclose([sum(token["log_prob"] for token in item["tokens"]) for item in found], nats, rtol=1e-4)
  for item in found:
    assert "".join(token["token"] for token in item["tokens"]) == item["text"] and not item["ended"]
    for token in item["tokens"]:
      first, second = token["alternatives"]
      assert first["log_prob"] >= second["log_prob"] and first["log_prob"] >= token["log_prob"]


def test_prompts_begin_the_texts_and_the_seed_is_all_that_changes_them(commands, text):
  args = [f"--workdir={text}", "--prompt=the cat", "--prompt=mat", "--num=2", "--length=30", "--top_k=5"]
  said = commands.good("generate", *args)
  texts = [part.split(" ---\n", 1)[1] for part in said.split("--- ")[1:] if " of 4" in part]
  assert [len(part) - 1 for part in texts] == [37, 37, 33, 33]
  assert all(part.startswith(start) for part, start in zip(texts, ["the cat"] * 2 + ["mat"] * 2, strict=True))
  assert commands.good("generate", *args) == said and commands.good("generate", *args, "--seed=1") != said
  assert not (text / "generated.json").exists()


@pytest.mark.parametrize(("args", "message"), [
    (["--prompt=the dog"], r"prompt 'the dog': the character 'd' at position 4 is not in the vocabulary"),
    (["--prompt="], "prompt '' is empty"),
    (["--prompt=" + "the " * 5], "has 20 tokens, but the context is 16"),
    (["--prompt=a", "--prompt_file=b"], "both given"),
    (["--prompt_file=nowhere.txt"], "nowhere.txt cannot be read"),
    (["--temperature=0"], "temperature is 0.0; it must be finite and above 0"),
    (["--top_k=0"], "top_k is 0"),
    (["--length=0"], "--length is 0; it must be at least 1"),
    (["--alternatives=99"], "num_alternatives is 99"),
])
def test_bad_input_gets_a_sentence(commands, text, args, message):
  result = commands.run("generate", f"--workdir={text}", *args)
  assert result.status == 2 and result.err.startswith("error: ") and result.err.count("\n") == 1
  assert re.search(message, result.err), result.err


def test_models_and_data_of_another_kind_are_refused(text):
  digits, story = load_dataset("digits"), load_run(Workdir(text), {})
  with pytest.raises(ConfigError, match="fvsbn is no model of sequences"):
    require_generator("fvsbn", FVSBN(digits.spec), story.dataset)
  with pytest.raises(ConfigError, match="transformer was trained on digits, which is neither text nor sound"):
    require_generator("transformer", story.model, digits)
  assert require_generator("transformer", story.model, story.dataset) is story.model


@pytest.mark.slow
def test_lines_of_words_end(commands, train, tmp_path):
  path = tmp_path / "lines.txt"
  path.write_text("a b\nb a b\n" * 40)
  workdir = train(f"text:{path}#tokens=words&unit=lines&context=4")
  said = commands.good("generate", f"--workdir={workdir}", "--prompt=a  zebra", "--num=8", "--probs")
  found = json.loads((workdir / "generated.json").read_text())["texts"]
  assert all(item["prompt"] == "a [UNK]" and item["ended"] for item in found)
  assert all(item["tokens"][-1]["token"] == "[EOS]" and "[EOS]" not in item["text"] for item in found)
  assert said.count(", ended ---") == 8
  said = commands.good("evaluate", f"--workdir={workdir}", "--split=valid")
  units = json.loads((workdir / "likelihood_valid.json").read_text())["units"]
  assert (units["tokens"], units["characters"], units["unknown"]) == (7 * 4, 10 * 4, 0)  # 8 lines, [EOS] included
  assert f"{units['nats_per_token']:.4f} nats/token, {units['nats_per_character']:.4f} nats/character" in said
  np.testing.assert_allclose(units["nats_per_token"] * 28, units["nats_per_character"] * 40)


@pytest.mark.slow
def test_sound_is_written_as_wav_files(commands, train, tmp_path):
  write_wav(tmp_path / "tone.wav", np.sin(np.arange(800) / 5), 4000)
  workdir = train(f"wav:{tmp_path / 'tone.wav'}#context=32")
  write_wav(tmp_path / "prompt.wav", np.sin(np.arange(10) / 5), 4000)
  said = commands.good("generate", f"--workdir={workdir}", f"--prompt_file={tmp_path / 'prompt.wav'}", "--num=2",
                       "--length=100")
  assert said == f"2 WAV files in {workdir / 'generated'}, 0.025 s drawn in each\n"
  samples, rate = read_sound(workdir / "generated" / "001.wav")
  assert samples.shape == (110,) and rate == 4000
  np.testing.assert_allclose(samples[:10], np.sin(np.arange(10) / 5), atol=0.03)
  result = commands.run("generate", f"--workdir={workdir}", "--prompt=la")
  assert result.status == 2 and "is sound; it takes --prompt_file=FILE.wav" in result.err
