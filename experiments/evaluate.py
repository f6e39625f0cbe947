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

from absl import flags

from experiments import cli, hosts
from gdm.studies.evaluation import score_split, score_whole_text

_SPLIT = flags.DEFINE_string("split", "test", "train, valid or test.")
_TEXT = flags.DEFINE_string("text", "", "Score a text as a whole: windows, stride:S, or carried.")
cli.define_run("evaluation", "data", with_data=True)


def main() -> None:
  hosts.join()
  run = cli.open_run()
  lines = score_whole_text(run, _SPLIT.value, _TEXT.value) if _TEXT.value else score_split(run, _SPLIT.value)
  cli.show(lines)


if __name__ == "__main__":
  cli.run(main)
