"""Generative adversarial networks (Goodfellow et al., arXiv:1406.2661), with any loss, penalty and network.

They have samples and no likelihood. In each step the critic is trained first, `critic_steps` times, then the generator.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, Num

from gdm import checks
from gdm.adversarial import penalties, trouble
from gdm.adversarial.losses import LOSSES, AdversarialLoss
from gdm.adversarial.networks.perceptrons import PerceptronCritic, PerceptronGenerator
from gdm.batches import condition_context, given_context, nan_unless_valid
from gdm.dataspec import DataSpec
from gdm.errors import ConfigError, SpecError
from gdm.inference import latent_posterior
from gdm.model import (
  Batch,
  Carry,
  Condition,
  LossOutput,
  Mean,
  MeasurementLikelihood,
  Objective,
  Params,
  PyTree,
  Samples,
)

SCORED = 512  # samples that each example of a validation batch is compared with


class _Pass(NamedTuple):
  """A network's outputs [batch, ...], and its statistics after them."""

  made: Array
  statistics: PyTree


@dataclasses.dataclass(frozen=True)
class GAN:
  """A generator z -> x, z standard normal, trained against a critic that scores examples.

  Networks see integers as points of [-1, 1], spread evenly over the width of their level, and the generator's outputs
  go through a hyperbolic tangent; real numbers are seen and made as they are.

  Attributes:
    spec: the data.
    latent_dims: dimensions of z.
    class_conditional: whether both networks are given the labels "y".
    generator: a network of examples, by z.
    critic: a network of scores, by examples.
    loss: minimax, non_saturating, least_squares, hinge or wasserstein.
    critic_steps: steps of the critic, each on a minibatch of its own, for one of the generator.
    gradient_penalty: weight of (|gradient| - 1)^2 between real and made examples (WGAN-GP, arXiv:1704.00028).
    r1: weight of half the squared gradient at real examples (arXiv:1801.04406).
    clip: bound of the critic's weights after each of its steps (WGAN, arXiv:1701.07875, algorithm 1); 0 is none.
    label_smoothing: the critic's target of real examples is 1 minus this (one-sided; arXiv:1606.03498, section 3.4).
    label_flips: share of examples whose label, real or made, the critic is told wrongly.
    instance_noise: deviation of noise on all that the critic sees, in its units (arXiv:1610.04490).
    instance_noise_steps: steps in which that noise falls to 0, linearly; 0 keeps it.
    pac: examples that the critic scores together, as one of more channels or dimensions (PacGAN, arXiv:1712.04086).

  Example:
    model = GAN(DataSpec((2,), None), latent_dims=2, r1=0.1)
    params, carry = model.init(key, {"x": x})
    x = model.sample(params, carry, key, 100).x
  """

  spec: DataSpec
  latent_dims: int = 64
  class_conditional: bool = False
  generator: nn.Module = PerceptronGenerator()
  critic: nn.Module = PerceptronCritic()
  loss: str = "non_saturating"
  critic_steps: int = 1
  gradient_penalty: float = 0.0
  r1: float = 0.0
  clip: float = 0.0
  label_smoothing: float = 0.0
  label_flips: float = 0.0
  instance_noise: float = 0.0
  instance_noise_steps: int = 0
  pac: int = 1

  def __post_init__(self) -> None:
    self.spec.require_whole("GAN")
    if not self.spec.event:
      raise SpecError("GAN needs examples of at least one axis, but spec.event is ().")
    checks.classes(self.spec, self.class_conditional)
    checks.one_of("loss", self.loss, LOSSES)
    for name, least in (("latent_dims", 1), ("critic_steps", 1), ("gradient_penalty", 0), ("r1", 0), ("clip", 0),
                        ("instance_noise", 0), ("instance_noise_steps", 0), ("pac", 1)):
      checks.at_least(name, getattr(self, name), least)
    for name in ("label_smoothing", "label_flips"):
      checks.rate(name, value := getattr(self, name))
      if value and not self._loss.is_cross_entropy:
        raise ConfigError(f"{name} is {value}, but loss is {self.loss!r}, which has no labels; set it to 0, or loss to "
                          "minimax or non_saturating.")
    if self.pac > 1 and getattr(self.critic, "labels", "") == "projection":
      raise ConfigError(f"pac is {self.pac} and critic.labels projection, but examples that are scored together have "
                        "several labels; set critic.labels to concatenate, or pac to 1.")

  @property
  def objectives(self) -> tuple[Objective, ...]:
    reasons = [f"{network} is normalized over the whole minibatch" for network in ("generator", "critic")
               if getattr(getattr(self, network), "normalization", "") == "batch"]
    unit = "nats" if self._loss.is_cross_entropy else ""
    whole = "; ".join(reasons)
    critic = Objective(("critic",), self.critic_loss, self.critic_steps, whole_batch=whole, unit=unit,
                       project=self._clipped if self.clip else None)
    return critic, Objective(("generator",), self.generator_loss, whole_batch=whole, unit=unit)

  @property
  def criterion(self) -> str:
    return "energy_score"

  @property
  def keeps_newest(self) -> bool:
    return True  # the energy score's noise is more than what the last thousands of steps gain

  def init(self, key: Key[Array, ""], batch: Batch) -> tuple[Params, Carry]:
    """Return parameters of both networks, and the statistics of their normalizations.

    Raise ConfigError where a critic with a penalty of its gradients mixes examples by batch normalization, or a network
    makes something of another shape.
    """
    generator_key, critic_key = jax.random.split(key)
    num = min(batch["x"].shape[0] // self.pac, 2) * self.pac
    if not num:
      raise ConfigError(f"pac is {self.pac}, but there are only {batch['x'].shape[0]} examples; it must not be more.")
    x = self._seen(jnp.asarray(batch["x"])[:num])
    context = given_context(self, {name: jnp.asarray(value)[:num] for name, value in batch.items()})
    z = jnp.zeros((num, self.latent_dims))
    generator = self._generator.init(generator_key, z, context)
    critic = self.critic.init(critic_key, *self._packed(x, context))
    made: Any = jax.eval_shape(lambda: self._generator.apply(generator, z, context))
    scores: Any = jax.eval_shape(lambda: self.critic.apply(critic, *self._packed(x, context)))
    for name, found, right in (("generator", made.shape, x.shape), ("critic", scores.shape, (num // self.pac,))):
      if found != right:
        raise ConfigError(f"the network {name} makes {found}; it must make {right}.")
    statistics = {name: variables["batch_stats"] for name, variables in (("generator", generator), ("critic", critic))
                  if "batch_stats" in variables}
    means = [path for path, _ in jax.tree.leaves_with_path(statistics.get("critic", {})) if "'mean'" in str(path[-1])]
    for name in ("gradient_penalty", "r1"):
      if means and getattr(self, name):
        raise ConfigError(f"{name} is {getattr(self, name)}, which is of the gradient of each example's own score, but "
                          "critic.normalization is batch, by which a score depends on all examples of the batch; set "
                          "it to layer, spectral or none.")
    params = {"generator": generator["params"], "critic": critic["params"]}
    return params, {"statistics": statistics} if statistics else {}

  def critic_loss(self, params: Params, carry: Carry, batch: Batch, key: Key[Array, ""], step: Array) -> LossOutput:
    """Return the critic's mean cost of real and of made examples, and of its gradients."""
    self._check_pac(batch["x"].shape[0])
    generate_key, real_key, noise_key, flip_key, weight_key = jax.random.split(key, 5)
    context = given_context(self, batch)
    fake = self._generate(params, carry, generate_key, batch["x"].shape[0], context).made
    real = self._seen(jnp.asarray(batch["x"]), real_key)
    real, fake = (self._noisy(x, jax.random.fold_in(noise_key, i), step) for i, x in enumerate((real, fake)))
    (real, packed), (fake, _) = self._packed(real, context), self._packed(fake, context)
    of_real, statistics = self._score(params, carry, real, packed)
    carry = self._with(carry, "critic", statistics)
    of_fake, statistics = self._score(params, carry, fake, packed)
    carry = self._with(carry, "critic", statistics)

    # D's targets, smoothed on one side, some of them wrong.
    smooth, costs = self.label_smoothing, self._loss
    of_label = (lambda s: (1.0 - smooth) * costs.real(s) + smooth * costs.fake(s)), costs.fake
    flips = jax.random.bernoulli(flip_key, self.label_flips, (2, *of_real.shape))
    costs_real = jnp.where(flips[0], of_label[1](of_real), of_label[0](of_real))
    costs_fake = jnp.where(flips[1], of_label[0](of_fake), of_label[1](of_fake))
    loss = jnp.mean(costs_real) + jnp.mean(costs_fake)
    metrics = {"real": Mean.of(of_real), "fake": Mean.of(of_fake),
               "accuracy": Mean.of(trouble.accuracy(of_real, of_fake)),
               "diversity": Mean.of(trouble.diversity(real, fake))}

    def alone(x):
      return self._score(params, carry, x, packed).made

    for name, weight, penalty in (
        ("gradient_penalty", self.gradient_penalty, lambda: penalties.gradient_penalty(alone, real, fake, weight_key)),
        ("r1", self.r1, lambda: penalties.r1(alone, real))):
      if weight:
        values = penalty()
        loss, metrics[name] = loss + weight * jnp.mean(values), Mean.of(values)
    return LossOutput(loss, metrics, carry)

  def generator_loss(self, params: Params, carry: Carry, batch: Batch, key: Key[Array, ""], step: Array) -> LossOutput:
    """Return the generator's mean cost of the scores of what it makes."""
    self._check_pac(batch["x"].shape[0])
    generate_key, noise_key = jax.random.split(key)
    context = given_context(self, batch)
    fake, statistics = self._generate(params, carry, generate_key, batch["x"].shape[0], context)
    scores = self._score(params, carry, *self._packed(self._noisy(fake, noise_key, step), context)).made
    return LossOutput(jnp.mean(self._loss.generator(scores)), {}, self._with(carry, "generator", statistics))

  def sample(self, params: Params, carry: Carry, key: Key[Array, ""], num: int,
             condition: Condition | None = None, temperature: int | float = 1.0) -> Samples:
    """Draw examples; `temperature` is the deviation of z, 1 as trained."""
    checks.temperature(temperature, zero=True)
    context = condition_context(self, condition, num)
    made = self._made(params, carry, temperature * self.prior_latents(params, key, num), context)
    return Samples(self._as_data(made), {"nfe": jnp.ones(())})

  def prior_latents(self, params: Params, key: Key[Array, ""], num: int) -> Float[Array, "num dims"]:
    """Draw z."""
    return jax.random.normal(key, (num, self.latent_dims))

  def decode(self, params: Params, carry: Carry, latent: PyTree, key: Key[Array, ""],
             condition: Condition | None = None) -> Num[Array, "batch *event"]:
    """Return the examples of latents [batch, latent_dims], in the data's values."""
    if latent.ndim != 2 or latent.shape[1] != self.latent_dims:
      raise SpecError(f"latent has shape {latent.shape}; it must be (batch, {self.latent_dims}).")
    context = condition_context(self, condition, latent.shape[0])
    return self._as_data(self._made(params, carry, jnp.asarray(latent), context))

  def sample_posterior(self, params: Params, carry: Carry, key: Key[Array, ""],
                       log_likelihood: MeasurementLikelihood, batch: int, num: int,
                       condition: Condition | None = None) -> Samples:
    """Draw [num, batch, *event] given measurements, by chains of latents, see `gdm.inference.latent_posterior`."""
    context = condition_context(self, condition, batch)

    def made(z, rows):
      return self._as_data(self._made(params, carry, z, None if context is None else context[rows]))

    found = latent_posterior.draw(key, made, log_likelihood, self.latent_dims, batch, num)
    return Samples(found.x, found.info)

  def validate(self, params: Params, carry: Carry, batch: Batch, key: Key[Array, ""]
               ) -> Mapping[str, Float[Array, " batch"]]:
    """Return the energy score of each example: E|X - x| - E|X - X'| / 2 of samples X, X', in the networks' units.

    Its mean over data is least where the samples' distribution is the data's, and only there (Gneiting and Raftery,
    2007, section 4.3). It is in the units of a distance between examples, and no likelihood.
    """
    label_key, sample_key = jax.random.split(key)
    context = given_context(self, batch)
    if context is not None:
      real = batch.get("mask", np.ones(context.shape[0], np.float32))
      rows = jax.random.choice(label_key, context.shape[0], (SCORED,), p=jnp.asarray(real) / jnp.sum(real))
      context = context[rows]
    made = self._made(params, carry, self.prior_latents(params, sample_key, SCORED), context).reshape(SCORED, -1)
    x = self._seen(jnp.asarray(batch["x"])).reshape(batch["x"].shape[0], -1)
    among = jnp.sum(_distances(made, made)) / (SCORED * (SCORED - 1))
    scores = jnp.mean(_distances(x, made), axis=1) - 0.5 * among
    return {"energy_score": nan_unless_valid(self.spec, batch, scores)}

  def verdict(self, metrics: Mapping[str, float]) -> str:
    return trouble.verdict(metrics)

  @property
  def _loss(self) -> AdversarialLoss:
    return LOSSES[self.loss]

  @property
  def _generator(self) -> nn.Module:
    return self.generator.clone(event=self.spec.event)

  def _clipped(self, params: PyTree) -> PyTree:
    return jax.tree.map(lambda p: jnp.clip(p, -self.clip, self.clip), params)

  def _check_pac(self, num: int) -> None:
    if num % self.pac:
      raise ConfigError(f"pac is {self.pac}, which does not divide the minibatch of {num}; choose another pac, or "
                        "data.batch_size.")

  def _seen(self, x: Num[Array, "batch *event"], key: Key[Array, ""] | None = None) -> Float[Array, "batch *event"]:
    """Return data as the networks see it; integers in the middle of their level, or with a key anywhere in it."""
    if self.spec.levels is None:
      if not jnp.issubdtype(x.dtype, jnp.floating):
        raise SpecError(f"x is {x.dtype}, but spec.levels is None, so that its range is not known; set spec.levels, or "
                        "give real numbers.")
      return x
    within = 0.5 if key is None else jax.random.uniform(key, x.shape)
    return 2.0 * (x.astype(jnp.float32) + within) / self.spec.levels - 1.0

  def _as_data(self, made: Float[Array, "batch *event"]) -> Num[Array, "batch *event"]:
    """Return what the generator made in the data's values."""
    if self.spec.levels is None:
      return made
    level = jnp.floor(0.5 * (made + 1.0) * self.spec.levels)
    return jnp.clip(level, 0, self.spec.levels - 1).astype(jnp.int32)

  def _noisy(self, x: Float[Array, "batch *event"], key: Key[Array, ""], step: Array) -> Float[Array, "batch *event"]:
    if not self.instance_noise:
      return x
    left = jnp.maximum(1.0 - step / self.instance_noise_steps, 0.0) if self.instance_noise_steps else 1.0
    return x + self.instance_noise * left * jax.random.normal(key, x.shape)

  def _packed(self, x: Float[Array, "batch *event"], context: Float[Array, "batch classes"] | None
              ) -> tuple[Float[Array, "packs *wider"], Float[Array, "packs more"] | None]:
    """Return examples, and their labels, that are scored together side by side along the last axis."""
    def together(values):
      packs = values.reshape(-1, self.pac, *values.shape[1:])
      return jnp.moveaxis(packs, 1, -2).reshape(packs.shape[0], *values.shape[1:-1], -1)

    if self.pac == 1:
      return x, context
    return together(x), None if context is None else together(context)

  def _generate(self, params: Params, carry: Carry, key: Key[Array, ""], num: int,
                context: Float[Array, "batch classes"] | None) -> _Pass:
    """Return made examples, as the critic sees them, normalized by their own batch."""
    out = self._pass("generator", self._generator, params, carry, self.prior_latents(params, key, num), context, True)
    return out._replace(made=self._bounded(out.made))

  def _made(self, params: Params, carry: Carry, z: Float[Array, "batch dims"],
            context: Float[Array, "batch classes"] | None) -> Float[Array, "batch *event"]:
    """Return made examples, normalized by running statistics."""
    return self._bounded(self._pass("generator", self._generator, params, carry, z, context, False).made)

  def _bounded(self, made: Float[Array, "batch *event"]) -> Float[Array, "batch *event"]:
    return made if self.spec.levels is None else jnp.tanh(made)

  def _score(self, params: Params, carry: Carry, x: Float[Array, "packs *event"],
             context: Float[Array, "packs classes"] | None) -> _Pass:
    return self._pass("critic", self.critic, params, carry, x, context, True)

  def _pass(self, name: str, network: nn.Module, params: Params, carry: Carry, x: Array, context: Array | None,
            train: bool) -> _Pass:
    before = carry.get("statistics", {}).get(name)
    if before is None:
      made: Any = network.apply({"params": params[name]}, x, context, train=train)
      return _Pass(made, None)
    made, after = network.apply({"params": params[name], "batch_stats": before}, x, context, train=train,
                                mutable=["batch_stats"])
    return _Pass(made, after["batch_stats"])

  def _with(self, carry: Carry, name: str, statistics: PyTree) -> Carry:
    """Return the carry with new statistics of a network that has any."""
    if statistics is None:
      return carry
    return {**carry, "statistics": {**carry["statistics"], name: jax.lax.stop_gradient(statistics)}}


def _distances(x: Float[Array, "n dims"], y: Float[Array, "m dims"]) -> Float[Array, "n m"]:
  """Return Euclidean distances between the rows of x and those of y."""
  squares = jnp.sum(x**2, axis=1)[:, None] + jnp.sum(y**2, axis=1) - 2.0 * jnp.matmul(x, y.T, precision="highest")
  return jnp.sqrt(jnp.maximum(squares, 0.0))
