"""Sequences of pictures by their latents: a world model (Ha and Schmidhuber, arXiv:1803.10122), as one model.

A frame x_t is made of latents z_t by a model with an encoder, and the latents follow each other by a model of
sequences, given actions a where there are any: p(x, z | a) = prod_t p(z_t | z_<t, a_<=t) p(x_t | z_t). With
q(z | x) = prod_t q(z_t | x_t),

  log p(x | a) >= E_q sum_t [log p(x_t | z_t) + log p(z_t | z_<t, a_<=t) - log q(z_t | x_t)].

Each term of the sum bounds log p(x_t | x_<t, a_<=t) of the model that encodes the frames before by q and predicts the
next one: the score of a next frame. The paper trains the parts one after the other; here both follow the bound.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key, Num

from gdm import checks
from gdm.batches import condition_context, dims_per_step, given, nan_unless_valid, num_real, real_dims, repeated_steps
from gdm.dataspec import DataSpec
from gdm.errors import ConfigError, SpecError
from gdm.likelihood import Kind, LogLikelihood
from gdm.model import (
  Batch,
  Carry,
  Condition,
  HasBitsBack,
  HasClosedLoop,
  HasLogLikelihood,
  HasSample,
  LossOutput,
  Mean,
  Model,
  Objective,
  Params,
  Samples,
)
from gdm.submodels import carry_of, merged_carry, named_params, of_spec, params_of

FRAME, LATENTS = "frame_", "latents_"  # before the names of the parts' groups
MARK_NOISE = 0.1  # deviation of the mark of the end about 1 or -1


class _Bound(NamedTuple):
  """One draw of the bound for each example, in nats: log p(x | z), and log q(z | x) - log p(z)."""

  reconstruction: Float[Array, " batch"]
  rate: Float[Array, " batch"]


def _frame_spec(fields: Any, spec: DataSpec) -> DataSpec:
  """Return the data of one frame."""
  return DataSpec(spec.event[1:], spec.levels)


def _latents_spec(fields: Any, spec: DataSpec) -> DataSpec:
  """Return the data of a sequence of latents; the registry makes `frame` before it."""
  dims = _latent_dims(fields["frame"]) + (spec.num_classes is not None)
  return DataSpec((spec.event[0], dims), None, has_lengths=spec.has_lengths, context_dims=spec.context_dims)


def _latent_dims(frame: Any) -> int:
  """Return the latent dimensions of a frame. Raise ConfigError where its model has not one layer of Gaussian ones."""
  if not isinstance(frame, HasBitsBack):
    raise ConfigError(f"model.frame is {None if frame is None else type(frame).__name__}; it must be a model of "
                      "discrete frames with an encoder to Gaussian latents, such as vae.")
  if len(layers := frame.latent_layers()) != 1:
    raise ConfigError(f"model.frame is {type(frame).__name__} with {len(layers)} layers of latents; it must have one.")
  return layers[0]


@dataclasses.dataclass(frozen=True)
class LatentFrames:
  """A model of frames by latents, and a model of how latents follow each other.

  Data: "x" [batch, steps, *frame] of integers; with "length" [batch] the first `length` frames are real. The context,
  where there is one, is the actions', see the model of latents. Labels "y" [batch], where the data have them, are 1
  where an episode ended with its last frame, else 0: then the latents of each step have a mark behind them, 1, or -1 at
  the end, with normal noise, and the bound is of the frames and the marks together.

  Parameters: groups of the model of frames with "frame_" before their names, of the model of latents with "latents_".

  Attributes:
    spec: the data.
    frame: model of one frame, with an encoder to one layer of Gaussian latents: protocol `HasBitsBack`. Its own prior
      is not used.
    latents: model of sequences of latents [steps, dims], real numbers, given the same context.

  Raises:
    ConfigError: a part is missing, or cannot be one.
    SpecError: the data are no sequences of integers, or have labels of more than two values.

  Example:
    spec = DataSpec((64, 16, 40, 1), 8, num_classes=2, has_lengths=True, context_dims=128)
    model = build_model({"name": "latent_frames", "frame": {"name": "vae", "latent_dims": 8},
                         "latents": {"name": "recurrent_frames", "frame": {"name": "rnade"}}}, spec)
  """

  spec: DataSpec
  frame: Any = of_spec(_frame_spec, default=None)
  latents: Any = of_spec(_latents_spec, default=None)

  def __post_init__(self) -> None:
    self.spec.require_discrete("latent_frames")
    if len(self.spec.event) < 2:
      raise SpecError(f"latent_frames needs examples [steps, *frame], but spec.event is {self.spec.event}; choose a "
                      "model of vectors.")
    if self.spec.num_classes not in (None, 2):
      raise SpecError(f"spec.num_classes is {self.spec.num_classes}; labels of latent_frames say whether an episode "
                      "ended, so that it must be 2, or None.")
    expected = _latents_spec({"frame": self.frame}, self.spec)
    if self.latents is None or not (isinstance(self.latents, HasLogLikelihood) and isinstance(self.latents, HasSample)):
      raise ConfigError(f"model.latents is {None if self.latents is None else type(self.latents).__name__}; it must be "
                        "a model of sequences of real numbers that scores and samples, such as recurrent_frames.")
    found: Any = self.latents
    if found.spec != expected:
      raise ConfigError(f"model.latents is of {found.spec}; it must be of {expected}.")

  @property
  def num_steps(self) -> int:
    """Frames of an example, padding included."""
    return self.spec.event[0]

  @property
  def latent_dims(self) -> int:
    """Latent dimensions of a frame, without the mark."""
    return _latent_dims(self.frame)

  @property
  def marks_ends(self) -> bool:
    """Whether the end of an episode is modelled, as where the data have labels."""
    return self.spec.num_classes is not None

  @property
  def context_conditional(self) -> bool:
    """Whether something is given at each step, as where the data have a context."""
    return self.spec.context_dims > 0

  @property
  def components(self) -> tuple[Model, ...]:
    """The model whose options `sample` takes."""
    return (self.latents,)

  @property
  def objectives(self) -> tuple[Objective, ...]:
    groups = [prefix + group for prefix, part in ((FRAME, self.frame), (LATENTS, self.latents))
              for objective in part.objectives for group in objective.groups]
    return (Objective(groups=tuple(groups), loss=self.loss, unit="nats per frame"),)

  def init(self, key: Key[Array, ""], batch: Batch) -> tuple[Params, Carry]:
    """Return parameters; those of the model of latents begin as for standard normal latents."""
    frame_key, latents_key, noise_key = jax.random.split(key, 3)
    _, x = self._real(batch)
    own, own_carry = self.frame.init(frame_key, {"x": self._frames(repeated_steps(x, batch))})
    z = jax.random.normal(noise_key, (*x.shape[:2], self.latent_dims))
    z = self._marked(batch, z, noise_key)[0]
    more, more_carry = self.latents.init(latents_key, self._sequence(batch, z))
    carry = merged_carry(merged_carry({}, "frame", own_carry), "latents", more_carry)
    return {**named_params(own, FRAME), **named_params(more, LATENTS)}, carry

  def loss(self, params: Params, carry: Carry, batch: Batch, key: Key[Array, ""], step: Array) -> LossOutput:
    """Return minus the bound in nats, a mean over the constant number of steps, so that each real frame weighs the same
    in every batch; metrics are "nll" in nats per example, and the others per real frame or dimension."""
    real, _ = self._real(batch)
    bound = self._bound(params, carry, batch, key)
    nll = bound.rate - bound.reconstruction
    count = jnp.sum(real, dtype=nll.dtype)
    metrics = {"nll": Mean.of(nll), "nats_per_frame": Mean(jnp.sum(nll), count),
               "rate_per_frame": Mean(jnp.sum(bound.rate), count),
               "bits_per_dim": Mean(jnp.sum(nll) / math.log(2.0), count * dims_per_step(self.spec))}
    return LossOutput(jnp.mean(nll) / self.num_steps, metrics, carry)

  def log_likelihood(self, params: Params, carry: Carry, batch: Batch, key: Key[Array, ""],
                     num_samples: int = 1) -> LogLikelihood:
    """Return a lower bound of the log-likelihood of the real frames, and their marks, by `num_samples` weights.

    Details: the parts of the bound of one draw, a mean over the draws. It is an estimate where the model of latents
    gives one.
    """
    checks.at_least("num_samples", num_samples, 1)
    draws = jax.lax.map(lambda index: self._bound(params, carry, batch, jax.random.fold_in(key, index)),
                        jnp.arange(num_samples))
    nats = jax.nn.logsumexp(draws.reconstruction - draws.rate, axis=0) - math.log(num_samples)
    kind, unbiased = self._kind(params, carry, batch, key)
    nats = nan_unless_valid(self.spec, batch, nats, ("y",) if self.marks_ends else ())
    details = {"reconstruction": jnp.mean(draws.reconstruction, axis=0), "rate": jnp.mean(draws.rate, axis=0)}
    return LogLikelihood(nats, num_real(self.spec, batch), Kind.LOWER_BOUND + kind, given=given(self), details=details,
                         unbiased=unbiased)

  def sample(self, params: Params, carry: Carry, key: Key[Array, ""], num: int, condition: Condition | None = None,
             **options: Any) -> Samples:
    """Draw x [num, steps, *frame], all of full length; options are those of the model of latents."""
    latents_key, frame_key = jax.random.split(key)
    given_all = condition_context(self, condition, num)
    drawn = self.latents.sample(params_of(params, LATENTS), carry_of(carry, "latents"), latents_key, num,
                                given_all, **options)
    z = drawn.x[..., :self.latent_dims]
    return Samples(self._drawn_frames(params, carry, z, frame_key).reshape(num, *self.spec.event), drawn.info)

  def encode(self, params: Params, carry: Carry, batch: Batch, key: Key[Array, ""]) -> Float[Array, "batch steps dims"]:
    """Return the mean of the latents of each frame; there may be any number of steps."""
    x = jnp.asarray(batch["x"])
    mean, _ = self._moments(params, carry, self._frames(x))
    return mean.reshape(*x.shape[:2], -1)

  def decode(self, params: Params, carry: Carry, latent: Float[Array, "batch steps dims"], key: Key[Array, ""],
             **options: Any) -> Float[Array, "batch steps *frame"]:
    """Return the mean of each frame given its latents, behind which there may be a mark, in the data's values."""
    frames = self._level_means(params, carry, latent[..., :self.latent_dims])
    return frames.reshape(*latent.shape[:2], *self.spec.event[1:])

  def closed_loop(self, params: Params, carry: Carry, key: Key[Array, ""], num: int,
                  act: Callable[[Array, Array], Array], num_steps: int = 0, memory: int = 1,
                  **options: Any) -> tuple[Array, Array]:
    """Draw latents, and a mark behind them, given actions that follow from those before; see `HasClosedLoop`."""
    if not isinstance(self.latents, HasClosedLoop):
      raise SpecError(f"model.latents is {type(self.latents).__name__}, which cannot be lived in; choose "
                      "recurrent_frames.")
    return self.latents.closed_loop(params_of(params, LATENTS), carry_of(carry, "latents"), key, num, act, num_steps,
                                    memory, **options)

  # The bound.

  def _bound(self, params: Params, carry: Carry, batch: Batch, key: Key[Array, ""]) -> _Bound:
    """Return one draw of the bound of every example."""
    noise_key, mark_key, score_key = jax.random.split(key, 3)
    real, x = self._real(batch)
    frames = self._frames(x)
    # 1. Latents of each frame by the encoder, and log q.
    mean, deviation = self._moments(params, carry, frames)
    noise = jax.random.normal(noise_key, mean.shape, mean.dtype)
    z = mean + deviation * noise
    log_q = _normal(noise) - jnp.sum(jnp.log(deviation), axis=1)
    # 2. The frames given them.
    log_x = self._frame_log_probs(params, carry, z, frames)
    # 3. The sequence of latents, and of marks.
    marked, log_q_marks = self._marked(batch, z.reshape(*x.shape[:2], -1), mark_key)
    log_z = self.latents.log_likelihood(params_of(params, LATENTS), carry_of(carry, "latents"),
                                        self._sequence(batch, marked), score_key).nats

    def total(values: Float[Array, "batch steps"]) -> Float[Array, " batch"]:
      return jnp.sum(jnp.where(real, values, 0.0), axis=1)

    log_q = log_q.reshape(real.shape) + log_q_marks
    return _Bound(total(log_x.reshape(real.shape)), total(log_q) - log_z)

  def _kind(self, params: Params, carry: Carry, batch: Batch, key: Key[Array, ""]) -> tuple[Kind, bool]:
    """Return the kind of the latents' log-likelihood, and whether weights by it are unbiased."""
    found: list[LogLikelihood] = []

    def score() -> tuple[()]:
      z = jnp.zeros((*jnp.asarray(batch["x"]).shape[:2], self.latents.spec.event[1]))
      found.append(self.latents.log_likelihood(params_of(params, LATENTS), carry_of(carry, "latents"),
                                               self._sequence(batch, z), key))
      return ()

    jax.eval_shape(score)
    return found[0].kind, found[0].is_mixable

  def _moments(self, params: Params, carry: Carry, frames: Int[Array, "frames *frame"]
               ) -> tuple[Float[Array, "frames dims"], Float[Array, "frames dims"]]:
    return self.frame.posterior_moments(params_of(params, FRAME), carry_of(carry, "frame"), frames, ())

  def _frame_log_probs(self, params: Params, carry: Carry, z: Float[Array, "frames dims"],
                       frames: Int[Array, "frames *frame"]) -> Float[Array, " frames"]:
    """Return log p(x_t | z_t) of each frame, in nats."""
    total = jnp.zeros(frames.shape[0])
    for channel in range(self._channels):
      log_probs = self._level_log_probs(params, carry, z, frames, channel)
      values = (frames[..., channel] if self._is_image else frames)[..., None]
      chosen = jnp.take_along_axis(log_probs, values.astype(jnp.int32), axis=-1)
      total = total + jnp.sum(chosen.reshape(chosen.shape[0], -1), axis=1)
    return total

  def _drawn_frames(self, params: Params, carry: Carry, z: Float[Array, "num steps dims"],
                    key: Key[Array, ""]) -> Int[Array, "frames *frame"]:
    """Draw frames given latents, channel by channel."""
    flat = z.reshape(-1, z.shape[-1])
    frames = jnp.zeros((flat.shape[0], *self.spec.event[1:]), jnp.int32)
    for channel in range(self._channels):
      log_probs = self._level_log_probs(params, carry, flat, frames, channel)
      drawn = jax.random.categorical(jax.random.fold_in(key, channel), log_probs).astype(jnp.int32)
      frames = frames.at[..., channel].set(drawn) if self._is_image else drawn
    return frames

  def _level_means(self, params: Params, carry: Carry, z: Float[Array, "num steps dims"]
                   ) -> Float[Array, "frames *frame"]:
    """Return means of frames given latents; a channel's by the means of those before it, rounded."""
    flat = z.reshape(-1, z.shape[-1])
    means = jnp.zeros((flat.shape[0], *self.spec.event[1:]))
    for channel in range(self._channels):
      probs = jnp.exp(self._level_log_probs(params, carry, flat, jnp.rint(means).astype(jnp.int32), channel))
      mean = probs @ jnp.arange(probs.shape[-1], dtype=probs.dtype)
      means = means.at[..., channel].set(mean) if self._is_image else mean
    return means

  def _level_log_probs(self, params: Params, carry: Carry, z: Float[Array, "frames dims"],
                       frames: Int[Array, "frames *frame"], channel: int) -> Float[Array, "frames *places levels"]:
    return self.frame.level_log_probs(params_of(params, FRAME), carry_of(carry, "frame"), (z,), frames, channel)

  @property
  def _is_image(self) -> bool:
    return self.frame.spec.is_image

  @property
  def _channels(self) -> int:
    return self.spec.event[-1] if self._is_image else 1

  def _marked(self, batch: Batch, z: Float[Array, "batch steps dims"], key: Key[Array, ""]
              ) -> tuple[Float[Array, "batch steps _"], Float[Array, "batch steps"]]:
    """Return latents with a mark behind them, where ends are marked, and the log-density of the noise on it."""
    if not self.marks_ends:
      return z, jnp.zeros(z.shape[:2])
    checks.has_labels(batch, self, "models whether an episode ended")
    num = jnp.asarray(batch["length"]) if "length" in batch else jnp.full(z.shape[0], self.num_steps)
    is_end = (jnp.arange(self.num_steps) == num[:, None] - 1) & (jnp.asarray(batch["y"]).reshape(-1, 1) > 0)
    noise = jax.random.normal(key, z.shape[:2])
    mark = jnp.where(is_end, -1.0, 1.0) + MARK_NOISE * noise
    log_q = -0.5 * jnp.square(noise) - math.log(MARK_NOISE) - 0.5 * math.log(2.0 * math.pi)
    return jnp.concatenate([z, mark[..., None]], axis=-1), log_q

  def _sequence(self, batch: Batch, z: Float[Array, "batch steps _"]) -> dict[str, Any]:
    """Return the batch that the model of latents is given."""
    return {"x": z, **{name: batch[name] for name in ("length", "context") if name in batch}}

  def _real(self, batch: Batch) -> tuple[Bool[Array, "batch steps"], Num[Array, "batch steps *frame"]]:
    """Return which frames are no padding, and the frames; padding may be anything, and becomes 0."""
    real = real_dims(self.spec, batch).reshape(-1, self.num_steps, dims_per_step(self.spec))[:, :, 0]
    x = jnp.asarray(batch["x"]).astype(jnp.int32)
    return real, jnp.where(real.reshape(*real.shape, *(1,) * (x.ndim - 2)), x, 0)

  def _frames(self, x: Num[Array, "batch steps *frame"]) -> Int[Array, "frames *frame"]:
    return x.astype(jnp.int32).reshape(-1, *self.spec.event[1:])


def _normal(noise: Float[Array, "batch dims"]) -> Float[Array, " batch"]:
  """Return the log-density of standard normal noise, in nats."""
  return -0.5 * jnp.sum(jnp.square(noise), axis=1) - 0.5 * noise.shape[1] * math.log(2.0 * math.pi)
