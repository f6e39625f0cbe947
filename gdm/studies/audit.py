"""What of a run's numbers is proven, and what is claimed: every check that can be made without trusting the model.

Each check says how it came out in words, and ends as one of four verdicts. A check that is not for a model says why.
"""

import dataclasses
import enum
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gdm.batches import given
from gdm.errors import DataError, NotFiniteError, UserError
from gdm.evaluation.coding.chains import chain_of
from gdm.evaluation.coding.files import Coding, Examples, encode
from gdm.evaluation.coding.ways import claimed_model
from gdm.evaluation.report import Report, relation
from gdm.evaluation.scores import read_scores, scores_path
from gdm.evaluation.total_mass import Mass, small_twin, total_mass
from gdm.likelihood import Kind
from gdm.model import HasBijection, HasOrders
from gdm.precision import at_highest_precision, highest_precision
from gdm.runs.registry import build_model
from gdm.runs.scoring import scored_by
from gdm.runs.trained import TrainedRun

CODED_EXAMPLES = 32
FEW_EXAMPLES = 8
# Nats by which a score and the sum of its conditionals may differ, of each dimension.
CHAIN_TOLERANCE = 1e-4
COMES_BACK = 1e-3  # of the latent's data, in units of their spread


class Verdict(enum.StrEnum):
  """How a check came out."""

  PROVEN = "proven"
  CLAIMED = "claimed"  # nothing speaks against it, and nothing was tried that could
  FAILED = "failed"
  NOT_TRIED = "not tried"


class Finding(NamedTuple):
  """A check, its verdict, and what was found, in words."""

  check: str
  verdict: Verdict
  words: str


@dataclasses.dataclass(frozen=True)
class Audit:
  """The findings about one run, and what the run took.

  Attributes:
    run: the run.
    split: the split that its number is of.
    number: the number, as its report has it; "" where there is no report.
    findings: of the checks.
    flops: floating-point operations of its training, as compilers count them; None where nothing was trained by steps.
  """

  run: TrainedRun
  split: str
  number: str
  findings: tuple[Finding, ...]
  flops: float | None

  @property
  def failed(self) -> tuple[Finding, ...]:
    return tuple(finding for finding in self.findings if finding.verdict is Verdict.FAILED)


@at_highest_precision
def audit(run: TrainedRun, split: str = "test") -> Audit:
  """Check all that can be checked about a run's number on a split."""
  findings = []
  for name, check in CHECKS.items():
    try:
      verdict, words = check(run, split)
    except NotFiniteError as error:  # at the trained weights, which nobody can use then
      verdict, words = Verdict.FAILED, str(error)
    except UserError as error:  # what a model or its data cannot do is told, and no reason to stop
      verdict, words = Verdict.NOT_TRIED, str(error)
    findings.append(Finding(name, verdict, words))
  report = run.report.get(f"likelihood_{split}")
  return Audit(run, split, "" if report is None else _number(dict(report)), tuple(findings), training_flops(run))


def _number(report: Report) -> str:
  kind = Kind(report["kind"])
  if report["bits_per_dim"] is None:
    return f"{relation(-kind)}{report['nats_mean']:.4f} nats"
  return f"{relation(kind)}{report['bits_per_dim']:.4f} bits/dim"


def _sums(run: TrainedRun, split: str) -> tuple[Verdict, str]:
  """Sum the probabilities of a twin's whole space."""
  settings, likelihood = run.config.model.to_dict(), run.config.evaluation.likelihood
  twin = small_twin(lambda spec: scored_by(build_model(settings, spec), likelihood), run.spec)
  mass = total_mass(twin)
  if mass is None:
    return Verdict.NOT_TRIED, "an estimate, or a number up to log Z, promises no sum"
  return (Verdict.PROVEN if mass.holds else Verdict.FAILED), _mass_words(mass)


