"""The result of one evaluation as a JSON file, and as one line.

`likelihood_<split>.json` holds all that a reader needs to compare the number with another: what was scored, on which
data, what kind of number it is, and how sure.
"""

import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from gdm.errors import ConfigError, DataError, NotFiniteError, WorkdirError
from gdm.evaluation.intervals import Interval, brackets, plus_minus, student_975
from gdm.evaluation.recording import Recording
from gdm.evaluation.split_likelihood import LogZ, SplitLikelihood
from gdm.inference.diagnostics import MIN_ACCEPTANCE
from gdm.likelihood import Kind
from gdm.paths import write_whole
from gdm.precision import HIGHEST

Report = dict[str, Any]

# The true bits/dim against the number shown; nats, of opposite sign, turn the relation round.
_RELATION = {Kind.EXACT: "", Kind.LOWER_BOUND: "≤ ", Kind.UPPER_BOUND: "≥ ", Kind.ESTIMATE: "≈ ",
             Kind.SAMPLER_BOUND: "≈ "}


def build_report(likelihood: SplitLikelihood, *, model: str, dataset: str, split: str, step: int,
                 data_fingerprint: str, parameters: str, num_params: int, train_seconds: float,
                 evaluation: Mapping[str, Any], units: Mapping[str, int] | None = None,
                 labels: Mapping[str, Any] | None = None, recording: Mapping[str, Any] | None = None,
                 transforms: Sequence[str] = (), text: Mapping[str, Any] | None = None,
                 frame_dims: int = 0, num_frames: int = 0) -> Report:
  """Return the content of `likelihood_<split>.json`.

  Args:
    likelihood: the scores.
    model: name of the model.
    dataset: name of the data set.
    split: name of the split.
    step: training step of the parameters.
    data_fingerprint: fingerprint of the split after its transforms.
    parameters: "ema" or "live".
    num_params: number of parameters of the model.
    train_seconds: seconds spent in training.
    evaluation: the evaluation settings in force: number of importance samples, a solver's tolerance, ...
    units: of text, how many "tokens", "characters" and "unknown" tokens the split has (`Dataset.units`).
    labels: of a model that tells labels, how well (`SplitClassification.summary`).
    recording: of real numbers whose values repeat, what `recording_report` says.
    transforms: names of those that were done to the data, in order.
    text: of a text scored as a whole, what `text_report` says.
    frame_dims: of sequences of frames, dimensions of each; 0 for other data.
    num_frames: frames of the split, where its tokens are no frames themselves; 0 for other data.

  Raises:
    ConfigError: `parameters` is neither "ema" nor "live".
    DataError: the model scored another number of dimensions than the text has tokens: it took padding for text.
  """
  if parameters not in ("ema", "live"):
    raise ConfigError(f"parameters is {parameters!r}; a report is of 'ema' or of 'live' parameters.")
  dims = likelihood.dims_per_example
  report = {
      "model": model,
      "dataset": dataset,
      "split": split,
      "step": int(step),
      "given": list(likelihood.given),
      **_numbers(likelihood),
      "num_examples": likelihood.num_examples,
      "num_dims": int(dims) if dims.is_integer() else dims,  # the mean where examples differ in length
      "num_draws": likelihood.num_draws,
      "data_fingerprint": data_fingerprint,
      "transforms": list(transforms),
      "parameters": parameters,
      "num_params": int(num_params),
      "train_seconds": float(train_seconds),
      "precision": HIGHEST,  # of products
      "dtype": likelihood.dtype,
      "evaluation": dict(evaluation),
  }
  if units:
    report["units"] = _per_unit(likelihood, units)
  if likelihood.details:  # means over examples: a bound's parts in nats, a solver's evaluations
    report["details"] = dict(likelihood.details)
  if frame_dims or num_frames:
    num_frames = num_frames or int(likelihood.num_dims.sum()) // frame_dims
    report["frames"] = {"frames": num_frames, "nats_per_frame": -float(likelihood.nats.sum()) / num_frames}
  if labels:
    report["labels"] = dict(labels)
  if recording:
    report["recording"] = dict(recording)
  if text:
    report["text"] = dict(text)
  if likelihood.alternatives:  # the same scores under further estimates of log Z
    report["alternatives"] = [_numbers(other) for other in likelihood.alternatives]
  if likelihood.bracket is not None:
    report["bracket_nats"] = likelihood.bracket
  if likelihood.apart is not None:
    report["upper_end"] = {"nats_apart": likelihood.apart, "refuted": likelihood.refuted}
  return report


