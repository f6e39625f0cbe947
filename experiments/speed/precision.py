"""Products in bfloat16 against float32: step time, FLOP/s, and the share of the device's peak where that is known."""

import dataclasses
from collections.abc import Callable

import jax

from experiments.speed.rows import Row
from experiments.speed.settings import FULL, QUICK, TINY, Settings
from experiments.speed.timing import alternate, ratios, summary
from experiments.speed.training import Trainee, made
from gdm.runs.utilization import utilization
from gdm.training.state import TrainState

PRECISIONS = ("float32", "bfloat16")


@dataclasses.dataclass(frozen=True)
class Size:
  """Hidden layers, batch size, and timings per repeat, each of `steps` steps."""

  hidden: tuple[int, ...] = (512, 512)
  batch: int = 1000
  timings: int = 5
  steps: int = 2


SIZES = {FULL: Size(), QUICK: Size(timings=2), TINY: Size((4, 4), 10, 1, 1)}
# Steps of milliseconds on a GPU or a TPU.
ACCELERATOR_SIZES = {FULL: Size((8192, 8192), 4096, 5, 10), QUICK: Size((8192, 8192), 4096, 2, 10), TINY: SIZES[TINY]}


def run(settings: Settings) -> list[Row]:
  device = jax.devices()[0]
  size = (SIZES if device.platform == "cpu" else ACCELERATOR_SIZES)[settings.size]
  dataset = settings.dataset()
  name, model = made(dataset, size.hidden)
  trainee = Trainee(model, dataset)
  compiled = {precision: trainee.compile(size.batch, precision=precision) for precision in PRECISIONS}
  calls = {precision: _several(trainee.repeat(compiled[precision], size.batch), size.steps) for precision in PRECISIONS}
  times = {precision: [time / size.steps for time in taken]
           for precision, taken in alternate(calls, settings.repeats * size.timings).items()}
  # The model's own FLOPs for both: conversions to bfloat16 are no work of the model's.
  flops, kind = compiled["float32"].flops, device.device_kind
  rows = [summary(f"{name}: {precision}", [1e3 * time for time in times[precision]], "ms",
                  f"step on batch {size.batch}, adam; products in {precision}, all else float32; {kind}")
          for precision in PRECISIONS]
  rows.append(summary(f"{name}: bfloat16 over float32", ratios(times["bfloat16"], times["float32"]), "x",
                      "step times; median over neighbours, below 1: bfloat16 is faster"))
  for precision in PRECISIONS:
    rates = [1.0 / time for time in times[precision]]
    rows += [_flops_row(f"{name}: achieved, {precision}", flops, rates),
             _utilization_row(f"{name}: utilization, {precision}", trainee, flops, rates)]
  return rows


def _several(step: Callable[[], TrainState], num: int) -> Callable[[], TrainState]:
  """Return a call of `num` steps, of which only the last state is there to be waited for."""
  return lambda: [step() for _ in range(num)][-1]


def _flops_row(name: str, flops: float | None, rates: list[float]) -> Row:
  if not flops:
    return Row(name, None, "GFLOP/s", "the compiler does not say the FLOPs of a step")
  return summary(name, [1e-9 * flops * rate for rate in rates], "GFLOP/s",
                 f"{1e-9 * flops:.3g} GFLOP per step, as the compiler counts the float32 step")


def _utilization_row(name: str, trainee: Trainee, flops: float | None, rates: list[float]) -> Row:
  fractions = [utilization(trainee.mesh, flops, rate) for rate in rates]
  known = [100.0 * fraction for fraction in fractions if fraction is not None]
  kind = trainee.mesh.devices.flat[0].device_kind
  if not known:
    missing = f"peak of {kind} is" if flops else "FLOPs of the step are"
    return Row(name, None, "%", f"{missing} not known")
  return summary(name, known, "%", f"of the peak of {kind} with dense bfloat16 products")
