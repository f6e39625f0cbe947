"""A model card: what an exported run is, how good, what it is for, and how to load it (Mitchell et al.,
arXiv:1810.03993)."""

from typing import TYPE_CHECKING

from gdm.evaluation.label_report import label_line
from gdm.evaluation.report import one_line
from gdm.training.checkpoint import versions
from gdm.training.state import count_parameters

if TYPE_CHECKING:
  from gdm.runs.trained import TrainedRun


def model_card(run: "TrainedRun", file: str) -> str:
  """Return the card of a run as Markdown.

  Args:
    run: the run.
    file: name of the file beside the card.
  """
  sizes = ", ".join(f"{num:,} {split}" for split, num in run.data.sizes.items())
  prints = "\n".join(f"- {part}: `{digits}`" for part, digits in run.data.identity.items())
  kind = "real numbers" if run.spec.levels is None else f"integers in [0, {run.spec.levels})"
  scores = [label_line(dict(report)) if name.startswith("labels") else one_line(dict(report))
            for name, report in sorted(run.report.items())]
  packages = ", ".join(f"{name} {version}" for name, version in versions().items())
  return f"""# {run.name} on {run.data.name}

{count_parameters(run.params):,} parameters ({run.parameters}) of step {run.step}, after {run.train_seconds:.0f} s of
training. Examples have shape {run.spec.event} and are {kind}.

## Load it

```python
import gdm

run = gdm.load("{file}")
print(run.model)
```

## Scores

{chr(10).join(f"- {line}" for line in scores) or "None: the run was not evaluated before it was exported."}

Each says its kind: exact, a bound or an estimate.

## Data

{run.data.name}: {sizes} examples. Transforms: {", ".join(run.data.transforms) or "none"}. Fingerprints:

{prints}

## Use

For research on density estimation and generation of data of this kind. Its samples and scores say nothing of data of
other kinds, and what the training data lack or overrepresent, so does the model.

## Made with

{packages}.
"""
