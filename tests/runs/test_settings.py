"""Configs, models by name, and workdirs, without a process of their own."""

import dataclasses

import ml_collections
import pytest

from gdm.dataspec import DataSpec
from gdm.errors import ConfigError, WorkdirError
from gdm.runs import defaults, registry
from gdm.runs.settings import RULES, check_settings, flatten_fields, with_defaults, within_run
from gdm.runs.workdir import Workdir, training_fields

BINARY = DataSpec((3,), 2)


@dataclasses.dataclass(frozen=True)
class Anything:
  """A model with a field of every kind."""

  spec: DataSpec
  size: int
  rate: float = 0.0
  hidden: tuple[int, ...] = (5,)
  pair: tuple[int, float] = (1, 0.5)
  parents: tuple[tuple[int, ...], ...] = ()
  label: str | None = None
  part: object = None

  objectives = ()

  def init(self, key, batch):
    return {}, {}


@pytest.fixture
def anything(monkeypatch):
  monkeypatch.setitem(registry.MODELS, "anything", (__name__, "Anything"))
  monkeypatch.setattr(registry, "load_object", lambda module, name: Anything)
  return lambda **settings: registry.build_model({"name": "anything", "size": 1, **settings}, BINARY)


def test_every_rule_is_about_a_field_of_the_base_and_holds_for_its_default():
  config = defaults.get_config()
  assert RULES.keys() <= flatten_fields(config.to_dict()).keys()
  check_settings(config)


@pytest.mark.parametrize(("field", "value", "words"), [
    ("guidance_rescale", float("nan"), r"in \[0, 1\]"), ("guidance_interval", (2.0, 1.0), "two noise levels"),
    ("guidance_interval", ("a", "b"), "two noise levels"),
])
def test_a_value_outside_its_range_is_refused(field, value, words):
  config = defaults.get_config()
  config.sampling[field] = value
  with pytest.raises(ConfigError, match=rf"sampling\.{field} is .*; it must be .*{words}"):
    check_settings(config)


def test_warm_up_gives_way_to_a_short_run_in_groups_too():
  config = defaults.get_config("", {"training": {"num_steps": 5}, "optimizer": {"warmup_steps": 100}})
  config.optimizer.groups = {"critic": {"warmup_steps": 50}, "generator": {"b1": 0.5}}
  optimizer = within_run(config).optimizer
  assert (optimizer.warmup_steps, optimizer.groups.critic.warmup_steps) == (4, 4)


def test_fields_become_the_models_and_mappings_with_a_name_become_models(anything):
  model = anything(rate=1, hidden=(), parents=((), (0,)), label="a", part={"name": "anything", "size": 2})
  assert model == Anything(BINARY, 1, 1, (), (1, 0.5), ((), (0,)), "a", Anything(BINARY, 2))


@pytest.mark.parametrize(("field", "value", "words"), [
    ("size", 1.5, "int"), ("size", True, "int"), ("rate", "a", "float"), ("hidden", (1.5,), r"tuple\[int, \.\.\.\]"),
    ("hidden", 500, "tuple"), ("hidden", ("a",), "tuple"), ("pair", (1,), "tuple"), ("parents", (0, 1), "tuple"),
    ("label", 3, r"str \| None"), ("rate", float("nan"), "finite"), ("pair", (1, float("inf")), "finite"),
])
def test_a_field_of_another_type_is_refused(anything, field, value, words):
  with pytest.raises(ConfigError, match=rf"model\.{field} is .*; it must be .*{words}"):
    anything(**{field: value})


def test_unknown_and_missing_fields_are_named(anything):
  with pytest.raises(ConfigError, match=r"model\.hiden is unknown to anything; did you mean 'hidden'"):
    anything(hiden=1)
  with pytest.raises(ConfigError, match=r"model\.size is missing; anything has no default for it"):
    registry.build_model({"name": "anything"}, BINARY)
  with pytest.raises(ConfigError, match=r"model\.name is 'anythin'; did you mean 'anything'"):
    registry.build_model({"name": "anythin"}, BINARY)
  with pytest.raises(ConfigError, match=r"model\.name is 3; it must be the name of a model"):
    registry.build_model({"name": 3}, BINARY)


def test_a_model_of_another_package_is_named_by_its_module():
  model = registry.build_model({"name": "gdm.baselines.independent:Independent", "alpha": 2.0}, BINARY)
  assert model.alpha == 2.0
  assert registry.complete({"name": "gdm.baselines.independent:Independent"})["alpha"] == 1.0
  for name, words in (("no_such_package.m:M", "No module named 'no_such_package'"),
                      ("gdm.baselines.independent:Dependent", "has no attribute 'Dependent'")):
    with pytest.raises(ConfigError, match=f"which cannot be loaded: .*{words}"):
      registry.build_model({"name": name}, BINARY)


def test_what_a_config_leaves_out_is_at_its_default():
  short = ml_collections.ConfigDict({"model": {"name": "independent"}, "training": {"num_steps": 7}})
  full = defaults.get_config()
  full.model = {"name": "independent", "alpha": 1.0}
  full.training.num_steps = 7
  assert with_defaults(short).optimizer == full.optimizer
  assert training_fields(short) == training_fields(full)


def test_evaluation_sampling_and_the_place_of_data_do_not_determine_training():
  one, two = defaults.get_config(), defaults.get_config()
  two.evaluation.num_draws, two.sampling.num, two.data.data_dir = 7, 7, "/elsewhere"
  assert training_fields(one) == training_fields(two)
  two.seed = 1
  assert training_fields(one) != training_fields(two)


def test_a_claim_that_comes_to_nothing_leaves_nothing(tmp_path):
  config = defaults.get_config()
  with pytest.raises(ConfigError), Workdir(tmp_path / "a").claim(config):
    raise ConfigError("something else was wrong")
  assert not (tmp_path / "a").exists()
  (tmp_path / "b").mkdir()
  with Workdir(tmp_path / "b").claim(config):
    pass
  assert list((tmp_path / "b").iterdir()) == []


def test_a_claim_excludes_others_until_it_ends_and_a_record_those_of_another_config(tmp_path):
  config, workdir = defaults.get_config(), Workdir(tmp_path / "run")
  with workdir.claim(config):
    with pytest.raises(WorkdirError, match="in use"), Workdir(tmp_path / "run").claim(config):
      pass
    workdir.record(config)
  with workdir.claim(config):
    pass
  config.seed, config.optimizer.learning_rate = 3, 0.5
  with pytest.raises(WorkdirError, match=r"optimizer\.learning_rate: 0\.001 there, 0\.5 now; seed: 0 there, 3 now"), (
      workdir.claim(config)):
    pass
