"""A run's split scored: the reports, scores and pictures that it gets, and a line about each."""

import dataclasses
import functools
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax

from gdm import mesh as meshes
from gdm.batches import dims_per_step, padded_size
from gdm.data.loader import HostBatch, eval_batches
from gdm.evaluation.classification import SplitClassification, evaluate_labels
from gdm.evaluation.label_report import build_label_report, label_line
from gdm.evaluation.likelihood import evaluate_likelihood
from gdm.evaluation.marginal import OverLabels, log_label_prior
from gdm.evaluation.recording import OverCells, Recording
from gdm.evaluation.report import build_report, one_line, recording_report, text_report, write_report
from gdm.evaluation.scores import scores_path, write_scores
from gdm.evaluation.split_likelihood import SplitLikelihood
from gdm.model import HasLabelProbs, HasLogLikelihood, HasUnnormalized
from gdm.precision import at_highest_precision
from gdm.runs.trained import TrainedRun
from gdm.studies.music import frames_of_events
from gdm.studies.text_scores import TextWay, score_text, text_digest, text_of
from gdm.training.state import count_parameters
from gdm.training.streams import stream_key
from gdm.visualization.calibration import save_calibration


@at_highest_precision
def score_split(run: TrainedRun, split: str) -> Iterator[str]:
  """Score a split by the run's settings of `evaluation`, over all devices; yield a line for each report written.

  A model that tells labels alone gets a report of labels. A class-conditional one is scored given the labels, and once
  more as the sum over them. Of several processes the first one writes.

  Example:
    for line in score_split(gdm.load("runs/made"), "test"):
      print(line)
  """
  settings, mesh = run.config.evaluation, meshes.make_mesh()
  # Beside the numbers of the run's own data by the likelihood that it was validated with, not over them.
  way = "" if settings.likelihood == run.likelihood else "_" + settings.likelihood.partition(",")[0]
  place = split if run.has_own(split) else _elsewhere(run, split, way)
  params, carry = meshes.replicate(run.params, mesh), meshes.replicate(run.carry, mesh)
  num_examples, is_first = run.dataset.num_examples(split), jax.process_index() == 0

  def batches() -> Iterator[HostBatch]:
    size = meshes.round_up(mesh, padded_size(num_examples, settings.batch_size))
    return eval_batches(run.dataset, split, size, rows=meshes.local_rows(mesh, size))

  def tell_labels(model: Any) -> SplitClassification:
    return evaluate_labels(model, params, carry, batches(), num_examples=num_examples, mesh=mesh)

  if isinstance(run.model, HasLabelProbs) and not isinstance(run.model, HasLogLikelihood | HasUnnormalized):
    labels = tell_labels(run.model)
    if is_first:
      yield _write_labels(run, split, place, labels)
      _plot_calibration(run, split, place, labels)
    return

  recording = _recording(run)

  def score(model: Any, name: str) -> tuple[SplitLikelihood, str]:
    key = stream_key(jax.random.key(run.config.seed), f"evaluation/{split}", run.step)
    evaluate = functools.partial(
        evaluate_likelihood, params=params, carry=carry, key=key, num_samples=settings.num_samples,
        num_examples=num_examples, mesh=mesh)
    likelihood, told, cells = evaluate(model, batches=batches(), num_draws=settings.num_draws), None, None
    if recording is not None and settings.cell_points and isinstance(model, HasLogLikelihood):
      cells = evaluate(OverCells.of(model, recording, settings.cell_points), batches=batches())
      cells = dataclasses.replace(cells, discrete=True)  # the data are real, the cells are counted
    if isinstance(model, HasLabelProbs):
      told = tell_labels(model)
    if not is_first:
      return likelihood, ""
    if told is not None:
      _plot_calibration(run, split, place, told)
    return likelihood, _write(run, split, likelihood, name, told and told.summary,
                              recording and recording_report(recording, cells))

  likelihood, line = score(run.model, f"{place}{way}")
  if line:
    yield line
  if likelihood.given == ("y",):
    prior = log_label_prior(run.train_labels, run.spec.num_classes or 0)
    _, line = score(OverLabels(run.model, prior), f"{place}{way}_over_labels")
    if line:
      yield line


