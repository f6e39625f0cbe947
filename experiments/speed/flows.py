"""Normalizing flows beside other libraries: training, log-density, sampling; and what sampling a MAF costs against D.

The same architecture on each side: layers of affine couplings, of masked affine maps (MAF) or of masked splines, each
with a network of two hidden layers, in float32, by Adam. Every library lives in an environment of its own under a
folder that --peers names:

  python -m venv DIR/flowjax && DIR/flowjax/bin/pip install flowjax==19.1.2 jax==0.10.2 equinox==0.13.8 paramax==0.0.5
  python -m venv DIR/zuko && DIR/zuko/bin/pip install zuko==1.6.0 torch==2.13.0

All programs are alive at the same time and take turns, so that what else the machine does hits all alike. Those in
PyTorch run in one thread or in all, whichever trains them quicker. On a machine where others compute too, run it on one
core (`taskset -c 1 python -m experiments.speed --sections=flows ...`): else threads that wait for each other can make
any ratio, XLA's too.
"""

import contextlib
import dataclasses
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from experiments.speed.beside import num_threads
from experiments.speed.peers.protocol import DENSITY, SAMPLING, TRAINING, Case, Peer
from experiments.speed.rows import Row
from experiments.speed.settings import FULL, QUICK, TINY, Settings
from experiments.speed.timing import alternate, exponent, ratios, summary
from gdm.dataspec import DataSpec
from gdm.runs.registry import build_model

OURS = "experiments.speed.peers.gdm_flows"
PEERS = {name: f"experiments.speed.peers.{name}_flows" for name in ("flowjax", "zuko")}
MODELS = ("coupling", "maf", "spline")
UNITS = {TRAINING: "steps/s", DENSITY: "examples/s", SAMPLING: "samples/s"}
NUM_BINS = 8

# Of speeds over a library's, by model; of every model where it is None.
TARGETS: Mapping[tuple[str, str | None], float] = {
    ("flowjax", None): 1.0, ("zuko", "maf"): 2.5, ("zuko", "spline"): 2.0}
EXPONENT_TARGET = 1.2  # a pass of the network for each dimension would be 2
STEPS, PASSES = "steps", "passes"


@dataclasses.dataclass(frozen=True)
class Size:
  """Dimensions of what is compared, its layers, width and batch, and seconds of a timing; dimensions of a MAF whose
  sampling is timed against them."""

  dims: tuple[int, ...] = (11, 64)
  num_layers: int = 5
  width: int = 64
  batch: int = 256
  seconds: float = 0.2
  sampled: tuple[int, ...] = (16, 64, 256)


SIZES = {FULL: Size(), QUICK: Size(dims=(11,), seconds=0.1),
         TINY: Size(dims=(3,), num_layers=1, width=4, batch=2, seconds=0.01, sampled=(2, 4))}


def run(settings: Settings) -> list[Row]:
  size = SIZES[settings.size]
  cases = [Case(model, size.num_layers, size.width, NUM_BINS, dims, size.batch, num_threads())
           for model in MODELS for dims in size.dims]
  return [row for case in cases for row in _beside(case, settings, size.seconds)] + _sampling(size, settings.repeats)