def _numbers(likelihood: SplitLikelihood) -> Report:
  def ends(interval: Interval | None) -> list[float] | None:
    return None if interval is None else list(interval)

  return {
      "kind": str(likelihood.kind),
      "nats_mean": likelihood.nats_mean,
      "nats_stderr": likelihood.nats_stderr,
      "nats_ci95": ends(likelihood.nats_ci95),
      "nats_skewness": likelihood.nats_skewness,
      "is_interval_doubtful": likelihood.is_interval_doubtful,
      "bits_per_dim": likelihood.bits_per_dim,
      "bits_per_dim_stderr": likelihood.bits_per_dim_stderr,
      "bits_per_dim_ci95": ends(likelihood.bits_per_dim_ci95),
      **({} if likelihood.log_z is None else {"log_z": _log_z(likelihood.log_z)}),
  }


def recording_report(recording: Recording, cells: SplitLikelihood | None) -> Report:
  """Return the report's entries on real numbers whose values repeat.

  Args:
    recording: of the training split.
    cells: the scored split's probabilities of its cells; None where the model has none.
  """
  found = {"unbounded": recording.is_unbounded, "repeated_share": recording.repeated_share,
           "repeated_share_of_columns": recording.repeated.tolist(), "step": recording.step.tolist()}
  return found if cells is None else {**found, "cells": _numbers(cells)}


def text_report(likelihood: SplitLikelihood, way: str, num_tokens: int) -> Report:
  """Return the report's entries on a text that was scored as a whole, whose dimensions are characters.

  Args:
    likelihood: the scores of its blocks.
    way: what each token was predicted from.
    num_tokens: of the text.
  """
  nats, characters = -float(likelihood.nats.sum()), int(likelihood.num_dims.sum())
  return {"way": way, "tokens": num_tokens, "characters": characters, "nats_per_token": nats / num_tokens,
          "nats_per_character": nats / characters, "bits_per_character": nats / characters / math.log(2.0)}


def _log_z(log_z: LogZ) -> Report:
  """Return the entries that all scores have in common, with what is known of each."""
  known = {"nats": log_z.nats, "stderr": log_z.stderr, "ci95": list(log_z.ci95), "kind": str(log_z.kind),
           "effective_sample_size": log_z.effective_sample_size, "missed_share": log_z.missed,
           "least_acceptance": log_z.acceptance}
  return {name: value for name, value in known.items() if value is not None}


def _per_unit(likelihood: SplitLikelihood, units: Mapping[str, int]) -> Report:
  """Return the counts, and the negative log-likelihood in nats of a token and of a character, on average."""
  scored = int(likelihood.num_dims.sum())
  if scored != units["tokens"]:
    raise DataError(f"the model scored {scored} dimensions, but the text has {units['tokens']} tokens: it counts the "
                    "padding of windows as text; choose a model of sequences, which heeds their lengths.")
  nats = -float(likelihood.nats.sum())
  return {**units, "nats_per_token": nats / units["tokens"], "nats_per_character": nats / units["characters"]}


def write_report(path: str | os.PathLike, report: Report) -> None:
  """Write the report whole or not at all. Raise NotFiniteError for NaN, WorkdirError where it cannot be written."""
  path = Path(path)
  try:
    text = json.dumps(report, indent=2, allow_nan=False, ensure_ascii=False) + "\n"
  except ValueError as error:
    bad = ", ".join(name for name, value in report.items() if not _is_json(value))
    raise NotFiniteError(f"the report for {path} holds NaN or infinity in {bad}; nothing was written.") from error
  write_whole(path, lambda file: file.write(text.encode()))


def report_path(place: Path, split: str) -> Path:
  """Return the report of a split in a workdir, or a report itself. Raise WorkdirError where there is none."""
  path = place / f"likelihood_{split}.json" if place.is_dir() else place
  if not path.is_file():
    raise WorkdirError(f"{path} does not exist; name a workdir that experiments.evaluate scored, or its report.")
  return path


def read_report(path: str | os.PathLike) -> Report:
  """Read what `write_report` wrote. Raise DataError, naming the file and the field, unless it is whole."""
  try:
    report = json.loads(Path(path).read_text(encoding="utf-8"))
  except OSError as error:
    raise DataError(f"cannot read {path}: {error.strerror}.") from error
  except ValueError as error:  # not JSON, or not UTF-8
    raise DataError(f"{path} is no likelihood report ({error}); evaluate again to replace it.") from error
  if not isinstance(report, dict):
    raise DataError(f"{path} is no likelihood report: it holds no JSON object; evaluate again to replace it.")
  for name, (is_right, what) in _FIELDS.items():
    if name not in report:
      raise DataError(f"{path} is no likelihood report: {name} is missing; evaluate again to replace it.")
    if not is_right(report[name]):
      raise DataError(f"{path}: {name} is {report[name]!r}; it must be {what}. Evaluate again to replace it.")
  if "bits_per_dim_ci95" not in report:
    _add_intervals(report)
  if not _is_interval(report["bits_per_dim_ci95"]):
    raise DataError(f"{path}: bits_per_dim_ci95 is {report['bits_per_dim_ci95']!r}; it must be two finite numbers or "
                    "null. Evaluate again to replace it.")
  return report


