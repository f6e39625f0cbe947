"""The loop: a resumed run is the unbroken run; metrics arrive whole and in order; hooks end it."""

import chex
import jax
import jaxtyping
import numpy as np
import optax
import pytest
from helpers.toy_models import ChainsToy, ExactToy, toy_batches

from gdm.errors import ConfigError, NotFiniteError
from gdm.mesh import make_mesh
from gdm.training.loop import Ended, Hook, fit
from gdm.training.metrics import MetricsFile, MetricsWindow, read_metrics
from gdm.training.state import init_state, optimizers_for
from gdm.training.step import make_train_step

KEY = jax.random.key(0)
NUM_STEPS = 12


class Source:
  """Batches by position."""

  def __init__(self, model, position=0, poison=None):
    self.batches, self.position, self.poison = toy_batches(model, NUM_STEPS), position, poison

  def next_batches(self, k=None):
    k = k or 1
    batch = jax.tree.map(lambda x: x[self.position:self.position + k].copy(), self.batches)
    if self.poison is not None and self.position <= self.poison < self.position + k:
      batch["x"][self.poison - self.position, 0, 0, 0] = np.nan
    self.position += k
    return batch


def _start(toy):
  model = toy()
  optimizers = optimizers_for(model, optax.adam(1e-2))
  mesh = make_mesh(devices=jax.devices()[:1])
  example = jax.tree.map(lambda x: x[0, 0], toy_batches(model, 1))
  state = init_state(model, optimizers, KEY, example, ema=True, mesh=mesh)
  step = make_train_step(model, optimizers, ema_decay=0.9)
  return model, state, lambda state, source, **options: fit(step, state, source, key=KEY, mesh=mesh,
                                                            **{"num_steps": NUM_STEPS, **options})


def _window(rows, every=5):
  return MetricsWindow(every, lambda step, row: rows.append((step, row)))


@pytest.mark.fast_cases("7-ExactToy")
@pytest.mark.parametrize("toy", [ExactToy, ChainsToy])
@pytest.mark.parametrize("cut", [3, 7])
def test_a_run_cut_anywhere_equals_the_unbroken_one(toy, cut):
  model, state, run = _start(toy)
  start = jax.tree.map(np.array, state)
  rows = []
  expected, ended = run(state, Source(model), window=_window(rows))
  assert ended is Ended.FINISHED and int(expected.step) == NUM_STEPS

  source, cut_rows, calls = Source(model), [], iter(range(1, 100))
  first = _window(cut_rows)
  state, ended = run(jax.device_put(start), source, window=first, interrupted=lambda: next(calls) == cut)
  assert ended is Ended.INTERRUPTED and int(state.step) == cut
  second = _window(cut_rows)
  second.set_state(first.get_state())  # as from a checkpoint: metrics of the open window too
  end, _ = run(jax.tree.map(np.array, state), Source(model, position=cut), window=second)
  chex.assert_trees_all_equal(jax.device_get(end), jax.device_get(expected))
  assert cut_rows == rows


def test_rows_are_means_over_their_window_and_one_call_late():
  model, state, run = _start(ExactToy)
  singles, rows = [], []
  start = jax.tree.map(np.array, state)
  run(state, Source(model), window=_window(singles, every=1))
  run(jax.device_put(start), Source(model), window=_window(rows, every=4))
  assert [step for step, _ in singles] == list(range(1, NUM_STEPS + 1))
  assert [step for step, _ in rows] == [4, 8, 12]
  for i, (_, row) in enumerate(rows):
    np.testing.assert_allclose(row["nll"], np.mean([r["nll"] for _, r in singles[4 * i:4 * i + 4]]), rtol=1e-6)


@pytest.mark.slow
def test_hooks_see_their_steps_with_metrics_already_emitted_and_can_stop_the_run():
  model, state, run = _start(ExactToy)
  rows, seen = [], []

  def hook(state, step):
    seen.append((step, int(state.step), rows[-1][0]))
    return step == 8

  end, ended = run(state, Source(model), window=_window(rows, every=2), steps_per_call=2, hooks=[Hook(4, hook)])
  assert ended is Ended.STOPPED and int(end.step) == 8
  assert seen == [(4, 4, 4), (8, 8, 8)]