def _beside(case: Case, settings: Settings, seconds: float) -> list[Row]:
  """Rows of a case, ours and the ratios to each library that is there."""
  what = f"{case.model} D={case.context}"
  with contextlib.ExitStack() as stack:
    def start(python: str, module: str) -> Peer:
      peer = Peer(python, module, case)
      stack.callback(peer.close)
      return peer

    ours, peers, missing = start(sys.executable, OURS), {}, {}
    for name, module in PEERS.items():
      try:
        peers[name] = start(_python(settings, name), module)
      except (RuntimeError, FileNotFoundError) as error:
        missing[name] = f"not measured: {error}"
    how = f"batch {case.batch}, {case.num_layers} layers {case.width}x{case.width}, {ours.params:,} parameters"
    rows = [Row(f"{what}: to the first step", ours.first[TRAINING], "s", "building, compiling and the first step")]
    rows += [_first(f"{what}: to the first step, {name} over ours", ours, peers.get(name), missing.get(name))
             for name in PEERS]
    for task, unit in UNITS.items():
      times = _times(task, {"": ours, **peers}, settings.repeats, seconds)
      num = 1 if task == TRAINING else case.batch
      rows.append(summary(f"{what}: {task}", [num / each for each in times[""]], unit, how))
      for name in PEERS:
        label, low = f"{what}: {task} over {name}", TARGETS.get((name, case.model), TARGETS.get((name, None)))
        if name in missing:
          rows.append(Row(label, None, "x", missing[name], low=low))
          continue
        theirs = summary("", [num / each for each in times[name]], unit, "").value or 0.0
        rows.append(summary(label, ratios(times[name], times[""]), "x",
                            f"theirs: {theirs:,.4g} {unit}, {peers[name].params:,} parameters", low=low))
    return rows


def _python(settings: Settings, name: str) -> str:
  """Return the python of a library's environment; a FileNotFoundError says where it should be."""
  if not settings.peers:
    raise FileNotFoundError(f"give --peers, a folder with an environment {name}")
  python = Path(settings.peers).absolute() / name / "bin" / "python"
  if not python.exists():
    raise FileNotFoundError(f"--peers has no {name}/bin/python")
  return str(python)


def _first(label: str, ours: Peer, theirs: Peer | None, missing: str | None) -> Row:
  if theirs is None:
    return Row(label, None, "x", missing or "")
  seconds = theirs.first[TRAINING]
  return Row(label, seconds / ours.first[TRAINING], "x", f"theirs: {seconds:.3g} s, imports apart; once")


def _times(task: str, peers: Mapping[str, Peer], repeats: int, seconds: float) -> dict[str, list[float]]:
  """Seconds of a step of a task, of each in turns."""
  steps = {name: max(1, round(seconds / peer.seconds(1, task))) for name, peer in peers.items()}
  times: dict[str, list[float]] = {name: [] for name in peers}
  for _ in range(repeats):
    for name, peer in peers.items():
      times[name].append(peer.seconds(steps[name], task) / steps[name])
  return times


def _sampling(size: Size, repeats: int) -> list[Row]:
  """Sampling a MAF against D, and against the usual inverse, a pass of all networks for each dimension."""
  calls, key = {}, jax.random.key(0)
  for dims in size.sampled:
    model: Any = build_model({"name": "maf", "num_layers": size.num_layers, "hidden": (size.width, size.width),
                              "normalization": "none"}, DataSpec((dims,), None))
    x = jnp.zeros((size.batch, dims))
    params, carry = jax.jit(model.init)(key, {"x": x})
    sample = jax.jit(lambda params, model=model, carry=carry: model.sample(params, carry, key, size.batch).x)
    one_pass = jax.jit(lambda params, x, model=model, carry=carry: model.forward(params, carry, x).value)
    calls[STEPS, dims] = lambda sample=sample, params=params: sample(params)
    calls[PASSES, dims] = lambda one_pass=one_pass, params=params, x=x: one_pass(params, x)
  times = alternate(calls, repeats, inner=3)
  rows = []
  for dims in size.sampled:
    passes = [dims * seconds for seconds in times[PASSES, dims]]
    rows += [summary(f"maf D={dims}: a batch of samples", times[STEPS, dims], "s", f"batch {size.batch}, one process"),
             summary(f"maf D={dims}: sampling over whole passes", ratios(passes, times[STEPS, dims]), "x",
                     "a pass of all networks for each dimension; one was timed")]
  slopes = [exponent(size.sampled, times_of) for times_of in zip(*(times[STEPS, d] for d in size.sampled), strict=True)]
  rows.append(summary("maf: sampling, exponent in D", slopes, "", f"log-log fit over D = {size.sampled}",
                      high=EXPONENT_TARGET))
  return rows
