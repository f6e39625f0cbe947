"""Autoencoders, and denoising ones (Vincent et al., 2008): codes of examples, and examples of codes; no densities."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key, Num

from gdm import checks
from gdm.batches import nan_unless_valid
from gdm.dataspec import DataSpec
from gdm.errors import ConfigError, SpecError
from gdm.latent.networks.perceptrons import PerceptronDecoder, PerceptronEncoder
from gdm.latent.outputs import BernoulliOutput, GaussianOutput, Output, places_of
from gdm.model import Batch, Carry, LossOutput, Mean, Objective, Params, PyTree, Samples

ERRORS = ("cross_entropy", "squared_error")


@dataclasses.dataclass(frozen=True)
class Autoencoder:
  """An encoder x -> z and a decoder z -> x, trained by the error of what comes back.

  With `noise` or `drop` the encoder is given corrupted examples, and the error is that of the clean ones.

  Attributes:
    spec: the data.
    latent_dims: dimensions of z.
    encoder: a network of x.
    decoder: a network of numbers at each place of x, by z.
    error: of an example, summed over its dimensions: cross_entropy, in nats, of binary data; or squared_error, of
      integers in units of their range. "" is cross_entropy for binary data, squared_error for all other.
    noise: deviation of Gaussian noise added to inputs, in the data's units.
    drop: share of inputs that are replaced by 0, which for integers is the middle of their range.

  Example:
    model = Autoencoder(DataSpec((784,), 2), latent_dims=2, drop=0.3)
    params, carry = model.init(key, {"x": x})
    z = model.encode(params, carry, {"x": x}, key)
  """

  spec: DataSpec
  latent_dims: int = 10
  encoder: nn.Module = PerceptronEncoder()
  decoder: nn.Module = PerceptronDecoder()
  error: str = ""
  noise: float = 0.0
  drop: float = 0.0

  def __post_init__(self) -> None:
    self.spec.require_whole("Autoencoder")
    checks.at_least("latent_dims", self.latent_dims, 1)
    checks.one_of("error", self._error, ERRORS)
    if self._error == "cross_entropy":
      self.spec.require_binary("an autoencoder with error=cross_entropy")
    checks.at_least("noise", self.noise, 0)
    checks.rate("drop", self.drop)

  @property
  def objectives(self) -> tuple[Objective, ...]:
    return (Objective(groups=("encoder", "decoder"), loss=self.loss, unit="nats" if self._is_binary else ""),)

  @property
  def criterion(self) -> str:
    return "error"

  def init(self, key: Key[Array, ""], batch: Batch) -> tuple[Params, Carry]:
    """Return parameters; the decoder's bias is the mean of the batch."""
    encoder_key, decoder_key = jax.random.split(key)
    x = jnp.asarray(batch["x"])
    inputs = self._inputs(x)
    encoder = self._encoder.init(encoder_key, inputs)["params"]
    z: Any = self._encoder.apply({"params": encoder}, inputs)
    _check_shape("encoder", z, (x.shape[0], self.latent_dims))
    bias = self._output.init(self.spec, x if self._is_binary else inputs)["bias"]
    decoder = {"network": self._decoder.init(decoder_key, z)["params"], "bias": bias}
    places, channels = places_of(self.spec)
    made: Any = jax.eval_shape(lambda: self._decoder.apply({"params": decoder["network"]}, z))
    _check_shape("decoder", made, (x.shape[0], *places, channels))
    return {"encoder": {"network": encoder}, "decoder": decoder}, {}

  def loss(self, params: Params, carry: Carry, batch: Batch, key: Key[Array, ""], step: Array) -> LossOutput:
    """Return the mean error of a batch, whose inputs are corrupted."""
    corrupt_key, network_key = jax.random.split(key)
    z = self._encode(params, self._corrupted(self._inputs(batch["x"]), corrupt_key), network_key)
    errors = self._errors(params, z, batch["x"], jax.random.fold_in(network_key, 1))
    return LossOutput(jnp.mean(errors), {"error": Mean.of(errors)}, carry)

  def validate(self, params: Params, carry: Carry, batch: Batch, key: Key[Array, ""]
               ) -> Mapping[str, Float[Array, " batch"]]:
    """Return the error of each example as trained, and where inputs are corrupted, also that of clean ones."""
    if not (self.noise or self.drop):
      return {"error": self.anomaly_score(params, carry, batch, key)}
    z = self._encode(params, self._corrupted(self._inputs(batch["x"]), key), None)
    return {"error": self._errors(params, z, batch["x"], None),
            "clean_error": self.anomaly_score(params, carry, batch, key)}

  def anomaly_score(self, params: Params, carry: Carry, batch: Batch, key: Key[Array, ""]) -> Float[Array, " batch"]:
    """Return the error of each example when nothing is corrupted; NaN for examples that the spec does not allow."""
    errors = self._errors(params, self.encode(params, carry, batch, key), batch["x"], None)
    return nan_unless_valid(self.spec, batch, errors)

  def encode(self, params: Params, carry: Carry, batch: Batch, key: Key[Array, ""]) -> Float[Array, "batch dims"]:
    """Return z of each example."""
    return self._encode(params, self._inputs(batch["x"]), None)

  def decode(self, params: Params, carry: Carry, latent: PyTree, key: Key[Array, ""],
             condition: Array | None = None) -> Float[Array, "batch *event"]:
    """Return x of each latent [batch, latent_dims], in the data's values; of binary data, probabilities of 1,
    of other integers clipped to their range."""
    checks.unconditional(self, condition)
    if latent.ndim != 2 or latent.shape[1] != self.latent_dims:
      raise SpecError(f"latent has shape {latent.shape}; it must be (batch, {self.latent_dims}).")
    made = self._decode(params, latent, None)
    if self._is_binary:
      return jax.nn.sigmoid(made)
    if self.spec.levels is None:
      return made
    return jnp.clip(0.5 * (self.spec.levels - 1) * (made + 1.0), 0.0, self.spec.levels - 1.0)

  def denoise(self, params: Params, carry: Carry, key: Key[Array, ""], x: Num[Array, "batch *event"],
              deviation: int | float) -> Samples:
    """Return what comes back of x, clean plus noise of `deviation`; the network knows only the noise that it was
    trained with, whatever `deviation` is."""
    return Samples(self.decode(params, carry, self._encode(params, self._inputs(x), None), key), {})

  @property
  def _error(self) -> str:
    return self.error or ("cross_entropy" if self.spec.levels == 2 else "squared_error")

  @property
  def _is_binary(self) -> bool:
    return self._error == "cross_entropy"

  @property
  def _output(self) -> Output:
    return BernoulliOutput() if self._is_binary else GaussianOutput()

  @property
  def _encoder(self) -> nn.Module:
    return self.encoder.clone(outputs=self.latent_dims)

  @property
  def _decoder(self) -> nn.Module:
    places, channels = places_of(self.spec)
    return self.decoder.clone(places=places, outputs=channels)

  def _inputs(self, x: Num[Array | np.ndarray, "batch *event"]) -> Float[Array, "batch *event"]:
    """Return integers as points of [-1, 1]; real numbers as they are."""
    x = jnp.asarray(x)
    return x if self.spec.levels is None else 2.0 * x.astype(jnp.float32) / (self.spec.levels - 1) - 1.0

  def _corrupted(self, inputs: Float[Array, "batch *event"], key: Key[Array, ""]) -> Float[Array, "batch *event"]:
    noise_key, drop_key = jax.random.split(key)
    if self.noise:
      unit = 1.0 if self.spec.levels is None else 2.0 / (self.spec.levels - 1)
      inputs = inputs + self.noise * unit * jax.random.normal(noise_key, inputs.shape, inputs.dtype)
    if self.drop:
      inputs = jnp.where(jax.random.bernoulli(drop_key, self.drop, inputs.shape), 0.0, inputs)
    return inputs

  def _errors(self, params: Params, z: Float[Array, "batch dims"], x: Num[Array | np.ndarray, "batch *event"],
              key: Key[Array, ""] | None) -> Float[Array, " batch"]:
    made = self._decode(params, z, key)
    if self._is_binary:
      each = jax.nn.softplus(jnp.where(jnp.asarray(x) > 0, -made, made))
    else:
      # Integers lie in [-1, 1] here, a range of 2.
      each = jnp.square(self._inputs(x) - made) * (1.0 if self.spec.levels is None else 0.25)
    return jnp.sum(each.reshape(each.shape[0], -1), axis=1)

  def _encode(self, params: Params, inputs: Float[Array, "batch *event"],
              key: Key[Array, ""] | None) -> Float[Array, "batch dims"]:
    made: Any = self._encoder.apply({"params": params["encoder"]["network"]}, inputs, rngs=_rngs(key))
    return made

  def _decode(self, params: Params, z: Float[Array, "batch dims"],
              key: Key[Array, ""] | None) -> Float[Array, "batch *event"]:
    own = params["decoder"]
    made: Any = self._decoder.apply({"params": own["network"]}, z, rngs=_rngs(key))
    return made.reshape(-1, *self.spec.event) + own["bias"]


def _rngs(key: Key[Array, ""] | None) -> dict[str, Key[Array, ""]]:
  return {} if key is None else {"dropout": key}


def _check_shape(name: str, made: Any, shape: tuple[int, ...]) -> None:
  if made.shape != shape:
    raise ConfigError(f"model.{name} made an array of shape {made.shape}; it must be {shape}.")
