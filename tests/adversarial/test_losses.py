"""Losses have the optima that their papers derive."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gdm.adversarial.losses import LOSSES

P, Q = np.meshgrid(np.linspace(0.1, 2.0, 5), np.linspace(0.1, 2.0, 5))  # densities of data and of samples at points


def gradient(cost, s):
  return jax.vmap(jax.grad(cost))(jnp.asarray(s).ravel()).reshape(np.shape(s))


@pytest.mark.parametrize("name", ["minimax", "non_saturating"])
def test_the_best_critic_is_p_over_p_plus_q(name):
  loss, best = LOSSES[name], np.log(P / Q)  # the logit of p / (p + q)
  np.testing.assert_allclose(P * gradient(loss.real, best) + Q * gradient(loss.fake, best), 0.0, atol=1e-6)


@pytest.mark.parametrize("smooth", [0.1, 0.3])
def test_with_smoothed_labels_it_is_less_by_that_share(smooth):
  loss, share = LOSSES["non_saturating"], (1.0 - smooth) * P / (P + Q)  # arXiv:1606.03498, section 3.4
  best = np.log(share / (1.0 - share))
  cost = (1.0 - smooth) * gradient(loss.real, best) + smooth * gradient(loss.fake, best)
  np.testing.assert_allclose(P * cost + Q * gradient(loss.fake, best), 0.0, atol=1e-6)


def test_the_best_critic_by_least_squares_is_p_over_p_plus_q():
  loss, best = LOSSES["least_squares"], P / (P + Q)
  np.testing.assert_allclose(P * gradient(loss.real, best) + Q * gradient(loss.fake, best), 0.0, atol=1e-6)


def test_the_best_critic_by_hinges_is_a_sign():
  loss = LOSSES["hinge"]
  scores = np.linspace(-2.0, 2.0, 401)[:, None, None]
  best = scores[np.argmin(P * loss.real(scores) + Q * loss.fake(scores), axis=0), 0, 0]
  np.testing.assert_allclose(best[P != Q], np.sign(P - Q)[P != Q], atol=1e-6)


def test_both_ways_of_the_cross_entropy_move_the_generator_alike_and_only_one_saturates():
  minimax, other = (LOSSES[name].generator for name in ("minimax", "non_saturating"))
  assert gradient(minimax, 0.0) == gradient(other, 0.0) == -0.5
  assert abs(gradient(minimax, -10.0)) < 1e-4 < 0.9 < abs(gradient(other, -10.0))
