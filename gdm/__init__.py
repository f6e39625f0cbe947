"""Deep generative models in JAX and Flax: one contract, one train step, likelihoods that say what they are.

On CPUs, XLA miscompiles some sums and products unless a flag is set before JAX starts (gdm/compiler.py). Importing this
package sets it, so the import must come before the first computation; where it comes too late, a warning says so.
"""

import importlib
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from gdm import compiler
from gdm.version import version

if TYPE_CHECKING:
  from gdm.runs.trained import TrainedRun

compiler.prepare(stacklevel=2)  # a warning names the line that imports gdm

_PACKAGES = ("adversarial", "autoregressive", "baselines", "data", "diffusion", "discrete_diffusion",
             "discriminative", "distributions", "energy", "evaluation", "flows", "inference", "inverse", "latent",
             "networks", "runs", "training", "visualization")


def load(path: str | os.PathLike, checkpoint: str = "best",
         overrides: Mapping[str, Any] | None = None) -> "TrainedRun":
  """Open a trained run; its training data are not needed.

  Args:
    path: a workdir, or a file that `experiments.export` wrote.
    checkpoint: of a workdir, "best" by validation ("last" where there is no best), "last", or a step.
    overrides: config fields to change, as {"evaluation.num_samples": 100}.

  Raises:
    WorkdirError: there is no run.
    CheckpointError: its weights are missing, damaged, changed, or of a newer version.
    ConfigError: an override that cannot be used.

  Example:

    run = gdm.load("runs/made")
    images = run.sample(16, seed=1)
    print(run.log_likelihood(images).bits_per_dim)
  """
  from gdm.runs.load import open_run  # here, so that `import gdm` takes no second

  return open_run(path, overrides, checkpoint)


def __getattr__(name: str) -> Any:
  """Import a package when it is asked for: `gdm.flows` needs no import of its own."""
  if name == "__version__":
    return version()
  if name == "DataSpec":
    from gdm.dataspec import DataSpec

    return DataSpec
  if name in _PACKAGES:
    return importlib.import_module(f"gdm.{name}")
  raise AttributeError(f"module 'gdm' has no attribute {name!r}")


def __dir__() -> list[str]:
  return sorted([*globals(), *_PACKAGES, "DataSpec", "__version__"])
