"""The vector-quantized autoencoder (van den Oord, Vinyals and Kavukcuoglu, arXiv:1711.00937), and a prior of its codes.

An encoder makes a small image of vectors, each of which is rounded to the nearest one of a codebook; a decoder makes
the image from these. The codes are discrete data, of which any model is a prior. With k = k(x) the codes of x,
log p(x | k) + log p(k) is a lower bound of log p(x), since that is one term of the sum over all codes.
"""

import dataclasses
import math
from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key, Num

from gdm import checks
from gdm.batches import checked, given
from gdm.dataspec import DataSpec
from gdm.errors import ConfigError, SpecError
from gdm.latent import codebook as codebooks
from gdm.latent.networks.codes import GridDecoder, GridEncoder
from gdm.latent.outputs import DiscreteOutput, Output, output_for, places_of
from gdm.likelihood import Kind, LogLikelihood
from gdm.model import (
  Batch,
  Carry,
  Condition,
  HasLogLikelihood,
  HasPrefixCondition,
  HasSample,
  LossOutput,
  Mean,
  Model,
  Objective,
  Params,
  PyTree,
  Samples,
)
from gdm.submodels import carry_of, merged_carry, named_params, of_spec, params_of

OF_PRIOR = "prior_"  # before the names of the prior's groups
USED = 0.01  # share of its even use above which a code counts as used, where codes cannot be dead below it
PRIOR, CODEBOOK, STATISTICS = "prior", "codebook", "statistics"  # entries of the carry


def codes_spec(encoder: Any, num_codes: int, spec: DataSpec) -> DataSpec:
  """Return the spec of the codes of such data: images of one channel. Raise SpecError where the data are no images."""
  checks.at_least("num_codes", num_codes, 2)
  if not spec.is_image:
    raise SpecError(f"codes at places need images of (height, width, channels), but events have shape {spec.event}; "
                    "choose another model, such as vae.")
  return DataSpec((*encoder.grid(spec.event), 1), num_codes, prefix_steps=spec.prefix_steps,
                  prefix_levels=spec.prefix_levels)


