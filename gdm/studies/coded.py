"""A run's split coded beside what its likelihood claims."""

import math
from collections.abc import Iterator
from pathlib import Path

import jax
import numpy as np

from gdm.batches import padded_size
from gdm.data.loader import HostBatch, eval_batches
from gdm.evaluation.coding.container import HEADER_BYTES
from gdm.evaluation.coding.files import Coded
from gdm.evaluation.coding.ways import Way, claimed_model
from gdm.evaluation.likelihood import evaluate_likelihood
from gdm.evaluation.report import Report
from gdm.evaluation.split_likelihood import SplitLikelihood
from gdm.model import HasOrders
from gdm.precision import at_highest_precision
from gdm.runs.trained import TrainedRun

_DRAWS = 10  # that a bound is averaged over


@at_highest_precision
def claimed_likelihood(run: TrainedRun, split: str, way: Way, num_samples: int) -> SplitLikelihood:
  """Return the likelihood; where it is a bound, in the mean of several draws, since coding makes one of its own."""
  return evaluate_likelihood(claimed_model(run.model, num_samples), run.params, run.carry,
                             _batches(run, split),
                             key=jax.random.key(run.config.seed), num_examples=run.dataset.num_examples(split),
                             num_draws=_DRAWS if way.by_latents else 1, num_samples=num_samples)


def _bound(run: TrainedRun, split: str) -> float | None:
  """Return the bits/dim of the model's own likelihood, which is over all orders."""
  return evaluate_likelihood(run.model, run.params, run.carry,
                             _batches(run, split),
                             key=jax.random.key(run.config.seed),
                             num_samples=run.config.evaluation.num_samples).bits_per_dim


def _batches(run: TrainedRun, split: str) -> Iterator[HostBatch]:
  size = padded_size(run.dataset.num_examples(split), run.config.evaluation.batch_size)
  return eval_batches(run.dataset, split, size)


def coded_report(run: TrainedRun, split: str, claimed: SplitLikelihood, coded: Coded) -> Report:
  """Return the report of a coded split beside its claimed likelihood."""
  num_dims = int(np.sum(claimed.num_dims))
  claimed_bits = -float(np.sum(claimed.nats)) / math.log(2.0)
  return {
      "model": run.config.model.name,
      "dataset": run.dataset.name,
      "split": split,
      "step": run.step,
      "parameters": run.parameters,
      "data_fingerprint": run.dataset.fingerprint(split),
      "num_examples": claimed.num_examples,
      "num_dims": num_dims,
      "claimed_bits": claimed_bits,
      "payload_bits": coded.payload_bits,
      "ratio": (coded.payload_bits - coded.initial_bits) / claimed_bits,
      "header_bytes": HEADER_BYTES,
      "claimed_bits_per_dim": claimed_bits / num_dims,
      "coded_bits_per_dim": coded.payload_bits / num_dims,
      "batch_size": coded.header.batch_size,
      "encode_symbols_per_second": coded.num_symbols / coded.encode_seconds,
      "decode_symbols_per_second": coded.num_symbols / coded.decode_seconds if coded.decode_seconds else None,
      "machine": coded.header.machine,
      **(_of_latents(claimed, coded) if coded.parts else {}),
      **({"num_samples": coded.header.num_samples, "bound_bits_per_dim": _bound(run, split)}
         if isinstance(run.model, HasOrders) else {}),
  }


def _of_latents(claimed: SplitLikelihood, coded: Coded) -> Report:
  """Return what is said of bits back besides: initial bits, the parts of the payload, and how fast it went."""
  assert coded.parts is not None
  elbo = claimed.details.get("elbo")
  return {
      "kind": str(claimed.kind),
      "num_samples": coded.header.num_samples,
      "initial_bits": coded.initial_bits,
      "parts": {f"{name}_bits": bits for name, bits in coded.parts._asdict().items()},
      "elbo_bits": None if elbo is None else -elbo * claimed.num_examples / math.log(2.0),
      "encode_examples_per_second": claimed.num_examples / coded.encode_seconds,
      "decode_examples_per_second": claimed.num_examples / coded.decode_seconds if coded.decode_seconds else None,
  }


def coded_lines(report: Report, out: Path) -> list[str]:
  """Return lines about a coded split and the file that it is in."""
  decoding = report["decode_symbols_per_second"]
  speed = f"{report['encode_symbols_per_second']:,.0f} symbols/s encoded, " + (
      "not verified" if decoding is None else f"{decoding:,.0f} decoded again and found the same")
  lines = [
      f"{report['model']} · {report['dataset']} · {report['split']}: {report['coded_bits_per_dim']:.4f} bits/dim "
      f"coded, {report['claimed_bits_per_dim']:.4f} claimed ({report['num_examples']:,} examples, "
      f"{report['parameters']}, step {report['step']})",
      f"payload {report['payload_bits']:,} bits, claimed {report['claimed_bits']:,.1f}, ratio {report['ratio']:.5f}; "
      f"header {report['header_bytes']} bytes; labels are not coded",
      *([_orders_line(report)] if "bound_bits_per_dim" in report else []),
      *([_bits_back_line(report)] if "initial_bits" in report else []),
      speed]
  for name, size in sorted(report.get("others", {}).items(), key=lambda item: item[1]):
    lines.append(f"{name}: {8 * size / report['num_dims']:.4f} bits/dim, headers included ({size:,} bytes)")
  whole = report["payload_bits"] // 8 + report["header_bytes"]
  return [*lines, f"{whole:,} bytes in {out}, {8 * whole / report['num_dims']:.4f} bits/dim, header included"]


def _orders_line(report: Report) -> str:
  return (f"orders: {report['num_samples']} fixed, whose mixture is claimed; over all orders the likelihood is "
          f"{report['bound_bits_per_dim']:.4f} bits/dim")


def _bits_back_line(report: Report) -> str:
  parts, draws = report["parts"], report["num_samples"]
  bound = f"the bound of {draws} importance weights" if draws > 1 else "the ELBO"
  choice = f", choice {parts['choice_bits']:,.0f}" if draws > 1 else ""
  return (f"bits back: {bound} is claimed; the payload holds {report['initial_bits']:,} initial bits, which the ratio "
          f"leaves out; the rest is output {parts['output_bits']:,.0f}, prior {parts['prior_bits']:,.0f}, posterior "
          f"-{parts['posterior_bits']:,.0f}{choice}")
