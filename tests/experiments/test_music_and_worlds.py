"""Commands of music and worlds, end to end at the smallest size: what is written, and what is refused."""

import numpy as np
import pytest

from gdm.data.music import read_midi

pytest.importorskip("mido")
pytestmark = pytest.mark.slow

SHORT = [f"--config.training.{name}=2" for name in ("num_steps", "steps_per_call", "eval_every", "checkpoint_every",
                                                    "log_every")] + ["--config.optimizer.warmup_steps=0"]


@pytest.fixture
def chorales(tmp_path):
  """An npz file of joined chorales in four voices that rise together."""
  rng = np.random.default_rng(0)
  arrays = {}
  for name, num in (("train", 16), ("valid", 8), ("test", 8)):
    start = rng.integers(50, 60, (num, 1, 1))
    arrays[name] = (start + np.array([24, 17, 12, 0]) + np.arange(16)[:, None] // 4).reshape(-1, 4).astype(np.uint8)
    arrays[f"{name}_length"] = np.full(num, 16)
  np.savez(tmp_path / "chorales.npz", **arrays)
  return f"npz:{tmp_path / 'chorales.npz'}#music=voices:4"


def test_voices_are_filled_in_and_written(commands, tmp_path, chorales):
  workdir = tmp_path / "voices"
  commands.good("train", "--config=configs/discrete_diffusion/ardm.py:jsb_voices", f"--config.data.name={chorales}",
                "--config.data.batch_size=8", "--config.model.network.num_layers=1", "--config.model.network.width=8",
                "--config.model.network.num_heads=2", "--config.evaluation.num_samples=1", *SHORT,
                f"--workdir={workdir}")
  said = commands.good("harmonize", f"--workdir={workdir}", "--keep=soprano", "--num=2")
  assert "2 pieces" in said and (workdir / "harmonized_score.png").is_file()
  kept, given = (read_midi(workdir / f"{name}_000.mid", 4) for name in ("harmonized", "original"))
  soprano = [[note[:3] for note in notes if note.voice == 0] for notes in (kept, given)]
  assert soprano[0] == soprano[1] and len(given) > len(soprano[1])
  said = commands.run("harmonize", f"--workdir={workdir}", "--keep=descant")
  assert said.status == 2 and "--keep is 'descant'; it must name voices" in said.err
  commands.good("sample", f"--workdir={workdir}", "--num=2")
  assert (workdir / "samples_001.mid").is_file() and (workdir / "samples_score.png").is_file()


def test_a_recorded_world_is_dreamt_of(commands, tmp_path):
  pytest.importorskip("gymnasium")
  pytest.importorskip("cma")
  rolls, workdir = tmp_path / "rolls.npz", tmp_path / "world"
  commands.good("record", "--env=CartPole-v1", "--policy=linear", "--num=40", "--steps=7", f"--out={rolls}")
  commands.good("train", "--config=configs/autoregressive/recurrent_frames.py:worlds", f"--config.data.path={rolls}",
                "--config.data.batch_size=8", "--config.model.network.width=8", *SHORT, f"--workdir={workdir}")
  assert "nats/frame" in commands.good("evaluate", f"--workdir={workdir}", "--split=test")
  said = commands.good("dream", f"--workdir={workdir}", "--env=CartPole-v1", "--generations=1", "--population=3",
                       "--dreams=2", "--steps=9", "--episodes=2")
  assert "trained in dreams: lives" in said and "at random: earns" in said
  with np.load(workdir / "dreams.npz") as found:
    assert found["frames"].shape == (4, 9, 5) and found["actions"].shape == (4, 9, 2)
  said = commands.run("imitate", f"--workdir={workdir}", "--env=Pendulum-v1")
  assert said.status == 2 and "is no model of actions (1,) given observations (3,)" in said.err


def test_a_controller_of_dreams_records_what_it_meets(commands, tmp_path):
  pytest.importorskip("gymnasium")
  pytest.importorskip("cma")
  pytest.importorskip("pygame")
  rolls, workdir, again = tmp_path / "rolls.npz", tmp_path / "world", tmp_path / "again.npz"
  pictures = ["--env=CartPole-v1", "--observations=pictures", "--size=6x10", "--levels=4"]
  commands.good("record", *pictures, "--policy=linear", "--num=40", "--steps=7", f"--out={rolls}")
  commands.good("train", "--config=configs/latent/latent_frames.py:pictures", f"--config.data.path={rolls}",
                "--config.data.batch_size=8", "--config.model.latents.network.width=8",
                "--config.model.frame.decoder.hidden=(8,)", *SHORT, f"--workdir={workdir}")
  said = commands.good("evaluate", f"--workdir={workdir}", "--split=test")
  assert "bits/dim" in said and "lower bound" in said.replace("_", " ")
  said = commands.good("dream", f"--workdir={workdir}", "--env=CartPole-v1", "--generations=1", "--population=3",
                       "--dreams=2", "--steps=9", "--episodes=2", "--nocompare")
  assert "trained in dreams: lives" in said and "the same with a table of each pixel's changes: " in said
  with np.load(workdir / "dreams.npz") as found:
    assert found["frames"].shape == (4, 9, 6, 10, 1) and found["frames"].max() < 4 and found["memory"] == 3
  said = commands.good("record", *pictures, "--policy=controller", f"--controller={workdir}", "--spread=0.2", "--num=3",
                       "--steps=20", "--piece=7", f"--join={rolls}", f"--out={again}")
  with np.load(rolls) as first, np.load(again) as both:
    assert len(both["train"]) > len(first["train"]) and both["train"].shape[1:] == (8, 6, 10, 1)
  said = commands.run("record", "--env=CartPole-v1", "--observations=pictures", "--size=8x10", "--levels=4",
                      "--policy=controller", f"--controller={workdir}", "--num=3", f"--out={again}")
  assert said.status == 2 and "has frames (6, 10, 1)" in said.err
  said = commands.run("record", "--env=CartPole-v1", "--policy=controller", f"--out={again}")
  assert said.status == 2 and "a controller needs its workdir" in said.err


@pytest.mark.parametrize("config", ["flows/spline_autoregressive", "diffusion/edm", "autoregressive/rnade"])
def test_a_policy_is_learned_and_acts(commands, tmp_path, config):
  pytest.importorskip("gymnasium")
  swings, workdir = tmp_path / "swings.npz", tmp_path / "policies" / "one"
  commands.good("record", "--env=Pendulum-v1", "--policy=expert", "--num=3", "--steps=20", "--decisions",
                "--noise=0.05", f"--out={swings}")
  commands.good("train", f"--config=configs/{config}.py:worlds", f"--config.data.path={swings}",
                "--config.data.batch_size=8", *SHORT, f"--workdir={workdir}")
  said = commands.good("imitate", f"--workdir={workdir}", "--env=Pendulum-v1", "--episodes=2")
  assert "the expert: earns" in said
  said = commands.good("imitate", f"--compare={workdir.parent}")
  assert "20 actions: earns" in said and (workdir.parent / "imitation.png").is_file()