@pytest.mark.fast_cases("1")
@pytest.mark.parametrize("steps_per_call", [1, 3])
def test_a_loss_that_is_not_finite_names_its_step(steps_per_call):
  model, state, run = _start(ExactToy)
  with pytest.raises(NotFiniteError, match="at step 8"):
    run(state, Source(model, poison=7), steps_per_call=steps_per_call, window=_window([]))


@pytest.mark.parametrize(("options", "words"), [
    ({"steps_per_call": 5}, r"steps_per_call is 5, which does not divide num_steps \(12\)"),
    ({"steps_per_call": 4, "hooks": [Hook(6, lambda state, step: None)]}, r"not divide the period of hook 0 \(6\)"),
])
def test_periods_that_no_call_ends_on_are_refused(options, words):
  model, state, run = _start(ExactToy)
  with pytest.raises(ConfigError, match=words):
    run(state, Source(model), **options)


@pytest.mark.parametrize(("given", "words"), [
    ({"step": "adam"}, "step is a str; it must be what make_train_step or compile_step returns"),
    ({"state": {"params": {}}}, "state is a dict; it must be a TrainState, as init_state returns it"),
    ({"batches": [{}]}, r"batches is a list; it must be an object with next_batches\(k\), as gdm.data.loader.Loader"),
    ({"batches": iter([])}, "batches is a list_iterator"),
    ({"key": 0}, r"key is a int; it must be a JAX key, as jax.random.key\(0\)"),
    ({"hooks": [lambda state, step: None]}, r"hooks\[0\] is a function; it must be a Hook\(every, call\)"),
    ({"hooks": Hook(0, lambda state, step: None)}, r"hooks is a Hook; it must be a sequence of Hooks"),
    ({"hooks": [Hook(0, lambda state, step: None)]}, r"the period of hook 0 is 0; it must be an integer of at least 1"),
    ({"num_steps": 10.0}, r"num_steps is 10\.0; it must be an integer of at least 1"),
    ({"steps_per_call": 0}, "steps_per_call is 0; it must be an integer"),
    ({"window": 5}, "window is a int; it must be a MetricsWindow, or None"),
])
def test_arguments_of_another_kind_are_named(given, words):
  model, state, _ = _start(ExactToy)
  step = make_train_step(model, optimizers_for(model, optax.adam(1e-2)), ema_decay=0.9)
  right = {"step": step, "state": state, "batches": Source(model), "key": KEY, "num_steps": NUM_STEPS}
  jaxtyping.config.update("jaxtyping_disable", True)  # the checks of types that only tests have
  try:
    with pytest.raises(ConfigError, match=words):
      fit(**{**right, **given})
  finally:
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.mark.parametrize(("change", "words"), [
    (lambda x: x[:, 0], r"has shape \[16, 2\]; it must be \[1, batch, ...\]"),
    (lambda x: x[0, 0], r"has shape \[16, 2\]; it must be \[steps, minibatches, batch, ...\]"),
    (lambda x: np.concatenate([x, x], 1), r"has shape \[2, 16, 2\]; it must be \[1, batch, ...\]"),
    (lambda x: np.concatenate([x, x]), r"has shape \[2, 1, 16, 2\]; it must be \[1 steps, minibatches, batch, ...\]"),
])
def test_batches_of_other_minibatches_are_named(change, words):
  class Changed(Source):
    def next_batches(self, k=None):
      return jax.tree.map(change, super().next_batches(k))

  model, state, run = _start(ExactToy)
  with pytest.raises(ConfigError, match=words):
    run(state, Changed(model))


def test_the_metrics_file_is_cut_back_to_the_restored_step(tmp_path):
  path = tmp_path / "metrics.jsonl"
  file = MetricsFile(path, last_step=0)
  for step in (1, 2, 3):
    file.write({"step": step, "loss": step / 3})
  file.close()
  with path.open("a") as half:
    half.write('{"step": 4, "lo')  # a kill in the middle of a line
  MetricsFile(path, last_step=2).close()
  assert read_metrics(path) == [{"step": 1, "loss": 1 / 3}, {"step": 2, "loss": 2 / 3}]