def _elsewhere(run: TrainedRun, split: str, way: str) -> str:
  """Return the place of reports on other data than the run's: by their name, and by their fingerprint too where there
  are reports on data of the same name, which a file of another folder may have."""
  place = f"{split}_on_{re.sub(r'[^A-Za-z0-9.-]+', '_', run.dataset.name)}"
  fingerprint = run.dataset.fingerprint(split)
  for name in (f"likelihood_{place}{way}.json", f"labels_{place}.json"):
    try:
      there = json.loads((run.folder / name).read_text(encoding="utf-8"))
    except (OSError, ValueError):  # none, or one that is to be replaced
      continue
    if there.get("data_fingerprint", fingerprint) != fingerprint:
      return f"{place}_{fingerprint}"
  return place


@at_highest_precision
def score_whole_text(run: TrainedRun, split: str, text: str) -> Iterator[str]:
  """Score a text as a whole, on one device, in the way that `text` names (`TextWay.of`); yield a line of the report
  written."""
  tokens, tokenizer = text_of(run.dataset, split), run.dataset.tokenizer
  assert tokenizer is not None
  way = TextWay.of(text, run.spec.event[0])
  likelihood = score_text(run.model, run.params, tokens, tokenizer, way)
  if jax.process_index() == 0:
    name = f"{split}_text_{way.name}" + (f"_{way.stride}" if way.name == "stride" else "")
    yield _write(run, split, likelihood, name, None, None, fingerprint=text_digest(tokenizer, tokens),
                 dataset=f"text:{Path(run.dataset.info['source']).stem}, whole",
                 text=text_report(likelihood, str(way), len(tokens)))


def _recording(run: TrainedRun) -> Recording | None:
  """Return how the training split was recorded, where densities of it have no upper bound."""
  spec = run.spec
  if spec.is_discrete or not run.has_own("train"):
    return None
  train = run.dataset.split("train")
  if spec.has_lengths or not train.in_memory:
    return None
  found = Recording.of(train["x"])
  return found if found.is_unbounded else None


def _write(run: TrainedRun, split: str, likelihood: SplitLikelihood, name: str, labels: Mapping[str, Any] | None,
           recording: Mapping[str, Any] | None, *, fingerprint: str = "", dataset: str = "",
           text: Mapping[str, Any] | None = None) -> str:
  """Write a report and the score of each example; return a line about it."""
  # Masked models store entries that take no part, and say how many do.
  num_params = getattr(run.model, "num_parameters", count_parameters(run.params))
  report = build_report(
      likelihood, model=run.config.model.name, dataset=dataset or run.dataset.name, split=split, step=run.step,
      data_fingerprint=fingerprint or run.dataset.fingerprint(split), parameters=run.parameters,
      num_params=num_params, train_seconds=run.train_seconds, evaluation=run.config.evaluation.to_dict(),
      units=None if text else run.dataset.units.get(split), labels=labels, recording=recording,
      transforms=run.data.transforms, text=text,
      frame_dims=dims_per_step(run.spec) if run.spec.has_lengths and len(run.spec.event) > 1 else 0,
      num_frames=frames_of_events(run, split))
  if run.config.searched:  # settings were chosen on the validation split before training
    report["search"] = run.config.searched.to_dict()
  path = run.folder / f"likelihood_{name}.json"
  write_scores(scores_path(path), likelihood)
  write_report(path, report)
  return one_line(report)


def _write_labels(run: TrainedRun, split: str, place: str, labels: SplitClassification) -> str:
  """Write how well a model without p(x) tells labels; return a line about it."""
  report = build_label_report(
      labels, model=run.config.model.name, dataset=run.dataset.name, split=split, step=run.step,
      data_fingerprint=run.dataset.fingerprint(split), parameters=run.parameters,
      num_params=count_parameters(run.params), train_seconds=run.train_seconds,
      evaluation=run.config.evaluation.to_dict())
  if run.config.searched:
    report["search"] = run.config.searched.to_dict()
  write_report(run.folder / f"labels_{place}.json", report)
  return label_line(report)


def _plot_calibration(run: TrainedRun, split: str, place: str, labels: SplitClassification) -> None:
  save_calibration(run.folder / f"calibration_{place}.png", *labels.bins,
                   title=f"{run.config.model.name} · {run.dataset.name} · {split}")
