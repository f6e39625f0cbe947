"""Consistency models: a network that takes noise to data in one step, trained without a teacher (Song & Dhariwal,
arXiv:2310.14189, "improved consistency training")."""

import dataclasses
import functools
import math
from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from gdm import checks
from gdm.batches import condition_context, given_context
from gdm.dataspec import DataSpec
from gdm.diffusion.diffusion import Diffusion
from gdm.diffusion.edm import edm
from gdm.diffusion.paths.path import NoisePath, expand
from gdm.diffusion.samplers.grids import RhoGrid
from gdm.model import Batch, Carry, Condition, LossOutput, Mean, Objective, Params, Samples

_LOG_SIGMA_MEAN, _LOG_SIGMA_STD = -1.1, 2.0  # of the noise levels in training (section 3.5)
_HUBER = 0.00054  # c of the loss over the root of the dimensions (section 3.3)
_SCORED = 64  # draws that validation compares examples with


@dataclasses.dataclass(frozen=True)
class Consistency:
  """A model whose network gives the same data at all points of a path of the probability-flow ODE.

  f(x, sigma) is EDM's preconditioned network. At two neighbouring noise levels of one example and one noise, the
  prediction at the higher level is trained toward the one at the lower level, which is held constant; at the lowest
  level f is the identity but for sigma_min. Levels grow closer as training goes on (section 3.4).

  Example:
    model = Consistency(DataSpec((8, 8, 1), 17), network=UNet(width=16))
    params, carry = model.init(key, batch)
    images = model.sample(params, carry, key, num=16, num_steps=2).x

  Attributes:
    spec: the data.
    network: a Flax module as `Diffusion` takes it; None is a U-Net for images, else a perceptron.
    sigma_min, sigma_max: noise levels, in values.
    sigma_data: standard deviation of the values: 0.5 of images in [-1, 1], 1 of standardized numbers.
    first_levels: steps between noise levels at first, s_0.
    last_levels: steps between them at last, s_1; 1280 in the paper, for 400,000 training steps.
    double_every: training steps after which the levels are doubled.
    steps: steps of sampling where no number is given.
    class_conditional: whether the network is given the labels "y".
  """

  spec: DataSpec
  network: nn.Module | None = None
  sigma_min: float = 0.002
  sigma_max: float = 80.0
  sigma_data: float = 0.5
  first_levels: int = 10
  last_levels: int = 160
  double_every: int = 1000
  steps: int = 2
  class_conditional: bool = False

  def __post_init__(self) -> None:
    checks.at_least("first_levels", self.first_levels, 2)
    checks.at_least("last_levels", self.last_levels, self.first_levels, "(first_levels)")
    checks.at_least("double_every", self.double_every, 1)
    checks.at_least("steps", self.steps, 1)
    _ = self.denoiser  # it checks its fields

  @property
  def denoiser(self) -> Diffusion:
    """The model whose network and path this one has."""
    return edm(self.spec, sigma_min=self.sigma_min, sigma_max=self.sigma_max, sigma_data=self.sigma_data,
               network=self.network, class_conditional=self.class_conditional)

  @property
  def context_conditional(self) -> bool:
    """Whether the model is given a real-valued context, as it is where the data have one."""
    return self.spec.context_dims > 0

  @property
  def prefix_conditional(self) -> bool:
    """Whether the model is given a prefix, as it is where the data have one and the network takes it."""
    return self.denoiser.prefix_conditional

  @property
  def prefix_optional(self) -> bool:
    return False

  @property
  def objectives(self) -> tuple[Objective, ...]:
    return (Objective(("model",), self.loss, unit="pseudo-Huber distance"),)

  @property
  def criterion(self) -> str:
    return "energy_score"

  @property
  def keeps_newest(self) -> bool:
    return True  # the energy score's noise is more than what the last thousands of steps gain

  def init(self, key: Key[Array, ""], batch: Batch) -> tuple[Params, Carry]:
    """Return parameters; the carry keeps how real data is standardized, by the batch."""
    return self.denoiser.init(key, batch)

  def predict(self, params: Params, x: Float[Array, "batch *event"], t: Float[Array, " batch"],
              context: Float[Array, "batch width"] | None,
              key: Key[Array, ""] | None = None) -> Float[Array, "batch *event"]:
    """Return f(x, sigma) at times t of the path; with a key, dropout is on."""
    model, path = self.denoiser, self._path
    value = model.predict(params, path, x, t, context, key)
    return model.prediction.data(path.level(t).like(x), x, value)

  def loss(self, params: Params, carry: Carry, batch: Batch, key: Key[Array, ""], step: Array) -> LossOutput:
    """Return the weighted pseudo-Huber distance of predictions at neighbouring levels, a mean over the batch."""
    level_key, noise_key, dropout_key = jax.random.split(key, 3)
    data = self.denoiser.scaling(carry).values(jnp.asarray(batch["x"]))
    context = given_context(self, batch)
    lower, higher = self._pairs(level_key, step, len(data))
    noise = jax.random.normal(noise_key, data.shape, data.dtype)

    def predicted(sigma):  # the same dropout at both levels
      x = data + expand(sigma, data) * noise
      return self.predict(params, x, sigma / self.sigma_max, context, dropout_key)

    error = predicted(higher) - jax.lax.stop_gradient(predicted(lower))
    c = _HUBER * math.sqrt(self.spec.num_dims)
    distance = jnp.sqrt(jnp.sum(jnp.square(error).reshape(len(data), -1), axis=1) + c**2) - c
    losses = distance / (higher - lower)  # lambda(sigma) of section 3.1
    return LossOutput(jnp.mean(losses), {"loss": Mean.of(losses), "levels": Mean.of(self.num_levels(step))}, carry)

  def num_levels(self, step: Int[Array, ""] | int) -> Float[Array, ""]:
    """Return N - 1 at a training step, the steps between noise levels (equation 7)."""
    doubled = jnp.asarray(step, jnp.float32) // self.double_every
    most = math.log2(self.last_levels / self.first_levels)
    return jnp.minimum(jnp.floor(self.first_levels * 2.0 ** jnp.minimum(doubled, most)), 1.0 * self.last_levels)

  def _pairs(self, key: Key[Array, ""], step: Array, num: int) -> tuple[Float[Array, " num"], Float[Array, " num"]]:
    """Draw neighbouring noise levels, likelier where log sigma is near its mean (equation 10)."""
    steps = self.num_levels(step)
    index = jnp.arange(self.last_levels + 1)
    low, high = self.sigma_min ** (1 / 7.0), self.sigma_max ** (1 / 7.0)
    sigma = (low + jnp.minimum(index / steps, 1.0) * (high - low)) ** 7.0
    below = jax.scipy.special.erf((jnp.log(sigma) - _LOG_SIGMA_MEAN) / (math.sqrt(2.0) * _LOG_SIGMA_STD))
    weights = jnp.where(index[:-1] < steps, below[1:] - below[:-1], 0.0)
    chosen = jax.random.categorical(key, jnp.log(jnp.maximum(weights, 1e-30)), shape=(num,))
    return sigma[chosen], sigma[chosen + 1]

  def sample(self, params: Params, carry: Carry, key: Key[Array, ""], num: int, condition: Condition | None = None,
             num_steps: int = 0) -> Samples:
    """Draw x [num, *event]: each step takes noise to data, and all but the last noise them again (Song et al.,
    arXiv:2303.01469, algorithm 1). Info: "nfe".

    Args:
      params, carry: the model's.
      key: of the draws.
      num: how many.
      condition: labels, contexts or both.
      num_steps: 0 is the model's default.

    Raise ConfigError where there is no step.
    """
    steps = num_steps or self.steps
    checks.at_least("num_steps", steps, 1)
    return Samples(_draw(self, params, carry, key, condition_context(self, condition, num), num, steps),
                   {"nfe": steps})

  def validate(self, params: Params, carry: Carry, batch: Batch, key: Key[Array, ""]
               ) -> Mapping[str, Float[Array, " batch"]]:
    """Return the energy score of each example: E|X - x| - E|X - X'| / 2 of samples X, X', in values; its mean is least
    where the samples' distribution is the data's (Gneiting and Raftery, 2007, section 4.3)."""
    scaling = self.denoiser.scaling(carry)
    context = given_context(self, batch)
    if context is not None:
      label_key, key = jax.random.split(key)
      context = context[jax.random.randint(label_key, (_SCORED,), 0, len(context))]
    drawn = scaling.values(_draw(self, params, carry, key, context, _SCORED, self.steps)).reshape(_SCORED, -1)
    x = scaling.values(jnp.asarray(batch["x"])).reshape(batch["x"].shape[0], -1)
    among = _distances(drawn, drawn)
    return {"energy_score": jnp.mean(_distances(x, drawn), axis=1)
            - 0.5 * jnp.sum(among) / (_SCORED * (_SCORED - 1))}

  @property
  def _path(self) -> NoisePath:
    path = self.denoiser.path
    assert isinstance(path, NoisePath)
    return path


@functools.partial(jax.jit, static_argnames=("model", "num", "num_steps"))
def _draw(model: Consistency, params: Params, carry: Carry, key: Key[Array, ""], context: Array | None, num: int,
          num_steps: int) -> Array:
  """Sample as served; compiled once for each number of samples and steps."""
  path, limits = model._path, (-1.0, 1.0)
  times = RhoGrid(to_zero=False).times(path, num_steps)[:-1]
  values = jnp.zeros((num, *model.spec.event))
  for index in range(num_steps):
    noise = jax.random.normal(jax.random.fold_in(key, index), values.shape)
    sigma = model.sigma_max * times[index]
    level = sigma if index == 0 else jnp.sqrt(sigma**2 - model.sigma_min**2)
    values = model.predict(params, values + level * noise, jnp.full(num, times[index]), context)
    values = jnp.clip(values, *limits) if model.spec.is_discrete else values
  return model.denoiser.served(carry, values)


def _distances(x: Float[Array, "rows dims"], y: Float[Array, "columns dims"]) -> Float[Array, "rows columns"]:
  return jnp.sqrt(jnp.maximum(jnp.sum((x[:, None] - y) ** 2, axis=-1), 0.0))