def _add_intervals(report: Report) -> None:
  """Give Student's intervals to a report of before they were written."""
  for name, value in (("nats", report["nats_mean"]), ("bits_per_dim", report["bits_per_dim"])):
    stderr = report[f"{name}_stderr"]
    half = None if stderr is None else student_975(report["num_examples"] - 1) * stderr
    report[f"{name}_ci95"] = None if half is None else list(Interval.around(value, half))


def read_coded(path: str | os.PathLike, report: Report) -> float | None:
  """Return the bits/dim of `coded_<split>.json`; None where there is none, or one of other weights or data than the
  report's.

  Raise DataError where the file is damaged.
  """
  try:
    coded = json.loads(Path(path).read_text(encoding="utf-8"))
    number = coded["coded_bits_per_dim"]
  except FileNotFoundError:
    return None
  except OSError as error:
    raise DataError(f"cannot read {path}: {error.strerror}.") from error
  except (ValueError, TypeError, KeyError) as error:  # not JSON, no object, or without that number
    raise DataError(f"{path} is no report of experiments.compress; compress again to replace it.") from error
  if not _is_number(number):
    raise DataError(f"{path}: coded_bits_per_dim is {number!r}; it must be a finite number. Compress again to replace "
                    "it.")
  same = all(coded.get(name) == report[name] for name in ("model", "step", "parameters", "data_fingerprint"))
  return number if same else None


def one_line(report: Report) -> str:
  """Return the report for a terminal; what follows ± is half the width of the 95 % interval."""
  kind = Kind(report["kind"])
  doubtful = report.get("is_interval_doubtful", False)
  interval = "interval of 95 % at most, since scores are skewed" if doubtful else "95 % interval"
  interval = "no interval" if report["nats_ci95"] is None else interval  # of a single example
  examples = "blocks of the text" if "text" in report else "examples"
  details = [kind.replace("_", " "), interval, f"{report['num_examples']:,} {examples}",
             report["parameters"], f"step {report['step']}"]
  if report["num_draws"] > 1:
    details.insert(3, f"{report['num_draws']} draws")
  details[2:2] = [*_other_end_text(report), *_missed_text(report), *_acceptance_text(report),
                  *_recording_text(report.get("recording"))]
  if report["bits_per_dim"] is None:
    number = f"{nats_text(report)} nats"
    details[:0] = _frames_text(report.get("frames"))
  else:
    number = f"{bits_text(report)} {bits_unit(report)}"
    details[:0] = [f"{report['nats_mean']:.4f} nats", *_units_text(report.get("units")),
                    *_frames_text(report.get("frames"))]
  if "text" in report:
    details[:1] = [report["text"]["way"], f"{report['text']['nats_per_character']:.4f} nats/character"]
  if "labels" in report:
    details.append(_labels_text(report["labels"]))
  subject = [report["model"], report["dataset"], report["split"], *given_text(report)]
  return f"{' · '.join(subject)}: {number} ({', '.join(details)})"


def _other_end_text(report: Report) -> list[str]:
  """Describe the score beside the one by log Z: [`the other end 0.0500 nats above`] of a bracket, for one."""
  if "upper_end" not in report:
    is_bound = report["kind"] in (Kind.LOWER_BOUND, Kind.SAMPLER_BOUND)
    end = ", so that log p has no upper end" if is_bound else ""  # of integers both dequantization and log Z err
    return [f"otherwise {other['nats_mean']:.4f} nats, {Kind(other['kind']).replace('_', ' ')}{end}"
            for other in report.get("alternatives", [])[:1]]
  apart, refuted = report["upper_end"]["nats_apart"], report["upper_end"]["refuted"]
  side = f"{abs(apart):.4f} nats {'above' if apart >= 0 else 'below'}"  # below by noise where both ends are close
  if refuted:
    return [f"refuted as a bound of log p: by log Z that is at most {report['nats_mean'] + apart:.4f} nats, {side}"]
  if "bracket_nats" in report:
    return [f"the other end {side}"]
  return [f"log p itself is bounded from above only, by log Z, {side}"]


def _acceptance_text(report: Report) -> list[str]:
  """[`log Z is not to be trusted: ...`] where annealing's chains stood still."""
  least = min((each["log_z"].get("least_acceptance", 1.0) for each in (report, *report.get("alternatives", []))
               if "log_z" in each), default=1.0)
  return [f"log Z is not to be trusted: annealing accepted only {least:.2g} of its moves at one temperature"
          ] if least < MIN_ACCEPTANCE else []


