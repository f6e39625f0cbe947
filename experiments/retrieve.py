"""Finds captions of examples, and examples of captions, by the likelihood of a model of examples given captions.

  python -m experiments.retrieve --workdir=runs/emoji [--split=test] [--candidates=10] [--repeats=4] [--seed=0]
      [--checkpoint=best|last|STEP] [--config.data.path=FILE]

Every example of the split is looked for once in each repeat, among candidates drawn from the split. Prints which share
was found, with 95 % intervals over examples, and how much captions add to the likelihood where the model can go without
them. Writes `retrieval_<split>.json` into the workdir.
"""

import dataclasses

from absl import flags

from experiments import cli
from gdm.runs.workdir import write_json
from gdm.studies.retrieval import retrieve

_SPLIT = flags.DEFINE_string("split", "test", "train, valid or test.")
_CANDIDATES = flags.DEFINE_integer("candidates", 10, "Examples, and captions, to choose among.")
_REPEATS = flags.DEFINE_integer("repeats", 4, "How often candidates are drawn.")
_SEED = flags.DEFINE_integer("seed", 0, "Of the candidates.")
cli.define_run("data", "evaluation", with_data=True)


def main() -> None:
  cli.at_least(repeats=1, seed=0)
  run = cli.open_run()
  found = retrieve(run, _SPLIT.value, _CANDIDATES.value, _REPEATS.value, _SEED.value)
  print(f"{run.name} on {run.data.name}, {_SPLIT.value}: {found.in_words}")
  write_json(run.folder / f"retrieval_{_SPLIT.value}.json", {"seed": _SEED.value, **dataclasses.asdict(found)})


if __name__ == "__main__":
  cli.run(main)
