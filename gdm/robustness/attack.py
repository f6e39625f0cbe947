"""Attacks: inputs within a ball about examples that a classifier labels wrongly, found by climbing its loss."""

import dataclasses
import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key, Num

from gdm import checks
from gdm.batches import check_rows
from gdm.dataspec import DataSpec
from gdm.errors import ConfigError
from gdm.model import Batch
from gdm.robustness.norms import NORMS, Norm, Room
from gdm.robustness.target import LOSSES, AttackTarget, served

_STEPS_ACROSS = 2.5  # radii that all steps go together, as in the code of Madry et al.


class Attacked(NamedTuple):
  """Perturbed examples.

  Attributes:
    x: as served: integers are whole, in [0, levels - 1].
    loss: of each, through the purifier where there is one: the highest that was met.
    num_slopes: gradients of the classifier that were taken for each example.
  """

  x: Num[Array, "batch *event"]
  loss: Float[Array, " batch"]
  num_slopes: int


@dataclasses.dataclass(frozen=True)
class Attack:
  """Steepest ascent of a loss within a ball, from the example or random starts; the worst input met is kept.

  Integers move between their levels, and are judged, and end, whole. `fgsm`, `iterated` and `projected_gradient` make
  the ones of the literature.

  Attributes:
    norm: linf or l2, in the data's units.
    epsilon: radius of the ball, in the data's units: of 256 levels, 8 is the literature's 8/255.
    num_steps: steps of each attempt.
    step_size: in the norm; 0 is 2.5 epsilon / num_steps, but at most epsilon.
    num_restarts: attempts.
    random_start: whether attempts begin anywhere in the ball; without it one attempt is all there is.
    loss: cross_entropy, or margin, whose slope does not vanish where the classifier is sure.

  Example:
    attack = projected_gradient(8.0, num_steps=40, num_restarts=5)
    worst = attack.run(Target(model, params, carry), jax.random.key(0), {"x": x, "y": y}).x
  """

  norm: str = "linf"
  epsilon: int | float = 8.0
  num_steps: int = 1
  step_size: int | float = 0.0
  num_restarts: int = 1
  random_start: bool = False
  loss: str = "cross_entropy"

  def __post_init__(self) -> None:
    checks.one_of("norm", self.norm, NORMS)
    checks.at_least("epsilon", self.epsilon, 0)
    checks.at_least("num_steps", self.num_steps, 1)
    checks.at_least("step_size", self.step_size, 0)
    checks.at_least("num_restarts", self.num_restarts, 1)
    if self.num_restarts > 1 and not self.random_start:
      raise ConfigError(f"num_restarts is {self.num_restarts}, but random_start is False, so that all attempts "
                        "would be the same; set it to True, or num_restarts to 1.")
    checks.one_of("loss", self.loss, LOSSES)

  @property
  def step(self) -> int | float:
    """Length of a step, in the norm."""
    return self.step_size or min(_STEPS_ACROSS * self.epsilon / self.num_steps, self.epsilon)

  def run(self, target: AttackTarget, key: Key[Array, ""], batch: Batch) -> Attacked:
    """Return the worst inputs met. They lie within epsilon of the examples.

    Args:
      target: what is attacked.
      key: of starts and of the purifier's draws.
      batch: examples "x" and their labels "y".

    Raises:
      DataError: examples or labels are not what the spec promises.
      SpecError: there are no labels.
    """
    checks.has_labels(batch, target.model, "is attacked at the true label")
    check_rows(target.spec, {name: jax.device_get(batch[name]) for name in ("x", "y")}, "the examples to attack")
    x, y = served(target.spec, batch["x"]), jnp.asarray(batch["y"]).astype(jnp.int32)
    worst = (x, jnp.full(len(x), -jnp.inf))
    for restart in range(self.num_restarts):
      start_key, own = jax.random.split(jax.random.fold_in(key, restart))
      d = self._start(target.spec, start_key, x)
      for step in range(self.num_steps + 1):
        # The start does not count as met; the last step is looked at, and goes no further.
        d, worst = _climb(self, target, jax.random.fold_in(own, step), x, y, d, worst, jnp.asarray(step > 0))
    return Attacked(worst[0], worst[1], self.num_restarts * self.num_steps * target.num_draws)

  def _start(self, spec: DataSpec, key: Key[Array, ""], x: Num[Array, "batch *event"]) -> Float[Array, "batch *event"]:
    if not self.random_start:
      return jnp.zeros(x.shape, jnp.float32)
    norm, real = NORMS[self.norm], x.astype(jnp.float32)
    return norm.nearest(norm.draw(key, x.shape, self.epsilon), self.epsilon, Room.around(spec, real))


def fgsm(epsilon: int | float, norm: str = "linf") -> Attack:
  """Return the fast gradient sign method, one step to the ball's edge (Goodfellow et al., arXiv:1412.6572, section 4);
  in l2 along the gradient."""
  return Attack(norm, epsilon, step_size=epsilon)


def iterated(epsilon: int | float, norm: str = "linf", num_steps: int = 10, step_size: int | float = 0.0) -> Attack:
  """Return the basic iterative method, steps from the example itself (Kurakin et al., arXiv:1607.02533, section
  2.2)."""
  return Attack(norm, epsilon, num_steps, step_size)


def projected_gradient(epsilon: int | float, norm: str = "linf", num_steps: int = 40, step_size: int | float = 0.0,
                       num_restarts: int = 1, loss: str = "margin") -> Attack:
  """Return projected gradient from random starts (Madry et al., arXiv:1706.06083, section 2.1)."""
  return Attack(norm, epsilon, num_steps, step_size, num_restarts, random_start=True, loss=loss)


def whole(spec: DataSpec, norm: Norm, epsilon: int | float, x: Num[Array, "batch *event"],
          d: Float[Array, "batch *event"]) -> Num[Array, "batch *event"]:
  """Return x + d as served. Integers are rounded; where that leaves the ball, d is cut towards 0, which never does."""
  if spec.levels is None:
    return x + d
  near, cut = jnp.rint(d), jnp.trunc(d)
  fits = (norm.size(near) <= epsilon).reshape(-1, *(1,) * (d.ndim - 1))
  return x + jnp.where(fits, near, cut).astype(x.dtype)


@functools.partial(jax.jit, static_argnames=("attack",))
def _climb(attack: Attack, target: AttackTarget, key: Key[Array, ""], x: Num[Array, "batch *event"],
           y: Int[Array, " batch"], d: Float[Array, "batch *event"], worst: tuple[Array, Array], counts: Bool[Array, ""]
           ) -> tuple[Array, tuple[Array, Array]]:
  """Return the next perturbation, and the worst input met with its loss; the present one is among them if it counts."""
  norm, real = NORMS[attack.norm], x.astype(jnp.float32)
  now = whole(target.spec, norm, attack.epsilon, x, d)
  losses, slope = target.slope(attack.loss, key, now, y)
  worse = (losses > worst[1]) & counts
  kept = jnp.where(worse.reshape(-1, *(1,) * (x.ndim - 1)), now, worst[0]), jnp.where(worse, losses, worst[1])
  moved = d + attack.step * norm.steepest(slope)
  return norm.nearest(moved, attack.epsilon, Room.around(target.spec, real)), kept
