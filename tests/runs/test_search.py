"""Settings are chosen on the validation split, within a budget, and the same after a kill."""

import json

import pytest
from helpers.commands import TINY

from gdm.errors import ConfigError, NotFiniteError, WorkdirError
from gdm.runs import defaults, search
from gdm.runs.workdir import Workdir


def config_of(**space):
  config = defaults.get_config()
  config.search = space or {"data": {"batch_size": (10, 20, 40, 80)}, "optimizer": {"b1": (0.0, 0.5, 0.8)}}
  return config


class Trainer:
  """Validates best where the batch size is 40 and b1 is 0.8; each call takes a second of a false clock."""

  def __init__(self, monkeypatch, seconds=1.0, fails=lambda config: False):
    self.calls, self.now, self.seconds, self.fails = [], 0.0, seconds, fails
    monkeypatch.setattr(search.time, "monotonic", lambda: self.now)

  def __call__(self, config, workdir):
    self.calls.append((config.training.num_steps, config.data.batch_size, config.optimizer.b1))
    self.now += self.seconds
    if self.fails(config):
      raise NotFiniteError("loss is nan")
    return -abs(config.data.batch_size - 40) - 100 * abs(config.optimizer.b1 - 0.8)


def run(config, folder, budget, train):
  return search.searched(config, Workdir(folder / "run"), budget, train, tell=lambda line: None)


def test_the_best_of_what_the_budget_allows_is_chosen(monkeypatch, tmp_path):
  train = Trainer(monkeypatch)
  found = run(config_of(), tmp_path, 1000.0, train)
  assert (found.data.batch_size, found.optimizer.b1) == (40, 0.8)
  steps = [steps for steps, _, _ in train.calls]
  assert steps == [111] * 13 + [333] * 4  # all twelve and the config itself, then a third of them
  assert train.calls[0] == (111, 100, 0.9) and found.training.num_steps == 1000
  assert found.searched.num_trials == 17 and "data.batch_size=40" in found.searched.chosen


def test_trials_are_no_longer_than_the_run(monkeypatch, tmp_path):
  config, train = config_of(), Trainer(monkeypatch)
  config.training.num_steps, config.training.steps_per_call = 20, 100
  found = search.searched(config, Workdir(tmp_path / "run"), 5.0, train, tell=lambda line: None)
  assert max(call[0] for call in train.calls) <= 20 and found.training.steps_per_call == 100


@pytest.mark.parametrize("budget", [0.5, 3.0, 10.0])
def test_the_budget_is_kept_but_for_the_first_trial_of_a_round(monkeypatch, tmp_path, budget):
  train = Trainer(monkeypatch)
  found = run(config_of(), tmp_path, budget, train)
  assert found.searched.seconds <= max(budget, 2.0)
  assert train.calls[0] == (111, 100, 0.9)


def test_a_search_that_was_killed_goes_on_to_the_same_end(monkeypatch, tmp_path):
  whole = run(config_of(), tmp_path / "whole", 12.0, Trainer(monkeypatch))
  train, calls = Trainer(monkeypatch), []

  def killed(config, workdir):
    if len(train.calls) % 3 == 2 and train.calls[-1] not in calls:
      calls.append(train.calls[-1])
      raise KeyboardInterrupt
    return train(config, workdir)

  for _ in range(20):
    try:
      found = run(config_of(), tmp_path / "broken", 12.0, killed)
      break
    except KeyboardInterrupt:
      pass
  assert len(calls) > 2 and found.to_json() == whole.to_json()
  assert len(train.calls) == len(set(train.calls))  # no trial twice


def test_what_diverges_is_not_chosen(monkeypatch, tmp_path):
  train = Trainer(monkeypatch, fails=lambda config: config.data.batch_size == 40)
  found = run(config_of(), tmp_path, 1000.0, train)
  assert (found.data.batch_size, found.optimizer.b1) == (20, 0.8)
  with pytest.raises(ConfigError, match="every one of 13 settings failed"):
    run(config_of(), tmp_path / "all", 1000.0, Trainer(monkeypatch, fails=lambda config: True))


@pytest.mark.parametrize(("space", "message"), [
    ({"data": {"batchsize": (1,)}}, "search.data.batchsize names no field"),
    ({"data": {"batch_size": ()}}, "must be a tuple of values"),
    ({"data": {"batch_size": (10, 0)}}, "data.batch_size is 0"),
    ({"data": {"batch_size": (10, "x")}}, "search.data.batch_size is 'x'; it must be of the type"),
])
def test_spaces_that_cannot_be(monkeypatch, tmp_path, space, message):
  train = Trainer(monkeypatch)
  with pytest.raises(ConfigError, match=message):
    run(config_of(**space), tmp_path, 10.0, train)
  assert not train.calls and not list(tmp_path.iterdir())


def test_another_search_is_refused(monkeypatch, tmp_path):
  run(config_of(), tmp_path, 5.0, Trainer(monkeypatch))
  with pytest.raises(WorkdirError, match="holds a search of another config"):
    run(config_of(data={"batch_size": (7,)}), tmp_path, 5.0, Trainer(monkeypatch))


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90.0), ("5m", 300.0), ("1.5h", 5400.0)])
def test_budgets(text, seconds):
  assert search.parse_budget(text) == seconds


@pytest.mark.parametrize("text", ["5", "m", "-3s", "0m", "5 m", "nans"])
def test_what_is_no_budget(text):
  with pytest.raises(ConfigError, match="90s, 5m or 1h"):
    search.parse_budget(text)


@pytest.mark.slow
def test_a_run_with_a_search_trains_what_was_chosen_and_reports_it(commands, tmp_path):
  workdir, args = tmp_path / "run", [f"{TINY}:searched", "--search=100s"]
  out = commands.good("train", *args, f"--workdir={workdir}")
  assert "chosen: model.input_dropout=0.0, optimizer.learning_rate=0.1." in out
  assert json.loads((workdir / "config.json").read_text())["optimizer"]["learning_rate"] == 0.1
  assert [path.name for path in (tmp_path / "run_search").iterdir()] == ["search.json"]
  commands.good("evaluate", f"--workdir={workdir}")
  report = json.loads((workdir / "likelihood_test.json").read_text())
  assert report["search"]["num_trials"] == 6 and report["search"]["budget_seconds"] == 100.0
  assert "finished already" in commands.good("train", *args, f"--workdir={workdir}")
  refused = commands.run("train", f"{TINY}:digits", "--search=5s", f"--workdir={tmp_path / 'other'}")
  assert refused.status == 2 and "lists nothing to search" in refused.err and not (tmp_path / "other").exists()
