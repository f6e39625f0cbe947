"""A file of weights gives back what was put in, bit for bit, and says what is wrong with any other file."""

import json
import os
import struct
import subprocess
import sys

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from gdm.errors import CheckpointError
from gdm.training.weights import load_weights, save_weights

PARAMS = {
    "model": {
        "layers": [{"kernel": jnp.arange(6.0).reshape(2, 3).T, "bias": jnp.array(0.1)},
                   {"kernel": jnp.array([[1.5, -0.0, jnp.inf]], jnp.bfloat16)}],
        "order": jnp.array([3, -1, 2]),
        "levels": jnp.zeros((0, 4), jnp.uint8),
        "known": jnp.array([True, False]),
    },
    "prior": {"scale": jnp.array([1e-45, jnp.nan], jnp.float32), "half": jnp.array([6e-8], jnp.float16)},
}
CARRY = {"statistics": {"mean": jnp.array([0.25], jnp.bfloat16)}, "chains": ()}


@pytest.fixture
def path(tmp_path):
  save_weights(tmp_path / "weights.safetensors", PARAMS, CARRY, {"step": "7", "config": json.dumps({"é": [1]})})
  return tmp_path / "weights.safetensors"


def assert_same(tree, other):
  chex.assert_trees_all_equal_structs(tree, other)
  for leaf, other_leaf in zip(jax.tree.leaves(tree), jax.tree.leaves(other), strict=True):
    assert (leaf.dtype, leaf.shape) == (other_leaf.dtype, other_leaf.shape)
    assert np.asarray(leaf).tobytes() == np.asarray(other_leaf).tobytes()


@pytest.mark.parametrize("like", [(PARAMS, CARRY), jax.eval_shape(lambda: (PARAMS, CARRY))])
def test_every_leaf_comes_back_bit_for_bit(path, like):
  params, carry, metadata = load_weights(path, like)
  assert_same((params, carry), (PARAMS, CARRY))
  assert metadata["step"] == "7" and json.loads(metadata["config"]) == {"é": [1]}


def test_without_a_structure_they_are_nested_dicts(path):
  params, carry, _ = load_weights(path)
  layers = dict(zip("01", PARAMS["model"]["layers"], strict=True))
  assert_same(params, {**PARAMS, "model": {**PARAMS["model"], "layers": layers}})
  assert_same(carry, {"statistics": CARRY["statistics"]})


def test_others_read_it_by_flat_names(path):
  leaves = load_file(path)
  assert {"params/model/layers/0/kernel", "params/prior/half", "carry/statistics/mean"} <= leaves.keys()
  np.testing.assert_array_equal(leaves["params/model/layers/0/kernel"], np.arange(6.0).reshape(2, 3).T)


def test_reading_imports_no_jax(path):
  code = ("import sys; from gdm.training.weights import load_weights; params, _, _ = load_weights(sys.argv[1]); "
          "assert 'jax' not in sys.modules; print(params['model']['order'].tolist())")
  assert subprocess.check_output([sys.executable, "-c", code, path], text=True) == "[3, -1, 2]\n"


@pytest.mark.parametrize("contents", [b"", b"abc", b"\xff" * 100, struct.pack("<Q", 2) + b"[]", b"{}" * 50])
def test_what_is_no_safetensors_is_refused_and_not_overwritten(tmp_path, contents):
  other = tmp_path / "other"
  other.write_bytes(contents)
  with pytest.raises(CheckpointError, match=r"other cannot be read: it is no safetensors file, or was cut or damaged"):
    load_weights(other)
  with pytest.raises(CheckpointError, match="exists and is no weights of gdm; name another file"):
    save_weights(other, PARAMS, CARRY, {})
  assert other.read_bytes() == contents


def test_a_truncated_file_is_refused_wherever_it_is_cut(path):
  contents = path.read_bytes()
  for size in np.linspace(0, len(contents) - 1, 40).astype(int):
    path.write_bytes(contents[:size])
    with pytest.raises(CheckpointError, match="no safetensors file, or was cut or damaged"):
      load_weights(path)


def test_files_that_are_missing_or_of_others_are_named(tmp_path, path):
  with pytest.raises(CheckpointError, match="nothing cannot be read: it does not exist"):
    load_weights(tmp_path / "nothing")
  with pytest.raises(CheckpointError, match="it is a folder"):
    load_weights(tmp_path)
  foreign = tmp_path / "foreign"
  save_file({"a": np.zeros(2)}, foreign)
  with pytest.raises(CheckpointError, match=r"foreign has gdm_format none; .* It is no weights of gdm"):
    load_weights(foreign)
  save_file({"a": np.zeros(2)}, foreign, {"gdm_format": "2"})
  with pytest.raises(CheckpointError, match=r"has gdm_format 2; this version reads up to 1\. Update gdm"):
    load_weights(foreign)


def test_other_leaves_are_named(path):
  prior = {"scale": PARAMS["prior"]["scale"][:1], "half": PARAMS["prior"]["half"].astype(jnp.bfloat16)}
  model = {**PARAMS["model"], "extra": jnp.zeros(1)}
  del model["order"]
  with pytest.raises(CheckpointError) as error:
    load_weights(path, ({"model": model, "prior": prior}, CARRY))
  for fault in ("params/model/extra is missing", "params/model/order is not part of this model",
                "params/prior/scale is float32[2] there, float32[1] here",
                "params/prior/half is float16[1] there, bfloat16[1] here"):
    assert fault in str(error.value)


def test_an_earlier_export_is_overwritten_and_nothing_is_left_beside(path):
  save_weights(path, {"model": {"a": jnp.ones(2)}}, {}, {})
  assert_same(load_weights(path)[:2], ({"model": {"a": jnp.ones(2)}}, {}))
  assert os.listdir(path.parent) == [path.name]


def test_a_place_that_cannot_be_written_is_named(tmp_path):
  with pytest.raises(CheckpointError, match="no/w cannot be written: No such file or directory"):
    save_weights(tmp_path / "no" / "w", PARAMS, CARRY, {})
  with pytest.raises(CheckpointError, match="exists and is no weights"):
    save_weights(tmp_path, PARAMS, CARRY, {})


def test_a_full_disk_leaves_the_old_file(path):
  """In a process of its own, under a limit on the size of files."""
  before = path.read_bytes()
  code = ("import resource, sys, numpy as np\n"
          "from gdm.errors import CheckpointError\n"
          "from gdm.training.weights import save_weights\n"
          "resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000))\n"
          "try: save_weights(sys.argv[1], {'model': {'a': np.zeros(10000)}}, {}, {})\n"
          "except CheckpointError as error: print(error)")
  said = subprocess.check_output([sys.executable, "-c", code, path], text=True)
  assert said == f"{path} cannot be written: File too large.\n"
  assert path.read_bytes() == before and os.listdir(path.parent) == [path.name]
