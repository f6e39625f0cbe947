"""Scores one split of a trained run, whole, once, and says what kind of number it is.

  python -m experiments.evaluate --workdir=runs/made --split=test [--checkpoint=best|last|STEP]
      [--config.evaluation.num_draws=10 ...] [--config.evaluation.likelihood=ode,tolerance=1e-5]
      [--text=windows|stride:S|carried] [--config.data.data_dir=DIR]
      [--coordinator=HOST:PORT --num_processes=N --process_id=I]

Prints one line and writes `likelihood_<split>.json` into the workdir, and the score of each example beside it in
`scores_<split>.npz`. Of real numbers whose values repeat, so that densities have no upper bound, the report says so and
gives the probability of the cells of the record beside the density. A class-conditional model is scored given the
labels, and once more as the sum over them (`likelihood_<split>_over_labels.json`). Of a model that tells labels, the
report says how well; one that has no p(x), a classifier, gets `labels_<split>.json` instead: accuracy, log p(y | x),
calibration error and Brier score. Both get `calibration_<split>.png`. A model with several likelihoods is scored by the
one that `evaluation.likelihood` names; another than that of training goes to `likelihood_<split>_<name>.json`. Settings
of `evaluation` may differ from those of training; they are recorded in the result. The split is spread over all
devices, of several processes too.

With --text a text is scored as a whole, in bits/character, by what each token is predicted from: independent windows of
the context, windows that move on by S tokens, or all that came before, of models without a limit
(`likelihood_<split>_text_<way>.json`). Models of characters, words and byte pairs of one text share a table then.
"""

import dataclasses
import functools
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from absl import flags

from experiments import cli, hosts
from gdm import mesh as meshes
from gdm.batches import dims_per_step
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
from gdm.runs.music import frames_of_events
from gdm.runs.text_scores import TextWay, score_text, text_digest, text_of
from gdm.runs.trained import TrainedRun
from gdm.training.state import count_parameters
from gdm.training.streams import stream_key
from gdm.visualization.calibration import save_calibration

_SPLIT = flags.DEFINE_string("split", "test", "train, valid or test.")
_TEXT = flags.DEFINE_string("text", "", "Score a text as a whole: windows, stride:S, or carried.")
cli.define_run("evaluation", "data", with_data=True)


def main(argv: Sequence[str]) -> None:
  cli.refuse_arguments(argv)
  hosts.join()
  run = cli.open_run()
  if _TEXT.value:
    _score_text(run, _SPLIT.value)
    return
  settings, split, mesh = run.config.evaluation, _SPLIT.value, meshes.make_mesh()
  # Beside the numbers of the run's own data by the likelihood that it was validated with, not over them.
  place = split if run.has_own(split) else f"{split}_on_{re.sub(r'[^A-Za-z0-9.-]+', '_', run.dataset.name)}"
  way = "" if settings.likelihood == run.likelihood else "_" + settings.likelihood.partition(",")[0]
  params, carry = meshes.replicate(run.params, mesh), meshes.replicate(run.carry, mesh)

  def batches() -> Iterator[HostBatch]:
    size = meshes.round_up(mesh, settings.batch_size)
    return eval_batches(run.dataset, split, size, rows=meshes.local_rows(mesh, size))

  recording = _recording(run)

  def score(model: Any, name: str) -> SplitLikelihood:
    key = stream_key(jax.random.key(run.config.seed), f"evaluation/{split}", run.step)
    evaluate = functools.partial(
        evaluate_likelihood, params=params, carry=carry, key=key, num_samples=settings.num_samples,
        num_examples=run.dataset.num_examples(split), mesh=mesh)
    likelihood = evaluate(model, batches=batches(), num_draws=settings.num_draws)
    labels = cells = None
    if recording is not None and settings.cell_points and isinstance(model, HasLogLikelihood):
      cells = evaluate(OverCells.of(model, recording, settings.cell_points), batches=batches())
      cells = dataclasses.replace(cells, discrete=True)  # the data are real, the cells are counted
    if isinstance(model, HasLabelProbs):
      told = evaluate_labels(model, params, carry, batches(), num_examples=run.dataset.num_examples(split), mesh=mesh)
      labels = told.summary
      if jax.process_index() == 0:
        _draw_calibration(run, split, place, told)
    if jax.process_index() == 0:
      _report(run, split, likelihood, name, labels, recording and recording_report(recording, cells))
    return likelihood

  if isinstance(run.model, HasLabelProbs) and not isinstance(run.model, HasLogLikelihood | HasUnnormalized):
    labels = evaluate_labels(run.model, params, carry, batches(), num_examples=run.dataset.num_examples(split),
                             mesh=mesh)
    if jax.process_index() == 0:
      _report_labels(run, split, place, labels)
      _draw_calibration(run, split, place, labels)
    return

  if score(run.model, f"{place}{way}").given == ("y",):
    prior = log_label_prior(run.train_labels, run.spec.num_classes or 0)
    score(OverLabels(run.model, prior), f"{place}{way}_over_labels")


def _score_text(run: TrainedRun, split: str) -> None:
  """Score a text as a whole, on one device; write and print it."""
  tokens, tokenizer = text_of(run.dataset, split), run.dataset.tokenizer
  assert tokenizer is not None
  way = TextWay.of(_TEXT.value, run.spec.event[0])
  likelihood = score_text(run.model, run.params, tokens, tokenizer, way)
  if jax.process_index() == 0:
    name = f"{split}_text_{way.name}" + (f"_{way.stride}" if way.name == "stride" else "")
    _report(run, split, likelihood, name, None, None, fingerprint=text_digest(tokenizer, tokens),
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


def _report(run: TrainedRun, split: str, likelihood: SplitLikelihood, name: str,
            labels: Mapping[str, Any] | None, recording: Mapping[str, Any] | None, *, fingerprint: str = "",
            dataset: str = "", text: Mapping[str, Any] | None = None) -> None:
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
  print(one_line(report))


def _report_labels(run: TrainedRun, split: str, place: str, labels: SplitClassification) -> None:
  """Write and print how well a model without p(x) tells labels."""
  report = build_label_report(
      labels, model=run.config.model.name, dataset=run.dataset.name, split=split, step=run.step,
      data_fingerprint=run.dataset.fingerprint(split), parameters=run.parameters,
      num_params=count_parameters(run.params), train_seconds=run.train_seconds,
      evaluation=run.config.evaluation.to_dict())
  if run.config.searched:
    report["search"] = run.config.searched.to_dict()
  write_report(run.folder / f"labels_{place}.json", report)
  print(label_line(report))


def _draw_calibration(run: TrainedRun, split: str, place: str, labels: SplitClassification) -> None:
  save_calibration(run.folder / f"calibration_{place}.png", *labels.bins,
                   title=f"{run.config.model.name} · {run.dataset.name} · {split}")


if __name__ == "__main__":
  cli.run(main)
