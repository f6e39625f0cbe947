"""A linear classifier to attack, whose worst inputs are known."""

import jax
import jax.numpy as jnp
import numpy as np

from gdm.dataspec import DataSpec
from gdm.discriminative.logistic_regression import LogisticRegression
from gdm.robustness.target import AttackTarget

KEY = jax.random.key(0)
REALS, LEVELS = DataSpec((3,), None, num_classes=2), DataSpec((2, 2, 1), 32, num_classes=3)


def linear(spec, seed=0, scale=1.0):
  """The classifier and eight examples, some of them at the edge of the data's range."""
  rng, model = np.random.default_rng(seed), LogisticRegression(spec)
  own = {"weights": jnp.asarray(scale * rng.normal(size=(spec.num_dims, spec.num_classes)), jnp.float32),
         "bias": jnp.asarray(rng.normal(size=spec.num_classes), jnp.float32)}
  x = rng.normal(size=(8, *spec.event)).astype(np.float32) if spec.levels is None else (
      np.clip(rng.integers(-6, spec.levels + 6, (8, *spec.event)), 0, spec.levels - 1).astype(np.uint8))
  return AttackTarget(model, {"model": own}, {}), {"x": x, "y": rng.integers(0, spec.num_classes, 8)}
