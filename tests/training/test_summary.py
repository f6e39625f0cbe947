"""What a run says of itself is what it is made of."""

import time

import jax
import numpy as np
import optax
import pytest
from helpers.small_models import small_batch, small_model

from gdm import mesh as meshes
from gdm.training.stall import StallGuard
from gdm.training.state import count_parameters, init_state, optimizers_for
from gdm.training.summary import memory_line, mesh_line, parameter_table, quantity


def made_state(fsdp=1, ema=False):
  model = small_model("made")
  mesh = meshes.make_mesh(fsdp)
  return init_state(model, optimizers_for(model, optax.adam(1e-3)), jax.random.key(0), small_batch(model), ema=ema,
                    mesh=mesh), mesh


@pytest.mark.fast_cases("4", "100")
@pytest.mark.parametrize("max_rows", [2, 4, 100])
def test_the_table_counts_every_parameter_once(max_rows):
  state, _ = made_state()
  lines = parameter_table(state.params, max_rows).splitlines()
  numbers = [int(line.split()[-3].replace(",", "")) for line in lines[1:-1]]
  assert sum(numbers) == count_parameters(state.params) == int(lines[-1].split()[-1].replace(",", ""))
  assert len(numbers) == (len(jax.tree.leaves(state.params)) if max_rows == 100 else len(numbers))
  assert len(numbers) <= max(max_rows, 1) and len({len(line) for line in lines[:-1]}) == 1


def test_shards_are_shown_where_there_are_some():
  state, mesh = made_state(fsdp=8)
  assert "16, 2 on each device" in parameter_table(state.params)
  assert mesh_line(mesh) == "mesh data=1 x fsdp=8: 8 devices (cpu)"
  whole, _ = made_state()
  bytes_of = [float(memory_line(s, None).split(" ")[0]) for s in (state, whole)]
  assert bytes_of[0] == pytest.approx(bytes_of[1] / 8 * (1e3 if " B " in memory_line(state, None) else 1), rel=0.02)


def test_numbers_in_names_count_as_numbers():
  params = {f"layer_{i}": {"w": np.zeros(1)} for i in (1, 10, 2, 11)} | {"bias": np.zeros(1)}
  assert [line.split()[0] for line in parameter_table(params).splitlines()[1:-1]] == [
      "bias", "layer_1/w", "layer_2/w", "layer_10/w", "layer_11/w"]


def test_memory_is_that_of_the_arrays():
  state, _ = made_state(ema=True)
  parts = (state.params, state.opt_state, state.ema)
  sizes = [sum(leaf.nbytes for leaf in jax.tree.leaves(part)) for part in parts]
  parameters, optimizer, averages, every = (f"{quantity(size)}B" for size in (*sizes, sum(sizes) + 12_345))
  assert memory_line(state, 12_345) == (f"{every} per device: parameters {parameters}, optimizer {optimizer}, averages "
                                        f"{averages}, temporaries 12.3 kB")


@pytest.mark.parametrize(("value", "text"), [(0, "0 "), (9.996, "10 "), (999.4, "999 "), (999.6, "1 k"),
                                             (1234, "1.23 k"), (1_234_567, "1.23 M"), (2.5e15, "2.5 P"),
                                             (3e19, "3e+04 P")])
def test_quantities_have_three_digits(value, text):
  assert quantity(value) == text


class Slow:
  def __init__(self, seconds):
    self._seconds = seconds

  def next_batches(self, k=None):
    time.sleep(self._seconds)
    return {"x": np.zeros(k)}


@pytest.mark.parametrize(("limit", "told"), [(0.1, [0.1]), (5.0, []), (0.0, [])])
def test_a_stalled_source_is_told_once(limit, told):
  heard = []
  with StallGuard(Slow(0.4), limit, heard.append) as batches:
    assert batches.next_batches(3)["x"].shape == (3,)
  assert heard == told
