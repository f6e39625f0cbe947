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