def _mass_words(mass: Mass) -> str:
  spec = mass.spec
  space = f"{spec.levels}^{spec.num_dims} states" if spec.is_discrete else "a grid of the plane"
  promised = "1" if mass.kind is Kind.EXACT else "at most 1"
  noise = f" ± {mass.noise:.4f}" if mass.noise > 1e-6 else ""
  return f"{mass.total:.5f}{noise} over {space} of a twin with the same settings; it should be {promised}"


@highest_precision()
def _chain(run: TrainedRun, split: str) -> tuple[Verdict, str]:
  """Compare scores with the sum of conditionals, each of which is given nothing but what came before."""
  if isinstance(run.model, HasOrders):
    return Verdict.NOT_TRIED, "a bound over all orders is the sum of no single chain"
  try:
    chain = chain_of(run.model)
  except UserError:
    return Verdict.NOT_TRIED, "not a chain of conditionals"
  if chain.num_components > 1 or chain.has_escape:
    return Verdict.NOT_TRIED, "a mixture of chains, or one with values left out; see whether it was decoded"
  x = _some(run, split, FEW_EXAMPLES)
  if run.spec.has_lengths:
    whole = np.flatnonzero(np.asarray(run.dataset.split(split)["length"][:]) == run.spec.event[0])[:FEW_EXAMPLES]
    if not len(whole):
      return Verdict.NOT_TRIED, f"no example of {split} has all {run.spec.event[0]} steps"
    x = np.asarray(run.dataset.split(split).rows(whole)["x"])
  values, component = chain.split(x, 0), jnp.int32(0)
  step = jax.jit(lambda cache, previous, index: chain.step(run.params, cache, previous, index, component))
  cache, summed = chain.init_cache(run.params, len(x), component), np.zeros(len(x))
  for index in range(chain.num_steps):
    cache, logs = step(cache, jnp.asarray(values[max(index - 1, 0)]), jnp.int32(index))
    summed += np.asarray(logs, np.float64)[np.arange(len(x)), chain.symbols(values[index])]
  batch = {"x": jnp.asarray(x), **({"length": jnp.full(len(x), x.shape[1])} if run.spec.has_lengths else {})}
  model: Any = run.model
  off = float(np.max(np.abs(summed - model.log_likelihood(run.params, run.carry, batch, jax.random.key(0)).nats)))
  holds = off <= CHAIN_TOLERANCE * run.spec.num_dims
  return (Verdict.PROVEN if holds else Verdict.FAILED,
          f"at the trained weights, {len(x)} scores and the sums of their conditionals, which see nothing that comes "
          f"later, are {off:.1e} nats apart at most")


def _bijection(run: TrainedRun, split: str) -> tuple[Verdict, str]:
  """Encode and decode examples."""
  if not isinstance(run.model, HasBijection):
    return Verdict.NOT_TRIED, "not a bijection"
  rows = run.dataset.split(split).rows(slice(FEW_EXAMPLES))
  more = {name: rows[name] for name in given(run.model)}
  back = run.decode(run.encode(rows["x"], **more), **more)
  off = float(np.max(np.abs(np.asarray(back, np.float64) - rows["x"])))
  limit = 0.0 if run.spec.is_discrete else COMES_BACK * max(1.0, float(np.max(np.abs(rows["x"]))))
  return (Verdict.PROVEN if off <= limit else Verdict.FAILED,
          f"at the trained weights, {len(rows['x'])} examples come back from their latents, {off:.1e} off at most")


def _split(run: TrainedRun, split: str) -> tuple[Verdict, str]:
  """Hold the report against the split and against the score of each example."""
  report = _report(run, split)
  num, there = report["num_examples"], run.dataset.num_examples(split)
  if num != there or report["data_fingerprint"] != run.dataset.fingerprint(split):
    return Verdict.FAILED, f"the report is of {num:,} examples, the split has {there:,}, or they are others"
  scores = read_scores(scores_path(run.folder / f"likelihood_{split}.json"), report)
  if scores is None:
    return Verdict.CLAIMED, f"{num:,} examples by the report; no score of each lies beside it"
  return Verdict.PROVEN, f"{len(scores.nats):,} scores, one an example of the split, whose mean is the report's"


