"""A controller trained in the dreams of a world model and tried in the environment: as lines, arrays and a picture."""

from collections.abc import Iterator

import numpy as np

from gdm.paths import write_arrays
from gdm.precision import at_highest_precision
from gdm.runs.trained import TrainedRun
from gdm.studies import worlds
from gdm.visualization.episodes import save_episodes, save_pictures
from gdm.worlds.environments import Environment
from gdm.worlds.recording import frames_of

SHOWN = 4  # dreams


@at_highest_precision
def dream_and_act(run: TrainedRun, name: str, *, generations: int = 20, population: int = 16, dreams: int = 16,
                  steps: int = 200, temperature: float = 1.0, memory: int = 0, num_episodes: int = 100,
                  is_compared: bool = True, seed: int = 0) -> Iterator[str]:
  """Train a controller in dreams and try it in the environment; yield lines of what it and others earn there.

  Writes `dreams.npz` and `dreams.png` into the run's folder at the end.

  Args:
    run: of the world model.
    name: of the environment that was recorded.
    generations: of controllers, which CMA-ES moves.
    population: controllers of a generation.
    dreams: of each controller in a generation.
    steps: frames of a dream, which may be longer than recorded episodes.
    temperature: of dreams: above 1 they are less certain than the model.
    memory: last frames that the controller is given; 0 is 1, or of pictures 3.
    num_episodes: in which controllers are tried.
    is_compared: whether a controller is trained in the environment too.
    seed: of dreams and of the evolution.

  Raise ConfigError where the run is of another world, or a setting is out of range.
  """
  world = worlds.dreamer(run, worlds.environment_of(run, name), memory, temperature)
  yield from _copied(world)
  weights = worlds.train_in_dream(world, generations, population, dreams, steps, seed)
  lived = worlds.dreamt_steps(world, weights[None], num_episodes, steps, seed)[0]
  yield (f"trained in dreams: lives {lived:.1f} of {steps} frames in dreams, and earns "
         f"{worlds.earned(world, weights, num_episodes, worlds.FRESH)} in {name}")
  if is_compared:
    env = Environment(name)
    found = worlds.train_in_environment(env, generations, population, 1, seed)
    returns = env.returns(lambda observation, rng: worlds.linear(found.weights, observation), num_episodes,
                          worlds.FRESH)
    yield f"trained in {name}, in {found.steps:,} steps: earns {worlds.Earned.of(returns)}"
    yield f"at random: earns {worlds.Earned.of(env.returns(env.random, num_episodes, worlds.FRESH))}"
  frames, actions = worlds.dream(world, weights, SHOWN, steps, seed)
  write_arrays(run.folder / worlds.FILE, {
      "frames": frames, "actions": actions, "weights": weights, "memory": np.array(world.senses.memory)})
  real = [worlds.act_out(world, weights, worlds.FRESH + number, steps - 1) for number in range(SHOWN)]
  if world.env.camera:
    seen = [np.asarray(each.pictures) for each in real]
    save_pictures(run.folder / "dreams.png", {"dreams": list(frames), name: seen}, levels=world.env.camera.levels)
  else:
    real_frames = frames_of(3 * real, steps - 1, 0)["train"][:SHOWN]
    save_episodes(run.folder / "dreams.png", {"dreams": frames, name: real_frames})
  yield f"{SHOWN} dreams in {run.folder / worlds.FILE}, beside {name} in dreams.png"


def _copied(world: worlds.Dreamer) -> Iterator[str]:
  """Yield scores of models that expect the frame before again, of pictures beside the model's."""
  if not world.env.camera:
    nats = worlds.copied_frame_nats(world.run, "test")
    yield f"the frame before again, a normal about each value: {nats:.4f} nats/frame"
    return
  scores = {"the model": worlds.next_frame_bits(world.run, "test"),
            "the frame before again, with a model of each pixel's change": worlds.copied_frame_bits(world.run, "test"),
            "the same with a table of each pixel's changes": worlds.copied_frame_bits(world.run, "test", "table")}
  for name, (of_all, of_next) in scores.items():
    yield f"{name}: {of_all:.4f} bits/dim, of next frames {of_next:.4f}"
