"""Six models of two real numbers, one per way of training, to hold the contract against.

Their noise comes from the batch's own entry "u", so that a result depends on the examples alone and not on how many
devices they were split over.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from gdm.dataspec import DataSpec
from gdm.likelihood import LogLikelihood
from gdm.model import LossOutput, Mean, Objective

SHARDS = 8
PLANE = DataSpec((2,), None)


def _dense(key, rows, columns):
  return {"w": jax.random.normal(key, (rows, columns)) / rows**0.5, "b": jnp.zeros(columns)}


def _apply(p, x):
  return x @ p["w"] + p["b"]


def _log_normal(x, mean, log_scale):
  return jnp.sum(-0.5 * ((x - mean) * jnp.exp(-log_scale)) ** 2 - log_scale - 0.5 * jnp.log(2 * jnp.pi), -1)


@dataclasses.dataclass(frozen=True)
class Toy:
  spec: DataSpec = PLANE

  @property
  def objectives(self):
    return (Objective(("model",), self.loss),)


@dataclasses.dataclass(frozen=True)
class ExactToy(Toy):
  """A Gaussian with a full lower-triangular map; running mean of the data as statistics."""

  def init(self, key, batch):
    return {"model": {"mean": jnp.zeros(2), "log_scale": jnp.zeros(2), "skew": jnp.zeros(())}}, {
        "statistics": {"mean": jnp.zeros(2)}}

  def log_likelihood(self, params, carry, batch, key, num_samples=1):
    p, x = params["model"], batch["x"]
    mean = p["mean"] + jnp.stack([jnp.zeros(len(x)), p["skew"] * x[:, 0]], -1)
    return LogLikelihood.of(_log_normal(x, mean, p["log_scale"]), 2)

  def loss(self, params, carry, batch, key, step):
    nll = -self.log_likelihood(params, carry, batch, key).nats
    mean = 0.9 * carry["statistics"]["mean"] + 0.1 * jnp.mean(batch["x"], 0)
    return LossOutput(jnp.mean(nll), {"nll": Mean.of(nll)}, {"statistics": {"mean": mean}})


@dataclasses.dataclass(frozen=True)
class BoundToy(Toy):
  """A linear variational autoencoder: encoder and decoder under one bound."""

  def init(self, key, batch):
    enc, dec = jax.random.split(key)
    return {"model": {"encoder": _dense(enc, 2, 2), "decoder": _dense(dec, 1, 2)}}, {}

  def loss(self, params, carry, batch, key, step):
    p, x = params["model"], batch["x"]
    mean, log_scale = jnp.split(_apply(p["encoder"], x), 2, -1)
    z = mean + jnp.exp(log_scale) * batch["u"][:, :1]
    elbo = (_log_normal(x, _apply(p["decoder"], z), jnp.zeros(2)) + _log_normal(z, jnp.zeros(1), jnp.zeros(1))
            - _log_normal(z, mean, log_scale))
    return LossOutput(-jnp.mean(elbo), {"elbo": Mean.of(elbo)}, carry)


@dataclasses.dataclass(frozen=True)
class ChainsToy(Toy):
  """An energy with replay chains in the carry, [shards, n, 2]."""

  def init(self, key, batch):
    params = {"model": {"hidden": _dense(key, 2, 8), "out": _dense(key, 8, 1)}}
    return params, {"chains": jax.random.normal(key, (SHARDS, 2, 2))}

  def _energy(self, params, x):
    p = params["model"]
    return _apply(p["out"], jnp.tanh(_apply(p["hidden"], x)))[..., 0] + 0.5 * jnp.sum(x**2, -1)

  def loss(self, params, carry, batch, key, step):
    chains = carry["chains"]
    noise = batch["u"].reshape(chains.shape[0], -1, 2)
    gradient = jax.grad(lambda x: jnp.sum(self._energy(params, x)))(chains)
    chains = jax.lax.stop_gradient(chains - 0.1 * gradient + 0.1 * jnp.mean(noise, 1, keepdims=True))
    real, fake = self._energy(params, batch["x"]), self._energy(params, chains)
    return LossOutput(jnp.mean(real) - jnp.mean(fake), {"gap": Mean.of(real - jnp.mean(fake))}, {"chains": chains})


@dataclasses.dataclass(frozen=True)
class AdversarialToy(Toy):
  """A critic of five repeats and a generator, each its own group."""

  def init(self, key, batch):
    return {"generator": _dense(key, 2, 2), "critic": {"a": _dense(key, 2, 8), "b": _dense(key, 8, 1)}}, {}

  @property
  def objectives(self):
    return Objective(("critic",), self.critic_loss, repeats=5), Objective(("generator",), self.generator_loss)

  def _criticize(self, params, x):
    p = params["critic"]
    return _apply(p["b"], jnp.tanh(_apply(p["a"], x)))[:, 0]

  def critic_loss(self, params, carry, batch, key, step):
    fake = self._criticize(params, _apply(params["generator"], batch["u"]))
    gap = fake - self._criticize(params, batch["x"])
    return LossOutput(jnp.mean(gap), {"gap": Mean.of(gap)}, carry)

  def generator_loss(self, params, carry, batch, key, step):
    score = self._criticize(params, _apply(params["generator"], batch["u"]))
    return LossOutput(-jnp.mean(score), {"score": Mean.of(score)}, carry)


@dataclasses.dataclass(frozen=True)
class DenoisingToy(Toy):
  """A denoiser and a learned noise schedule: two groups under one loss."""

  def init(self, key, batch):
    return {"denoiser": _dense(key, 3, 2), "schedule": {"slope": jnp.ones(()), "offset": jnp.zeros(())}}, {}

  @property
  def objectives(self):
    return (Objective(("denoiser", "schedule"), self.loss),)

  def loss(self, params, carry, batch, key, step):
    x, noise = batch["x"], batch["u"]
    time = jax.nn.sigmoid(jnp.sum(noise, -1, keepdims=True))
    gamma = params["schedule"]["offset"] + jax.nn.softplus(params["schedule"]["slope"]) * time
    noisy = jnp.sqrt(jax.nn.sigmoid(-gamma)) * x + jnp.sqrt(jax.nn.sigmoid(gamma)) * noise
    error = jnp.sum((_apply(params["denoiser"], jnp.concatenate([noisy, gamma], -1)) - noise) ** 2, -1)
    return LossOutput(jnp.mean(error), {"error": Mean.of(error)}, carry)


@dataclasses.dataclass(frozen=True)
class SolvedToy(Toy):
  """A Gaussian by its sufficient statistics."""

  @property
  def objectives(self):
    return ()

  def init(self, key, batch):
    return {"model": {"mean": jnp.zeros(2), "log_scale": jnp.zeros(2)}}, {}

  def log_likelihood(self, params, carry, batch, key, num_samples=1):
    return LogLikelihood.of(_log_normal(batch["x"], params["model"]["mean"], params["model"]["log_scale"]), 2)

  def solve(self, key, batches, report=None):
    x = np.concatenate([np.asarray(batch["x"]) for batch in batches])
    return {"model": {"mean": jnp.asarray(x.mean(0)), "log_scale": jnp.asarray(np.log(x.std(0)))}}, {}


TRAINED_TOYS = [ExactToy, BoundToy, ChainsToy, AdversarialToy, DenoisingToy]


def toy_batches(model, num_steps, batch_size=16, seed=0):
  """Batches [num_steps, minibatches, batch, 2] of a skewed Gaussian, with noise "u"."""
  rng = np.random.default_rng(seed)
  shape = (num_steps, sum(o.repeats for o in model.objectives), batch_size, 2)
  x = rng.normal(size=shape).astype(np.float32)
  x[..., 1] += 0.8 * x[..., 0] + 1.0
  return {"x": x, "u": rng.normal(size=shape).astype(np.float32)}
