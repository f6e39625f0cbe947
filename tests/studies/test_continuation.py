"""What is generated: flags that are for texts alone are refused of pictures, and a place is tried beforehand."""

import pathlib
import types

import pytest

from gdm.errors import ConfigError, WorkdirError
from gdm.inference.generation import TokenChoice
from gdm.studies.continuation import GenerationRequest, _generate_examples, _generate_text


@pytest.mark.parametrize(("flag", "settings"), [
    ("--out", {"out": pathlib.Path("x.json")}), ("--length", {"length": 20}),
    ("--temperature, --top_k or --top_p", {"choice": TokenChoice(0.5)}),
    ("--temperature, --top_k or --top_p", {"choice": TokenChoice(0.8, 3)})])
def test_flags_of_texts_are_refused_where_pictures_are_made(flag, settings):
  run = types.SimpleNamespace(name="vqvae")
  with pytest.raises(ConfigError, match=f"examples of captions, which {flag} is not for"):
    next(_generate_examples(run, GenerationRequest(("a heart",), **settings)))


def test_a_text_is_not_drawn_where_it_cannot_be_written(tmp_path):
  request = GenerationRequest(("a",), out=tmp_path / "nowhere" / "texts.json")
  with pytest.raises(WorkdirError, match=r"--out is .*texts.json, but there is no folder"):
    next(_generate_text(None, request, None, None))
