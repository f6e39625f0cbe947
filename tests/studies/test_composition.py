"""Which runs go together: by their examples, not by the names of their data."""

import dataclasses

import numpy as np
import pytest

from gdm.baselines.ensemble import Ensemble
from gdm.baselines.independent import Independent
from gdm.data.dataset import Dataset
from gdm.data.tokens import CHARACTERS, Tokenizer
from gdm.dataspec import DataSpec
from gdm.diffusion.networks.denoising_mlp import DenoisingMLP
from gdm.diffusion.vdm import vdm
from gdm.errors import ConfigError
from gdm.flows.maf import MAF
from gdm.runs import defaults
from gdm.runs.trained import TrainedRun
from gdm.studies.composition import composed_config, require_same_data, require_unseen

BITS = DataSpec((12,), 2)
ROWS = np.random.default_rng(0).integers(0, 2, (100, 12)).astype(np.uint8)
SPLITS = {"train": ROWS[:60], "valid": ROWS[60:80], "test": ROWS[80:]}


def run(path="a.npz", splits=None, model=None, sampling=None, spec=BITS, **facts):
  config = defaults.get_config()
  config.data.update(name="npz", path=path)
  config.model = {"name": "independent"}
  config.sampling.update(sampling or {})
  dataset = Dataset("npz:a", spec, {name: {"x": x} for name, x in {**SPLITS, **(splits or {})}.items()}, **facts)
  return TrainedRun.of(config, dataset, model or Independent(spec), {}, {}, step=1)


def check(*runs):
  require_same_data([f"run_{k}" for k in range(len(runs))], runs)


def without(split):
  other = run("b.npz")
  dataset = dataclasses.replace(
      other.dataset, splits={name: rows for name, rows in other.dataset.splits.items() if name != split})
  return dataclasses.replace(other, read_data=lambda: dataset)


def test_the_same_examples_go_together_whatever_they_are_called():
  check(run("a.npz"), run("b.npz"), run("c.npz", splits={"train": SPLITS["train"].copy()}))


@pytest.mark.parametrize("other, words", [
    (run("b.npz", {"train": ROWS[20:80]}), "run_1 is on npz:a, run_0 on npz:a, and their splits train differ .*"
     "20 of the 20 valid examples of run_0 are in the training split of run_1"),
    (run("b.npz", {"train": ROWS[20:60], "test": ROWS[:20]}),
     "20 of the 20 test examples of run_1 are in the training split of run_0"),
    (run("b.npz", {"valid": ROWS[60:70]}), "splits valid differ"),
    (run("b.npz", {"valid": ROWS[60:80][::-1]}), "splits valid differ"),
    (run("b.npz", {"test": ROWS[81:]}), "splits test differ"),
    (without("test"), "only one of them has a split 'test'"),
    (run("b.npz", tokenizer=Tokenizer.of(CHARACTERS, "ab", unknown=False, end=False)), "vocabularies differ"),
    (run("b.npz", spec=DataSpec((12,), 3)), r"spec.levels is 3, there 2\); runs made into one share"),
    (run("b.npz", spec=DataSpec((12,), 2, num_classes=2)), "spec.num_classes is 2, there None"),
])
def test_other_examples_do_not(other, words):
  with pytest.raises(ConfigError, match=words):
    check(run(), other)


def test_what_a_product_is_scored_on_no_run_was_trained_on():
  paths = ["run_0", "run_1"]
  require_unseen(paths, [run(), run("b.npz", {"train": ROWS[:10], "test": ROWS[:5]})])  # its own test may be anything
  repeated = {"test": np.concatenate([ROWS[80:], ROWS[:5]])}  # which the first run's training split has too
  require_unseen(paths, [run(splits=repeated), run("b.npz")])
  for seen, words in ((slice(70, 90), "10 of the 20 valid examples of run_0"), (slice(95, 99), "4 of the 20 test")):
    with pytest.raises(ConfigError, match=f"run_1 was trained on {words}"):
      require_unseen(paths, [run(), run("b.npz", {"train": ROWS[seen]})])


def test_settings_of_sampling_are_kept_where_all_runs_have_and_take_them():
  plane = DataSpec((2,), None)
  path, flow = vdm(plane, network=DenoisingMLP(hidden=(4,))), MAF(plane, num_layers=1, hidden=(4,))
  steps = {"sampler": "ddim", "num_steps": 7, "num": 5}

  def sampling(*runs):
    return composed_config(runs, {"name": "ensemble"}).sampling.to_dict()

  neutral = defaults.get_config().sampling.to_dict()
  assert sampling(run(model=path, sampling=steps), run(model=path, sampling=steps)) == {**neutral, **steps}
  differ = sampling(run(model=path, sampling=steps), run(model=path, sampling={**steps, "num_steps": 8}))
  assert differ == {**neutral, "sampler": "ddim", "num": 5}
  mixed = Ensemble(plane, (path, flow))
  assert sampling(run(model=mixed, sampling=steps), run(model=flow)) == {**neutral, "num": 5}


def test_searches_of_all_runs_are_told():
  runs = [run(), run(), run()]
  for index in (0, 2):
    runs[index].config.searched = {"best": {"alpha": float(index)}}
  config = composed_config(runs, {"name": "ensemble"})
  assert config.searched.to_dict() == {str(k): {"best": {"alpha": float(k)}} for k in (0, 2)}
