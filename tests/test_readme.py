"""The README and the pages of docs: their code runs, and what they name or link to exists."""

import importlib.util
import re
from pathlib import Path

import jax
import numpy as np
import pytest

from gdm.dataspec import DataSpec
from gdm.runs import registry
from gdm.training.state import init_state, optimizers_for
from gdm.training.step import make_train_step

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "docs").glob("*/*.md"))]


def blocks_of(page):
  return re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)


@pytest.mark.parametrize("page", [page for page in PAGES if blocks_of(page)], ids=lambda page: page.stem)
def test_the_examples_run(page):
  for block in blocks_of(page):
    exec(compile(block, str(page), "exec"), {"__name__": "example"})


def test_the_model_that_the_readme_adds_learns_the_data(monkeypatch):
  import optax
  names = {"__name__": "example"}
  exec(compile(next(block for block in blocks_of(README) if "class Gaussian" in block), "README.md", "exec"), names)
  monkeypatch.setitem(registry.MODELS, "gaussian", ("example", "Gaussian"))
  monkeypatch.setattr(registry, "load_object", lambda module, name: names[name])
  model = registry.build_model({"name": "gaussian"}, DataSpec((2,), None))
  x = np.random.default_rng(0).normal([1.0, -2.0], [0.5, 2.0], (500, 2)).astype(np.float32)
  optimizers = optimizers_for(model, optax.adam(0.05))
  state = init_state(model, optimizers, jax.random.key(0), {"x": x})
  step = jax.jit(make_train_step(model, optimizers))
  for _ in range(300):
    state, _ = step(state, {"x": x[None]}, jax.random.key(0))
  np.testing.assert_allclose(state.params["model"]["mean"], x.mean(0), atol=0.02)
  np.testing.assert_allclose(np.exp(state.params["model"]["log_scale"]), x.std(0), rtol=0.02)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_is_named_or_linked_exists(page):
  text = page.read_text()
  named = re.findall(r"(?:gdm|experiments|configs|tests)/[\w/]+\.(?:py|png)", text)
  binaries = re.findall(r"-m (experiments\.\w+)", text) + re.findall(r"`(experiments\.\w+)", text)
  missing = [path for path in named if not (ROOT / path).exists() and "gaussian" not in path]
  missing += [name for name in binaries if not (ROOT / f"{name.replace('.', '/')}.py").exists()
              and not (ROOT / name.replace(".", "/")).is_dir()]
  links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
  missing += [link for link in links if not (page.parent / link).exists()]
  imports = re.findall(r"^ *from (gdm[\w.]*) import ([\w, ]+)$", text, re.MULTILINE)
  missing += [f"{module}.{name}" for module, names in imports for name in re.findall(r"(\w+)(?: as \w+)?", names)
              if not hasattr(importlib.import_module(module), name) and not is_module(f"{module}.{name}")]
  assert not missing


def is_module(name):
  return importlib.util.find_spec(name) is not None


def test_every_page_is_in_the_index():
  index = (ROOT / "docs" / "index.md").read_text()
  assert [page for page in PAGES[1:] if page.stem != "index"
          and str(page.relative_to(ROOT / "docs").with_suffix("")) not in index] == []


def test_the_readme_is_short():
  assert len(README.read_bytes()) <= 12_000
