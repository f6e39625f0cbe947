"""The bracket: its ends lie on either side of the exact score, and close as temperatures are added."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gdm.baselines.independent import Independent
from gdm.dataspec import DataSpec
from gdm.energy.rbm import RBM
from gdm.errors import ConfigError
from gdm.evaluation.bracket import evaluate_bracket
from gdm.likelihood import Kind

KEY = jax.random.key(0)


def test_a_normalized_model_has_no_bracket():
  model = Independent(DataSpec((6,), 2))
  with pytest.raises(ConfigError, match="Independent has no bracket"):
    evaluate_bracket(model, {}, {}, list, 10, key=KEY)


@pytest.mark.slow
def test_the_ends_close_on_the_exact_score():
  model = RBM(DataSpec((6,), 2), num_hidden=4)
  rng = np.random.default_rng(0)
  x = rng.integers(0, 2, (500, 6)).astype(np.uint8)
  params, carry = model.init(KEY, {"x": x})
  params = {**params, "model": jax.tree.map(lambda leaf: leaf + rng.normal(size=leaf.shape), params["model"])}
  drawn = np.asarray(model.sample(params, carry, KEY, 2000).x)
  exact = float(np.mean(model.log_likelihood(params, carry, {"x": jnp.asarray(drawn)}, KEY).nats))
  brackets = [evaluate_bracket(model, params, carry, lambda: [{"x": drawn}], num, key=KEY) for num in (5, 200)]
  for bracket in brackets:
    assert (bracket.pessimistic.kind, bracket.optimistic.kind) == (Kind.SAMPLER_BOUND, Kind.UPPER_BOUND)
    assert bracket.pessimistic.nats_mean < exact + 0.02
    assert bracket.optimistic.nats_mean > exact - 4 * bracket.optimistic.normalizer_stderr
  assert brackets[0].width > 0.05 > abs(brackets[1].width)
  assert brackets[1].to_json()["num_temperatures"] == 200
  low, high = brackets[1].width_ci95
  assert low < brackets[1].width < high < low + 0.2
