"""Pictures of a run's latents: what comes back, what lies between examples, sums of them, directions of labels."""

import dataclasses
from pathlib import Path

import numpy as np

from gdm.data.initial import sample_examples
from gdm.errors import ConfigError, DataError
from gdm.paths import write_arrays
from gdm.precision import at_highest_precision
from gdm.runs.latents import PATHS, Encoded, Latents, direction, num_active, plane_grid
from gdm.runs.trained import TrainedRun
from gdm.studies.codes import decode_codes, write_codes
from gdm.visualization.images import save_grid, save_side_by_side
from gdm.visualization.latents import save_map

MOST = 10_000  # examples whose latents are looked at for activity, maps and directions
MOST_LABELS = 20
MANIFOLD_SIDE, DEVIATIONS = 20, 3.0


@dataclasses.dataclass(frozen=True)
class Wanted:
  """What to look at.

  Attributes:
    split: whose examples.
    pairs: pairs of images to go between.
    steps: images from one end to the other, both included.
    path: a name of `gdm.runs.latents.PATHS`.
    triples: numbers of three examples a, b, c each, for a - b + c.
    attribute: a label whose direction is added to images without it; None for none.
    without: the label of those images; None for any other.
    strengths: how many times the direction is added.
    traverse: how many latents to traverse, those that vary most first.
  """

  split: str = "test"
  pairs: int = 8
  steps: int = 9
  path: str = "circle"
  triples: tuple[tuple[int, int, int], ...] = ()
  attribute: int | None = None
  without: int | None = None
  strengths: tuple[float, ...] = (-1.0, 0.0, 1.0, 2.0)
  traverse: int = 0

  @property
  def shares(self) -> list[float]:
    return np.linspace(0.0, 1.0, self.steps).tolist()

  def require_no_sums(self, why: str) -> None:
    """Raise ConfigError, with the reason in words, where sums, directions or traversals are asked for."""
    for flag, field in (("arithmetic", "triples"), ("attribute", "attribute"), ("without", "without"),
                        ("traverse", "traverse")):
      if getattr(self, field) != getattr(Wanted, field):
        raise ConfigError(f"--{flag} is of the latents of images, {why}; leave it out.")


@at_highest_precision
def look(run: TrainedRun, latents: Latents, wanted: Wanted) -> tuple[list[str], int, int]:
  """Write pictures of a model that infers latents into the run's folder.

  Returns:
    Their names; how many latents vary over the split; and how many there are.

  Raise ConfigError for numbers of examples or a label that the data do not have, or where nothing can be shown;
  DataError for a split without a pair of examples.
  """
  num = run.dataset.num_examples(wanted.split)
  if num < 2:
    raise DataError(f"{run.data.name} has {num} example in {wanted.split}; latents are shown of at least 2.")
  if not run.spec.is_image:
    wanted.require_no_sums(f"but {run.data.name} has events {run.spec.event}")
  if wanted.without is not None and wanted.attribute is None:
    raise ConfigError(f"--without is {wanted.without}, but there is no --attribute to add; give both.")
  for triple in wanted.triples:
    if not 0 <= min(triple) <= max(triple) < num:
      raise ConfigError(f"--arithmetic names {triple}; {wanted.split} has examples 0 to {num - 1}.")
  many, written = latents.encode(wanted.split, sample_examples(num, MOST)), []
  in_plane = many.z.ndim == 2 and many.z.shape[1] == 2
  if run.spec.is_image:
    written = _of_examples(run, latents, many, wanted)
  elif not in_plane:
    raise ConfigError(f"experiments.latent shows images, and latents in the plane, but {run.data.name} has events "
                      f"{run.spec.event}.")
  if in_plane:
    save_map(run.folder / "latent_map.png", many.z, many.y, f"{run.config.model.name} · {run.data.name}")
    written = ["latent_map.png", *written]
  return written, num_active(many.z), many.z[0].size


@at_highest_precision
def look_from_prior(run: TrainedRun, latents: Latents, wanted: Wanted) -> list[str]:
  """Write pictures of a model that can draw latents, and not infer them; return their names. Raise ConfigError where
  the data are no images."""
  spec, pairs = run.spec, wanted.pairs
  if not spec.is_image:
    raise ConfigError(f"experiments.latent shows images, but {run.data.name} has events {spec.event}.")
  wanted.require_no_sums(f"which {run.config.model.name} cannot infer")
  classes, z = min(spec.num_classes or 0, MOST_LABELS), latents.from_prior(2 * pairs)
  labels = np.arange(pairs) % classes if latents.is_conditional else None
  pictures = {"interpolations": [latents.decode(PATHS[wanted.path](z[:pairs], z[pairs:], share), labels)
                                 for share in wanted.shares]}
  if latents.is_conditional:
    pictures["labels"] = [latents.decode(z[:pairs], np.full(pairs, label)) for label in range(classes)]
  _save_columns(run.folder, pictures, spec.levels)
  return [f"{picture}.png" for picture in pictures]


