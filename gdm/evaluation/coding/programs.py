"""What all coders need of a compiled model: the compiler's options, checked tables, checked examples."""

import jax
import numpy as np
from jaxtyping import Float, Int, Integer

from gdm.errors import DataError, NotFiniteError
from gdm.evaluation.coding.tables import quantize

# A GPU's compiler otherwise chooses algorithms by timing them, differently from one process to the next.
_OPTIONS: dict[str, dict[str, str | bool]] = {
    "gpu": {"xla_gpu_autotune_level": "0", "xla_gpu_exclude_nondeterministic_ops": True},
}


def compiler_options() -> dict[str, str | bool] | None:
  """Return the compiler's options by which one program gives one result."""
  return _OPTIONS.get(jax.default_backend())


def quantized(probs: Float[np.ndarray, "*shape values"]) -> Int[np.ndarray, "*shape values"]:
  """Return the tables of a model's probabilities. Raise NotFiniteError where they are not finite."""
  if not np.isfinite(probs).all():
    raise NotFiniteError("the model gives probabilities that are NaN or infinite; no bits can be made of them.")
  return quantize(probs)


def require_range(x: Integer[np.ndarray, "examples *event"], levels: int) -> None:
  """Raise DataError where a value lies outside [0, levels)."""
  for index in np.flatnonzero(((x < 0) | (x >= levels)).reshape(len(x), -1).any(axis=1))[:1]:
    raise DataError(f"example {index} holds values from {x[index].min()} to {x[index].max()}; they must lie in "
                    f"[0, {levels}).")