def _kind(run: TrainedRun, split: str) -> tuple[Verdict, str]:
  """Say what kind of number the report has, and its interval."""
  report = _report(run, split)
  ends = report["bits_per_dim_ci95"] if report["bits_per_dim"] is not None else report["nats_ci95"]
  unit = "bits/dim" if report["bits_per_dim"] is not None else "nats"
  interval = "no interval" if ends is None else f"95 % interval {ends[0]:.4f} to {ends[1]:.4f} {unit}"
  draws = f", {report['num_draws']} draws" if report["num_draws"] > 1 else ""
  return Verdict.CLAIMED, f"{report['kind'].replace('_', ' ')}{draws}, {interval}"


def _decoded(run: TrainedRun, split: str) -> tuple[Verdict, str]:
  """Code some examples and decode them again; what cannot be coded says why."""
  x = _some(run, split, CODED_EXAMPLES)
  rows = run.dataset.split(split).rows(slice(len(x)))
  coding = Coding(run.model, run.config.model.to_dict(), run.params, run.carry, run.step, run.parameters == "ema")
  try:
    coded = encode(coding, Examples(x, rows.get("length")), split=split, data=run.dataset.fingerprint(split),
                   batch_size=run.config.evaluation.batch_size)
  except DataError as error:
    return Verdict.FAILED, str(error)
  claimed = dataclasses.replace(run, model=claimed_model(run.model)).log_likelihood(x, length=rows.get("length"))
  bits = -float(np.sum(claimed.nats)) / math.log(2.0)
  paid = coded.payload_bits - coded.initial_bits
  initial = f", and {coded.initial_bits:,} initial bits" if coded.initial_bits else ""
  return Verdict.PROVEN, (f"the first {len(x)} examples came back from {paid:,} bits, {paid / bits:.4f} of those "
                          f"claimed{initial}")


def _quality(run: TrainedRun, split: str) -> tuple[Verdict, str]:
  """Repeat what `experiments.quality` measured."""
  found = sorted(run.folder.glob("quality_*.json"))
  return Verdict.CLAIMED if found else Verdict.NOT_TRIED, (
      f"measured by experiments.quality: {', '.join(path.name for path in found)}" if found else
      "no report of experiments.quality in the workdir")


# In the order in which they are shown.
CHECKS: dict[str, Callable[[TrainedRun, str], tuple[Verdict, str]]] = {
    "sums to one": _sums, "conditionals make the score": _chain, "latents come back": _bijection,
    "whole split, once": _split, "kind and interval": _kind, "decoded": _decoded, "samples": _quality}


@at_highest_precision
def training_flops(run: TrainedRun) -> float | None:
  """Return the floating-point operations of all training steps up to the run's, as the compiler counts them before it
  optimizes; None where nothing was trained by steps."""
  model, batch_size = run.model, run.config.data.batch_size
  if not model.objectives or not run.step:
    return None
  batch, total = run.data.shapes(batch_size), 0.0
  for objective in model.objectives:
    def step(params, carry, key, batch, objective=objective):
      def loss(moved):
        return objective.loss({**params, **moved}, carry, batch, key, jnp.zeros((), jnp.int32)).loss

      return jax.grad(loss)({group: params[group] for group in objective.groups})

    counted = jax.jit(step).lower(run.params, run.carry, jax.random.key(0), batch).cost_analysis() or {}
    total += objective.repeats * counted.get("flops", 0.0)
  return total * run.step or None


def _report(run: TrainedRun, split: str) -> Report:
  report = run.report.get(f"likelihood_{split}")
  if report is None:
    raise DataError(f"no likelihood_{split}.json in the workdir; run experiments.evaluate --split={split} first")
  return dict(report)


def _some(run: TrainedRun, split: str, num: int) -> np.ndarray:
  """Return the first examples of a split, as served."""
  return np.asarray(run.dataset.split(split).rows(slice(num))["x"])
