"""Codes one split of a trained run losslessly, by the model's own probabilities: the proof that its bits are bits.

  python -m experiments.compress --workdir=runs/made --split=test --out=FILE [--checkpoint=best|last|STEP]
      [--num_samples=N] [--compare] [--noverify] [--config.evaluation.parameters=auto|ema|live]
      [--config.data.data_dir=DIR]

Prints the bits that the model claims, those of the file and their ratio, and writes `coded_<split>.json` into the
workdir, from which the leaderboard shows them. Examples are coded in the split's order; their labels are not. The file
opens with the same weights on the same machine alone (experiments.decompress), which is tried unless --noverify. With
--compare, also what PNG, WebP, zlib, bz2 and xz make of the same examples.

A model with latents is coded by bits back: at its ELBO, or with --num_samples at its bound of N importance weights; a
diffusion model by the states of its noise, at its bound of so many steps; a flow by local bits back. The payload rests
on initial bits, which are told apart: the ratio is of the rest.

A model that is agnostic to the order of its dimensions is coded in one fixed order, or with --num_samples by the
mixture of N. The claimed bits are those of that mixture, exactly; its bound over all orders stands beside.
"""

from pathlib import Path

import numpy as np
from absl import flags

from experiments import cli
from gdm.errors import ConfigError
from gdm.evaluation.coding.container import MAGIC
from gdm.evaluation.coding.files import Coding, Examples, encode
from gdm.evaluation.coding.ways import way_of
from gdm.evaluation.report import write_report
from gdm.paths import write_whole
from gdm.studies import codecs
from gdm.studies.coded import claimed_likelihood, coded_lines, coded_report

_SPLIT = flags.DEFINE_string("split", "test", "train, valid or test.")
_OUT = flags.DEFINE_string("out", None, "The file to write; one of an earlier compress is overwritten.")
_VERIFY = flags.DEFINE_boolean("verify", True, "Decode before anything is written, and compare.")
_NUM_SAMPLES = flags.DEFINE_integer("num_samples", 1, "Draws of the latents of each example, or orders that are mixed.")
_COMPARE = flags.DEFINE_boolean("compare", False, "Say what general-purpose formats make of the same examples.")
cli.define_run("evaluation", "data", with_data=True)


def main() -> None:
  out = cli.require_place("out")
  _require_replaceable(out)
  run, split = cli.open_run(), _SPLIT.value
  way = way_of(run.model, _NUM_SAMPLES.value)  # before anything is computed
  rows = run.dataset.split(split).rows(slice(None))
  examples = Examples(np.asarray(rows["x"]), rows.get("length"))
  claimed = claimed_likelihood(run, split, way, _NUM_SAMPLES.value)
  coding = Coding(run.model, run.config.model.to_dict(), run.params, run.carry, run.step, run.parameters == "ema")
  coded = encode(coding, examples, split=split, data=run.dataset.fingerprint(split),
                 batch_size=run.config.evaluation.batch_size, num_samples=_NUM_SAMPLES.value,
                 verify=_VERIFY.value)
  report = coded_report(run, split, claimed, coded)
  if _COMPARE.value:
    report["others"] = codecs.coded_sizes(examples, run.spec)
  write_whole(out, lambda file: file.write(coded.to_bytes()))
  write_report(run.folder / f"coded_{split}.json", report)
  print("\n".join(coded_lines(report, out)))


def _require_replaceable(out: Path) -> None:
  if out.is_dir():
    raise ConfigError(f"--out is {out}, a folder; name a file.")
  if out.exists():
    with out.open("rb") as file:
      if file.read(len(MAGIC)) != MAGIC:
        raise ConfigError(f"--out is {out}, which exists and is no file of experiments.compress; name another.")


if __name__ == "__main__":
  cli.run(main)