@dataclasses.dataclass(frozen=True)
class VQVAE:
  """An autoencoder with discrete codes; its prior is trained beside it, on the codes of the current encoder.

  The prior's parameter group "g" is "prior_g" here; its objectives come last, each on a minibatch of its own, and move
  nothing of the autoencoder. Where the data have a prefix and the prior is conditional on it, so is the whole: a model
  of images given captions.

  Attributes:
    spec: the data, images.
    num_codes: vectors in the codebook.
    code_dims: dimensions of each.
    encoder: a network of vectors at the places of a small image.
    decoder: a network of numbers at each pixel, by vectors at these places.
    output: p(x | codes); by default as the data is, see `VAE`.
    commitment: weight of the squared distance of encoder outputs from their vectors (equation 3).
    decay: of the codebook's running averages, from step to step.
    dead: share of its even use below which a code is dead, and put onto an encoder output; 0 leaves it where it is.
    prior: a model of the codes, as integers [rows, columns, 1] below `num_codes`; None is a uniform one.

  Example:
    model = VQVAE(DataSpec((28, 28, 1), 2), num_codes=64)
    params, carry = model.init(key, {"x": x})
    codes = model.encode(params, carry, {"x": x}, key)
  """

  spec: DataSpec
  num_codes: int = 128
  code_dims: int = 16
  encoder: nn.Module = GridEncoder()
  decoder: nn.Module = GridDecoder()
  output: Output | None = None
  commitment: float = 0.25
  decay: float = 0.99
  dead: float = 0.03
  prior: Model | None = of_spec(lambda fields, spec: codes_spec(fields["encoder"], fields["num_codes"], spec), None)

  def __post_init__(self) -> None:
    self.spec.require_whole(type(self).__name__)
    for name, least in (("num_codes", 2), ("code_dims", 1), ("commitment", 0), ("dead", 0)):
      checks.at_least(name, getattr(self, name), least)
    checks.rate("decay", self.decay)
    if not isinstance(self.encoder, GridEncoder) or not isinstance(self.decoder, GridDecoder):
      raise ConfigError(f"model.encoder is {type(self.encoder).__name__} and model.decoder "
                        f"{type(self.decoder).__name__}; a VQ-VAE needs encoder.name=grid and decoder.name=grid, which "
                        "keep places apart.")
    if len(self.encoder.widths) != len(self.decoder.widths):
      raise ConfigError(f"encoder.widths has {len(self.encoder.widths)} entries, decoder.widths "
                        f"{len(self.decoder.widths)}; they must have as many, so that sizes agree.")
    output_for(self.output, self.spec)
    codes = self.codes_spec
    if self.prior is not None:
      self._check_prior(codes)

  @property
  def codes_spec(self) -> DataSpec:
    """Return the spec of the codes."""
    return codes_spec(self.encoder, self.num_codes, self.spec)

  @property
  def output_distribution(self) -> Output:
    return output_for(self.output, self.spec)

  @property
  def prefix_conditional(self) -> bool:
    """Whether the likelihood is conditional on a prefix, as that of the prior's codes is."""
    return "prefix" in given(self.prior)

  @property
  def prefix_optional(self) -> bool:
    return isinstance(self.prior, HasPrefixCondition) and self.prior.prefix_optional

  @property
  def objectives(self) -> tuple[Objective, ...]:
    own = Objective(groups=("encoder", "decoder"), loss=self.loss, unit="nats")
    return (own, *(self._of_prior(each) for each in (self.prior.objectives if self.prior else ())))

  def init(self, key: Key[Array, ""], batch: Batch) -> tuple[Params, Carry]:
    """Return parameters, and a codebook of encoder outputs of the batch. Raise ConfigError where it makes too few."""
    encoder_key, decoder_key, code_key, prior_key = jax.random.split(key, 4)
    x = jnp.asarray(batch["x"])
    inputs, output = self._inputs(x), self.output_distribution
    params: dict[str, PyTree] = {"encoder": self._encoder.init(encoder_key, inputs)["params"]}
    made = self._outputs(params, x)
    codebook = codebooks.init(code_key, made.reshape(-1, self.code_dims), self.num_codes)
    rounded = codebooks.nearest(codebook, made)
    params["decoder"] = {"network": self._decoder.init(decoder_key, rounded.vectors)["params"],
                         "output": output.init(self.spec, x)}
    carry: Carry = {STATISTICS: {CODEBOOK: codebook}}
    if self.prior is None:
      return params, carry
    own, own_carry = self.prior.init(prior_key, {**batch, "x": rounded.codes[..., None]})
    if others := sorted(set(own_carry) - {STATISTICS}):
      raise ConfigError(f"model.prior is {type(self.prior).__name__}, which carries {', '.join(others)} from step to "
                        f"step; a prior may carry {STATISTICS} only.")
    return {**params, **named_params(own, OF_PRIOR)}, merged_carry(carry, PRIOR, own_carry)

  def loss(self, params: Params, carry: Carry, batch: Batch, key: Key[Array, ""], step: Array) -> LossOutput:
    """Return minus log p(x | codes), in nats per example, plus the weighed commitment (equation 3)."""
    x, codebook = jnp.asarray(batch["x"]), carry[STATISTICS][CODEBOOK]
    made = self._outputs(params, x)
    rounded = codebooks.nearest(codebook, made)
    vectors = jax.lax.stop_gradient(rounded.vectors)
    reconstruction = self._log_prob(params, codebooks.straight_through(made, vectors), x)
    distance = jnp.sum(jnp.square(made - vectors), axis=(1, 2, 3))
    flat = jax.lax.stop_gradient(made).reshape(-1, self.code_dims)
    after = codebooks.updated(codebook, flat, rounded.codes.reshape(-1), self.decay, self.dead, key)
    metrics = {"reconstruction": Mean.of(reconstruction), "distance": Mean.of(distance),
               "perplexity": Mean.of(codebooks.perplexity(rounded.codes, self.num_codes)),
               "codes_used": Mean.of((codebook["counts"] >= max(self.dead, USED)).astype(jnp.float32))}
    return LossOutput(self.commitment * jnp.mean(distance) - jnp.mean(reconstruction), metrics,
                      merged_carry(carry, CODEBOOK, {STATISTICS: after}))

  def log_likelihood(self, params: Params, carry: Carry, batch: Batch, key: Key[Array, ""],
                     num_samples: int = 1) -> LogLikelihood:
    """Return log p(x | k) + log p(k), k the codes of x: a lower bound of log p(x) without any draw of its own; details:
    its parts. `num_samples` is for the prior, where that is a bound."""
    x = jnp.asarray(batch["x"])
    rounded = self._rounded(params, carry, x)
    reconstruction = self._log_prob(params, rounded.vectors, x)
    kind, unbiased = Kind.EXACT, True
    code_nats = jnp.full(x.shape[0], -math.prod(rounded.codes.shape[1:]) * math.log(self.num_codes))
    if self.prior is not None:
      scored = cast(HasLogLikelihood, self.prior).log_likelihood(
          params_of(params, OF_PRIOR), carry_of(carry, PRIOR), {**batch, "x": rounded.codes[..., None]}, key,
          num_samples)
      code_nats, kind, unbiased = scored.nats, scored.kind, scored.is_mixable
    return checked(self.spec, batch, LogLikelihood.of(
        reconstruction + code_nats, self.spec.num_dims, kind + Kind.LOWER_BOUND, given(self),
        {"reconstruction": reconstruction, "codes": code_nats}, unbiased))

  def sample(self, params: Params, carry: Carry, key: Key[Array, ""], num: int, condition: Condition | None = None,
             temperature: float = 1.0) -> Samples:
    """Draw codes from the prior and x [num, *event] given them; `temperature` is of the output alone. The condition is
    the prior's.

    Returns:
      The samples; the codes [num, rows, columns, 1] are in their `info`.

    Raise ConfigError for a negative temperature.
    """
    checks.temperature(temperature, zero=True)
    if not self.prefix_conditional:
      checks.unconditional(self, condition)
    prior_key, output_key = jax.random.split(key)
    if self.prior is None:
      codes = jax.random.randint(prior_key, (num, *self.codes_spec.event), 0, self.num_codes)
    else:
      codes = cast(HasSample, self.prior).sample(
          params_of(params, OF_PRIOR), carry_of(carry, PRIOR), prior_key, num, condition).x
    x = self.output_distribution.sample(self.spec, params["decoder"]["output"], self._numbers(params, carry, codes),
                                        output_key, temperature)
    return Samples(x, {"codes": codes})

  def encode(self, params: Params, carry: Carry, batch: Batch,
             key: Key[Array, ""]) -> Int[Array, "batch rows columns 1"]:
    """Return the codes of each example."""
    return self._rounded(params, carry, jnp.asarray(batch["x"])).codes[..., None]

  def decode(self, params: Params, carry: Carry, latent: PyTree, key: Key[Array, ""]) -> Float[Array, "batch *event"]:
    """Return the mean of x given codes [batch, rows, columns, 1], in the data's values."""
    codes, event = jnp.asarray(latent), self.codes_spec.event
    if codes.shape[1:] != event:
      raise SpecError(f"latent has shape {codes.shape}; it must be (batch, {', '.join(map(str, event))}).")
    if not jnp.issubdtype(codes.dtype, jnp.integer):
      raise SpecError(f"latent has type {codes.dtype}; codes are integers below {self.num_codes}.")
    return self.output_distribution.mean(self.spec, params["decoder"]["output"], self._numbers(params, carry, codes))

  # Coding.

  def code_model(self) -> Model:
    """Return the model of the codes. Raise ConfigError where there is none, or x given them cannot be coded."""
    if self.prior is None:
      raise ConfigError("model.prior is None: there is no model to code the codes by; set model.prior.name, "
                        "gated_pixelcnn say.")
    if not isinstance(self.output_distribution, DiscreteOutput):
      raise ConfigError(f"model.output is {type(self.output_distribution).__name__}; coding needs discrete data.")
    return self.prior

  def of_code_model(self, params: Params, carry: Carry) -> tuple[Params, Carry]:
    """Return parameters and carry of the model of the codes."""
    return params_of(params, OF_PRIOR), carry_of(carry, PRIOR)

  def level_log_probs(self, params: Params, carry: Carry, codes: Int[Array, "batch rows columns 1"],
                      x: Int[Array, "batch *event"], channel: int) -> Float[Array, "batch *places levels"]:
    """Return log-probabilities of every level of one channel of all pixels; see `DiscreteOutput`."""
    output = self.output_distribution
    assert isinstance(output, DiscreteOutput)
    return output.level_log_probs(self.spec, params["decoder"]["output"], self._numbers(params, carry, codes), x,
                                  channel)

  @property
  def _encoder(self) -> nn.Module:
    return self.encoder.clone(outputs=self.code_dims)

  @property
  def _decoder(self) -> nn.Module:
    return self.decoder.clone(places=places_of(self.spec)[0], outputs=self.output_distribution.num_outputs(self.spec))

  def _inputs(self, x: Num[Array, "batch *event"]) -> Float[Array, "batch *event"]:
    """Return integers as points of [-1, 1]; real numbers as they are."""
    return x if self.spec.levels is None else 2.0 * x.astype(jnp.float32) / (self.spec.levels - 1) - 1.0

  def _outputs(self, params: Params, x: Num[Array, "batch *event"]) -> Float[Array, "batch rows columns dims"]:
    made: Any = self._encoder.apply({"params": params["encoder"]}, self._inputs(x))
    return made

  def _rounded(self, params: Params, carry: Carry, x: Num[Array, "batch *event"]) -> codebooks.Rounded:
    return codebooks.nearest(carry[STATISTICS][CODEBOOK], self._outputs(params, x))

  def _numbers(self, params: Params, carry: Carry,
               codes: Int[Array, "batch rows columns 1"]) -> Float[Array, "batch *numbers"]:
    """Return the decoder's numbers by codes."""
    vectors = codebooks.vectors_of(carry[STATISTICS][CODEBOOK])[codes[..., 0]]
    made: Any = self._decoder.apply({"params": params["decoder"]["network"]}, vectors)
    return made

  def _log_prob(self, params: Params, vectors: Float[Array, "batch rows columns dims"],
                x: Num[Array, "batch *event"]) -> Float[Array, " batch"]:
    numbers: Any = self._decoder.apply({"params": params["decoder"]["network"]}, vectors)
    return self.output_distribution.log_prob(self.spec, params["decoder"]["output"], numbers, x)

  def _check_prior(self, codes: DataSpec) -> None:
    name = type(self.prior).__name__
    if not isinstance(self.prior, Model):
      raise ConfigError(f"model.prior is {self.prior!r}; it must be a model: fields with a name among them.")
    if self.prior.spec != codes:
      raise ConfigError(f"model.prior models {self.prior.spec}, but the codes are {codes}; both must be the same.")
    for capability, words in ((HasLogLikelihood, "no log_likelihood"), (HasSample, "no sample")):
      if not isinstance(self.prior, capability):
        raise ConfigError(f"model.prior is {name}, which has {words}; choose a model that has, such as "
                          "gated_pixelcnn.")
    if not self.prior.objectives:
      raise ConfigError(f"model.prior is {name}, which is not trained by steps; choose a model that is, such as "
                        "gated_pixelcnn.")

  def _of_prior(self, objective: Objective) -> Objective:
    """Return an objective of the prior as one of the whole, on the codes of its minibatch."""
    def of_codes(params: Params, carry: Carry, batch: Batch) -> Batch:
      rounded = self._rounded(params, carry, jnp.asarray(batch["x"]))
      return {**batch, "x": jax.lax.stop_gradient(rounded.codes)[..., None]}

    def loss(params: Params, carry: Carry, batch: Batch, key: Key[Array, ""], step: Array) -> LossOutput:
      own = params_of(params, OF_PRIOR), carry_of(carry, PRIOR)
      out = objective.loss(*own, of_codes(params, carry, batch), key, step)
      return out._replace(carry=merged_carry(carry, PRIOR, out.carry))

    if objective.prepare is not None:
      raise ConfigError(f"model.prior is {type(self.prior).__name__}, whose objective prepares its minibatches; choose "
                        "another, such as gated_pixelcnn.")
    return dataclasses.replace(objective, groups=tuple(OF_PRIOR + group for group in objective.groups), loss=loss)
