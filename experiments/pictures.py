"""The pictures of a run: curves, samples beside data, completions, densities in the plane."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from experiments.trained import TrainedRun
from experiments.workdir import Workdir
from gdm.data.dataset import Dataset
from gdm.data.split import Split
from gdm.errors import ConfigError
from gdm.model import HasClasses, HasLatent, HasLogLikelihood, HasSample
from gdm.training.metrics import read_metrics
from gdm.training.streams import stream_key
from gdm.visualization.curves import save_curves
from gdm.visualization.density import save_density
from gdm.visualization.images import save_side_by_side


def draw_samples(run: TrainedRun) -> np.ndarray:
  """`sampling.num` samples [num, *event] by the settings of the config's `sampling` section."""
  model, settings = run.model, run.config.sampling
  if not isinstance(model, HasSample):
    raise ConfigError(f"{run.config.model.name} cannot sample.")
  options: dict[str, Any] = {} if settings.temperature == 1.0 else {"temperature": settings.temperature}
  if options and "temperature" not in inspect.signature(model.sample).parameters:
    raise ConfigError(f"sampling.temperature is {settings.temperature}, but {run.config.model.name} has none; it must "
                      "be 1.0.")
  key = stream_key(jax.random.key(settings.seed), "sampling", 0)
  if isinstance(model, HasClasses) and model.class_conditional:  # classes take turns
    options["condition"] = np.arange(settings.num) % (run.dataset.spec.num_classes or 1)
  return np.asarray(model.sample(run.params, run.carry, key, settings.num, **options).x)


def draw_model(workdir: Workdir, run: TrainedRun) -> None:
  """`samples.png`: samples of images beside data; `density.png`: a density in the plane beside data and samples."""
  if not isinstance(run.model, HasSample):
    return
  samples, spec = draw_samples(run), run.dataset.spec
  save_panels(workdir, "samples", run.dataset, {"samples": samples})
  conditional = isinstance(run.model, HasClasses) and run.model.class_conditional
  if spec.event == (2,) and not spec.is_discrete and isinstance(run.model, HasLogLikelihood) and not conditional:
    model = run.model  # for the closure: the narrowed type

    @jax.jit
    def log_prob(x):
      return model.log_likelihood(run.params, run.carry, {"x": x}, jax.random.key(0)).nats

    data = shown_split(run.dataset).rows(slice(0, 4000))["x"]
    save_density(workdir.path / "density.png", data, samples, log_prob, true_log_prob=run.dataset.log_prob,
                 from_latent=_from_latent(run, model))


def _from_latent(run: TrainedRun, model: Any) -> Callable[[np.ndarray], np.ndarray] | None:
  """Where the model puts points of its latent plane; None where its latents are no points of a plane."""
  if not isinstance(model, HasLatent):
    return None
  key = jax.random.key(0)

  @jax.jit
  def place(z):
    return model.decode(run.params, run.carry, z, key)

  points = np.asarray(model.encode(run.params, run.carry, {"x": np.zeros((1, 2), np.float32)}, key))
  return place if points.shape == (1, 2) else None


def save_panels(workdir: Workdir, name: str, dataset: Dataset, panels: Mapping[str, np.ndarray]) -> None:
  """`<name>.png`, where the data are images: test data, then each panel."""
  if not dataset.spec.is_image:
    return
  num = min(64, *(len(images) for images in panels.values()))
  # Spread over the split: some test splits are sorted by class.
  split = shown_split(dataset)
  rows = np.linspace(0, split.num_examples - 1, num).astype(int)
  data = split.rows(rows)["x"]
  save_side_by_side(workdir.path / f"{name}.png", {"data": data, **{k: v[:num] for k, v in panels.items()}},
                    levels=dataset.spec.levels)


def shown_split(dataset: Dataset) -> Split:
  """The split whose examples are shown: test, or validation where the data have none."""
  return dataset.split("test" if "test" in dataset.splits else "valid")


def draw_curves(workdir: Workdir, title: str) -> None:
  """`curves.png`: every metric of the run against its step."""
  rows: list[dict[str, Any]] = read_metrics(workdir.metrics)
  save_curves(workdir.path / "curves.png", rows, title)