@at_highest_precision
def look_at_codes(run: TrainedRun, wanted: Wanted, codes: Path | None, decode: Path | None) -> list[str]:
  """Write what there is of a model with discrete codes; return the names of files in the run's folder.

  Args:
    run: the run.
    wanted: its `split` and `pairs` count.
    codes: the .npz file to write the codes of all splits to.
    decode: an .npz file whose array x holds codes to decode.

  Raise ConfigError where sums or directions of latents are asked for: codes have none.
  """
  wanted.require_no_sums(f"but those of {run.config.model.name} are codes, which cannot be added")
  levels, written = run.spec.levels, []
  if codes is not None:
    shapes = write_codes(run, codes)
    print(", ".join(f"{split} {'x'.join(map(str, shape))}" for split, shape in shapes.items()) + f" in {codes}")
  if decode is not None:
    x = decode_codes(run, _codes_in(decode))
    write_arrays(run.folder / "decoded.npz", {"x": x})
    written.append("decoded.npz")
    if run.spec.is_image:
      save_grid(run.folder / "decoded.png", _shown(x[:64], levels), levels=None)
      written.append("decoded.png")
  if run.spec.is_image:
    examples = np.linspace(0, run.dataset.num_examples(wanted.split) - 1, 2 * wanted.pairs).astype(int)
    found = Latents(run).encode(wanted.split, examples)
    save_side_by_side(run.folder / "reconstructions.png", {
        "data": _shown(found.x, levels), "reconstructions": _shown(decode_codes(run, found.z), levels)}, levels=None)
    written.append("reconstructions.png")
  return written


def _codes_in(path: Path) -> np.ndarray:
  try:
    with np.load(path, allow_pickle=False) as arrays:
      return arrays["x"]
  except (OSError, ValueError, KeyError) as error:
    raise ConfigError(f"--decode is {path}, which cannot be read ({error}); it must be an .npz file with an array x, "
                      "such as samples.npz.") from error


def _of_examples(run: TrainedRun, latents: Latents, many: Encoded, wanted: Wanted) -> list[str]:
  """Write the pictures of images; return their names."""
  num, levels = run.dataset.num_examples(wanted.split), run.spec.levels
  ends = latents.encode(wanted.split, np.linspace(0, num - 1, min(2 * wanted.pairs, num - num % 2)).astype(int))
  half = len(ends.x) // 2
  # Of a class-conditional model the label changes half way.
  labels = [None if ends.y is None else ends.y[:half] if share < 0.5 else ends.y[half:] for share in wanted.shares]
  pictures = {"interpolations": [
      latents.decode(PATHS[wanted.path](ends.z[:half], ends.z[half:], share), label)
      for share, label in zip(wanted.shares, labels, strict=True)]}
  if wanted.triples:
    a, b, c = (latents.encode(wanted.split, np.array(column)) for column in zip(*wanted.triples, strict=True))
    pictures["arithmetic"] = [a.x, b.x, c.x, latents.decode(a.z - b.z + c.z, a.y)]
  if wanted.attribute is not None:
    pictures["attribute"] = _attribute(run, latents, many, wanted.attribute, wanted)
  if wanted.traverse:
    pictures["traversals"] = _traversals(latents, many, wanted)
  # From here on nothing is refused.
  save_side_by_side(run.folder / "reconstructions.png", {
      "data": _shown(ends.x, levels), "reconstructions": _shown(latents.decode(ends.z, ends.y), levels)}, levels=None)
  _save_columns(run.folder, pictures, levels)
  if many.z.ndim == 2 and many.z.shape[1] == 2 and not latents.is_conditional:
    save_grid(run.folder / "manifold.png", _shown(latents.decode(plane_grid(MANIFOLD_SIDE), None), levels),
              levels=None, columns=MANIFOLD_SIDE)
    pictures["manifold"] = []
  return ["reconstructions.png", *(f"{name}.png" for name in pictures)]


def _attribute(run: TrainedRun, latents: Latents, many: Encoded, label: int, wanted: Wanted) -> list[np.ndarray]:
  """Return columns of images: some without the label, and with its direction added; means are over training."""
  train = sample_examples(run.dataset.num_examples("train"), MOST)
  way = direction(latents.encode("train", train), label, wanted.without)
  assert many.y is not None  # or there were no direction
  others = many.y != label if wanted.without is None else many.y == wanted.without
  if not others.any():
    raise ConfigError(f"--attribute is {label}, but {wanted.split} has no image "
                      f"{'of another label' if wanted.without is None else f'of label {wanted.without}'} to add it to.")
  x, z, y = (values[others][:wanted.pairs] for values in (many.x, many.z, many.y))
  return [x, *(latents.decode(z + strength * way, y) for strength in wanted.strengths)]


def _traversals(latents: Latents, many: Encoded, wanted: Wanted) -> list[np.ndarray]:
  """Return columns of images: each row moves one latent of the first example, from end to end."""
  flat = many.z.reshape(len(many.z), -1)
  spread, centre = flat.std(axis=0), flat.mean(axis=0)
  dims = np.argsort(-spread)[:wanted.traverse]
  columns = []
  for share in np.linspace(-DEVIATIONS, DEVIATIONS, wanted.steps):
    z = np.repeat(flat[:1], len(dims), axis=0)
    z[np.arange(len(dims)), dims] = centre[dims] + share * spread[dims]
    y = None if many.y is None else np.repeat(many.y[:1], len(dims))
    columns.append(latents.decode(z.reshape(-1, *many.z.shape[1:]), y))
  return columns


def _save_columns(path: Path, pictures: dict[str, list[np.ndarray]], levels: int | None) -> None:
  """Write a picture for each list of columns of images."""
  for name, columns in pictures.items():
    images = np.stack([_shown(column, levels) for column in columns], axis=1)
    save_grid(path / f"{name}.png", images.reshape(-1, *images.shape[2:]), levels=None, columns=len(columns))


def _shown(x: np.ndarray, levels: int | None) -> np.ndarray:
  """Return images as real numbers in [0, 1]."""
  return np.asarray(x, np.float32) if levels is None else np.asarray(x, np.float32) / (levels - 1)
