"""Codes one split of a trained run losslessly, by the model's own probabilities: the proof that its bits are bits.

  python -m experiments.compress --workdir=runs/made --split=test --out=FILE [--checkpoint=best|last|STEP]
      [--num_samples=N] [--compare] [--noverify] [--config.evaluation.parameters=auto|ema|live]
      [--config.data.data_dir=DIR]

Prints the bits that the model claims, those of the file and their ratio, and writes `coded_<split>.json` into the
workdir, from which the leaderboard shows them. Examples are coded in the split's order; their labels are not. The file
opens with the same weights on the same machine alone (experiments.decompress), which is tried unless --noverify. With
--compare, also what PNG, WebP, zlib, bz2 and xz make of the same examples.

A model with latents is coded by bits back: at its ELBO, or with --num_samples at its bound of N importance weights. Its
payload rests on initial bits, which are told apart: the ratio is of the rest.

A model that is agnostic to the order of its dimensions is coded in one fixed order, or with --num_samples by the
mixture of N. The claimed bits are those of that mixture, exactly; its bound over all orders stands beside.
"""

import math
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
from absl import flags

from experiments import cli
from gdm.data.loader import eval_batches
from gdm.errors import ConfigError
from gdm.evaluation.coding.container import HEADER_BYTES, MAGIC
from gdm.evaluation.coding.files import Coded, Coding, Examples, encode
from gdm.evaluation.coding.ways import Way, claimed_model, way_of
from gdm.evaluation.likelihood import evaluate_likelihood
from gdm.evaluation.report import Report, write_report
from gdm.evaluation.split_likelihood import SplitLikelihood
from gdm.model import HasOrders
from gdm.paths import write_whole
from gdm.runs import codecs
from gdm.runs.trained import TrainedRun

_SPLIT = flags.DEFINE_string("split", "test", "train, valid or test.")
_OUT = flags.DEFINE_string("out", None, "The file to write; one of an earlier compress is overwritten.")
_VERIFY = flags.DEFINE_boolean("verify", True, "Decode before anything is written, and compare.")
_NUM_SAMPLES = flags.DEFINE_integer("num_samples", 1, "Draws of the latents of each example, or orders that are mixed.")
_COMPARE = flags.DEFINE_boolean("compare", False, "Say what general-purpose formats make of the same examples.")
cli.define_run("evaluation", "data", with_data=True)

_DRAWS = 10  # that a bound is averaged over


def main(argv: Sequence[str]) -> None:
  cli.refuse_arguments(argv)
  out = cli.require_path("out")
  _require_place(out)
  run, split = cli.open_run(), _SPLIT.value
  way = way_of(run.model, _NUM_SAMPLES.value)  # before anything is computed
  rows = run.dataset.split(split).rows(slice(None))
  examples = Examples(np.asarray(rows["x"]), rows.get("length"))
  claimed = _claimed(run, split, way)
  coding = Coding(run.model, run.config.model.to_dict(), run.params, run.carry, run.step, run.parameters == "ema")
  coded = encode(coding, examples, split=split, data=run.dataset.fingerprint(split),
                 batch_size=run.config.evaluation.batch_size, num_samples=_NUM_SAMPLES.value,
                 verify=_VERIFY.value)
  report = _report(run, split, claimed, coded)
  if isinstance(run.model, HasOrders):
    report["bound_bits_per_dim"] = _bound(run, split)
  if _COMPARE.value:
    report["others"] = codecs.coded_sizes(examples, run.spec)
  write_whole(out, lambda file: file.write(coded.to_bytes()))
  write_report(run.folder / f"coded_{split}.json", report)
  print("\n".join(_lines(report, out)))


def _require_place(out: Path) -> None:
  if not out.parent.is_dir():
    raise ConfigError(f"--out is {out}, but there is no folder {out.parent}; make it, or name another.")
  if out.is_dir():
    raise ConfigError(f"--out is {out}, a folder; name a file.")
  if out.exists():
    with out.open("rb") as file:
      if file.read(len(MAGIC)) != MAGIC:
        raise ConfigError(f"--out is {out}, which exists and is no file of experiments.compress; name another.")


def _claimed(run: TrainedRun, split: str, way: Way) -> SplitLikelihood:
  """Return the likelihood; where it is a bound, in the mean of several draws, since coding makes one of its own."""
  return evaluate_likelihood(claimed_model(run.model, _NUM_SAMPLES.value), run.params, run.carry,
                             eval_batches(run.dataset, split, run.config.evaluation.batch_size),
                             key=jax.random.key(run.config.seed), num_examples=run.dataset.num_examples(split),
                             num_draws=_DRAWS if way.by_latents else 1, num_samples=_NUM_SAMPLES.value)


def _bound(run: TrainedRun, split: str) -> float | None:
  """Return the bits/dim of the model's own likelihood, which is over all orders."""
  return evaluate_likelihood(run.model, run.params, run.carry,
                             eval_batches(run.dataset, split, run.config.evaluation.batch_size),
                             key=jax.random.key(run.config.seed),
                             num_samples=run.config.evaluation.num_samples).bits_per_dim


def _report(run: TrainedRun, split: str, claimed: SplitLikelihood, coded: Coded) -> Report:
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


def _lines(report: Report, out: Path) -> list[str]:
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
  return (f"orders: {_NUM_SAMPLES.value} fixed, whose mixture is claimed; over all orders the likelihood is "
          f"{report['bound_bits_per_dim']:.4f} bits/dim")


def _bits_back_line(report: Report) -> str:
  parts, draws = report["parts"], report["num_samples"]
  bound = f"the bound of {draws} importance weights" if draws > 1 else "the ELBO"
  choice = f", choice {parts['choice_bits']:,.0f}" if draws > 1 else ""
  return (f"bits back: {bound} is claimed; the payload holds {report['initial_bits']:,} initial bits, which the ratio "
          f"leaves out; the rest is output {parts['output_bits']:,.0f}, prior {parts['prior_bits']:,.0f}, posterior "
          f"-{parts['posterior_bits']:,.0f}{choice}")


if __name__ == "__main__":
  cli.run(main)