def _missed_text(report: Report) -> list[str]:
  """[`a mode was missed: ...`] where annealing from the model's base does not reach all of Z."""
  shares = [each["log_z"].get("missed_share", 0.0) for each in (report, *report.get("alternatives", []))
            if "log_z" in each]
  return [f"a mode was missed: {100.0 * share:.2g} % of Z is where annealing from the base never comes"
          for share in shares[:1] if share > 0.0]


def _recording_text(recording: Mapping[str, Any] | None) -> list[str]:
  """[`98 % of values repeat, so that densities have no upper bound`, `cells of the record ≥ -21.12 ± 0.10 nats`]."""
  if not recording:
    return []
  words = [f"{100.0 * recording['repeated_share']:.3g} % of values repeat, so that densities have no upper bound"]
  return words if "cells" not in recording else [*words, f"cells of the record {nats_text(recording['cells'])} nats"]


def _units_text(units: Mapping[str, Any] | None) -> list[str]:
  """[`1.6210 nats/character`], with nats/token before it where tokens are longer, and how many were unknown."""
  if not units:
    return []
  longer = units["tokens"] != units["characters"]
  return [*[f"{units['nats_per_token']:.4f} nats/token"] * longer, f"{units['nats_per_character']:.4f} nats/character",
          *[f"{units['unknown']:,} of {units['tokens']:,} tokens [UNK]"] * (units["unknown"] > 0)]


def _frames_text(frames: Mapping[str, Any] | None) -> list[str]:
  """[`5.8012 nats/frame over 4,725 frames`]."""
  return [f"{frames['nats_per_frame']:.4f} nats/frame over {frames['frames']:,} frames"] if frames else []


def _labels_text(labels: Mapping[str, Any]) -> str:
  """`0.9733 [0.9521, 0.9868] of labels right`."""
  return f"{brackets(labels['accuracy'], labels['accuracy_ci95'])} of labels right"


def bits_text(report: Report) -> str:
  """Bits/dim with its relation to the truth and half its 95 % interval, as `≤ 1.9312 ± 0.0123`."""
  return relation(Kind(report["kind"])) + plus_minus(report["bits_per_dim"], report["bits_per_dim_ci95"])


def bits_unit(report: Report) -> str:
  """Return what the bits of a report are per."""
  return "bits/character" if "text" in report else "bits/dim"


def nats_text(report: Report) -> str:
  """Nats per example, higher is better, as `≥ -85.6741 ± 0.5456`."""
  return relation(-Kind(report["kind"])) + plus_minus(report["nats_mean"], report["nats_ci95"])


def relation(kind: Kind) -> str:
  """Return the sign of the true bits/dim beside a number of this kind as a log-likelihood: `≤ `, `≥ `, `≈ ` or ``."""
  return _RELATION[kind]


def given_text(report: Report) -> list[str]:
  """[`log p(x | y)`] for a conditional likelihood, [] for log p(x)."""
  return [f"log p(x | {', '.join(report['given'])})"] if report["given"] else []


def _is_number(value: Any) -> bool:
  return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_optional_number(value: Any) -> bool:
  return value is None or _is_number(value)


def _is_interval(value: Any) -> bool:
  return value is None or (isinstance(value, list) and len(value) == 2 and all(map(_is_number, value)))


def _is_json(value: Any) -> bool:
  try:
    json.dumps(value, allow_nan=False)
  except ValueError:
    return False
  return True


def _is_text(value: Any) -> bool:
  return isinstance(value, str)


def _is_count(value: Any) -> bool:
  return isinstance(value, int) and not isinstance(value, bool) and value >= 0


_FIELDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "model": (_is_text, "text"),
    "dataset": (_is_text, "text"),
    "split": (_is_text, "text"),
    "step": (_is_count, "a whole number"),
    "kind": (lambda value: value in list(Kind), f"one of {', '.join(Kind)}"),
    "given": (lambda value: isinstance(value, list) and all(map(_is_text, value)), "a list of names"),
    "nats_mean": (_is_number, "a finite number"),
    "nats_stderr": (_is_optional_number, "a finite number or null"),
    "nats_ci95": (_is_interval, "two finite numbers or null"),
    "bits_per_dim": (_is_optional_number, "a finite number or null"),
    "bits_per_dim_stderr": (_is_optional_number, "a finite number or null"),
    "num_examples": (_is_count, "a whole number"),
    "num_dims": (_is_number, "a number"),
    "num_draws": (_is_count, "a whole number"),
    "data_fingerprint": (_is_text, "text"),
    "parameters": (lambda value: value in ("ema", "live"), "'ema' or 'live'"),
    "num_params": (_is_count, "a whole number"),
    "train_seconds": (_is_number, "a finite number"),
}
