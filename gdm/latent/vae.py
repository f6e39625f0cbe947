"""The variational autoencoder (Kingma and Welling, arXiv:1312.6114): latents by an encoder, data by a decoder."""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from gdm import checks
from gdm.dataspec import DataSpec
from gdm.errors import ConfigError, SpecError
from gdm.inference import annealed_importance
from gdm.latent.latent_model import Draw, LatentModel
from gdm.latent.networks.perceptrons import PerceptronDecoder, PerceptronEncoder
from gdm.latent.outputs import DiscreteOutput, Output, output_for, places_of
from gdm.latent.posteriors import DensePosterior, Diagonal, Posterior, moments
from gdm.latent.priors import Density, ModelPrior, Prior, StandardNormal, prior_for
from gdm.model import Batch, Carry, LossOutput, Model, Params, PyTree
from gdm.submodels import of_spec

GRADIENTS = ("reparametrized", "doubly_reparametrized")


def latents_spec(latent_dims: int) -> DataSpec:
  """Return the spec of so many latents. Raise ConfigError for none."""
  checks.at_least("latent_dims", latent_dims, 1)
  return DataSpec((latent_dims,), None)


@dataclasses.dataclass(frozen=True)
class VAE(LatentModel):
  """A variational autoencoder; with `num_samples` above 1 an importance-weighted one (arXiv:1509.00519).

  Attributes:
    latent_dims: dimensions of z.
    encoder: a network of features of x.
    decoder: a network of numbers at each place of x, by z.
    posterior: the family of q(z | x).
    prior: p(z): normal, mixture, vamp, or any model of real vectors with an exact log-likelihood and samples.
    output: p(x | z): bernoulli, categorical, logistic_mixture, gaussian; by default as the data is: Bernoulli for two
      levels, categorical up to 32, a mixture of discretized logistics beyond, Gaussian for reals.
    gradient: of the objective: reparametrized, or doubly_reparametrized, whose gradient of the encoder has no term that
      is zero in the mean and all noise with many draws (Tucker et al., arXiv:1810.04152, equation 8).

  Example:
    model = VAE(DataSpec((784,), 2), latent_dims=40)
    params, carry = model.init(key, {"x": x})
    nats = model.log_likelihood(params, carry, {"x": x}, key, num_samples=100).nats
  """

  latent_dims: int = 32
  encoder: nn.Module = PerceptronEncoder()
  decoder: nn.Module = PerceptronDecoder()
  posterior: Posterior = Diagonal()
  prior: Prior | Model = of_spec(lambda fields, spec: latents_spec(fields["latent_dims"]), StandardNormal())
  output: Output | None = None
  gradient: str = "reparametrized"

  def __post_init__(self) -> None:
    super().__post_init__()
    checks.at_least("latent_dims", self.latent_dims, 1)
    checks.one_of("gradient", self.gradient, GRADIENTS)
    output_for(self.output, self.spec)
    self.own_prior  # noqa: B018 - checks the prior
    if self.gradient == "doubly_reparametrized" and not isinstance(self.posterior, DensePosterior):
      raise ConfigError("gradient is 'doubly_reparametrized', which needs log q at given latents, but model.posterior "
                        f"is {type(self.posterior).__name__}; choose posterior.name=diagonal or full.")

  @property
  def output_distribution(self) -> Output:
    return output_for(self.output, self.spec)

  @property
  def own_prior(self) -> Prior:
    """The prior, of whichever kind."""
    return prior_for(self.prior, self.posterior, self.latent_dims, self.class_conditional)

  @property
  def groups(self) -> tuple[str, ...]:
    own = self.own_prior
    if isinstance(own, StandardNormal):
      return super().groups
    more = [f"prior_{group}" for objective in own.model.objectives for group in objective.groups] if isinstance(
        own, ModelPrior) else ["prior"]
    return (*super().groups, *more)

  @property
  def noise_dims(self) -> int:
    return self.latent_dims

  def init(self, key: Key[Array, ""], batch: Batch) -> tuple[Params, Carry]:
    """Return parameters, whose biases are by the batch: group "encoder", "decoder" and those of the prior."""
    encoder_key, decoder_key, posterior_key, prior_key = jax.random.split(key, 4)
    x, context = jnp.asarray(batch["x"]), self.context(batch)
    inputs, width = self.encoder_inputs(x), self.posterior.num_features(self.latent_dims)
    encoder = {"network": self._encoder.init(encoder_key, inputs, context)["params"],
               "posterior": self.posterior.init(posterior_key, self.latent_dims)}
    features: Any = self._encoder.apply({"params": encoder["network"]}, inputs, context)
    _check_shape("encoder", features, (x.shape[0], width))
    z = self.posterior.centre(encoder["posterior"], features)
    output, (places, _) = self.output_distribution, places_of(self.spec)
    decoder = {"network": self._decoder.init(decoder_key, z, context)["params"], "output": output.init(self.spec, x)}
    numbers: Any = jax.eval_shape(lambda: self._decoder.apply({"params": decoder["network"]}, z, context))
    _check_shape("decoder", numbers, (x.shape[0], *places, output.num_outputs(self.spec)))
    return {"encoder": encoder, "decoder": decoder, **self.own_prior.init(prior_key, inputs, z)}, {}

  def loss(self, params: Params, carry: Carry, batch: Batch, key: Key[Array, ""], step: Array) -> LossOutput:
    out = super().loss(params, carry, batch, key, step)
    if self.gradient == "reparametrized" or self.num_samples == 1:
      return out
    return out._replace(loss=self._doubly_reparametrized(params, carry, batch, key) + jax.lax.stop_gradient(out.loss))

  def infer(self, params: Params, batch: Batch, key: Key[Array, ""] | None) -> Float[Array, "batch features"]:
    return self._encode(params, self.encoder_inputs(batch["x"]), self.context(batch), key)

  def draw(self, params: Params, carry: Carry, batch: Batch, inferred: PyTree, noise: Float[Array, "batch noise"],
           key: Key[Array, ""] | None) -> Draw:
    """Return a draw; where `inferred` is a pair, z is made by the first features and log q is by the second."""
    features, scored = inferred if isinstance(inferred, tuple) else (inferred, None)
    z, log_q = self.posterior.draw(params["encoder"]["posterior"], features, noise)
    if scored is not None:
      assert isinstance(self.posterior, DensePosterior)
      log_q = self.posterior.log_prob(scored, z)
    return self._weighed(params, batch, features, z, log_q, key)

  def centre(self, params: Params, inferred: PyTree) -> Float[Array, "batch dims"]:
    return self.posterior.centre(params["encoder"]["posterior"], inferred)

  def prior_latents(self, params: Params, key: Key[Array, ""], num: int) -> Float[Array, "num dims"]:
    return self.prior_density(params).sample(key, num)

  def outputs_of(self, params: Params, latents: Float[Array, "batch dims"],
                 context: Float[Array, "batch classes"] | None) -> Float[Array, "batch *numbers"]:
    return self._decode(params, latents, context, None)

  def encode(self, params: Params, carry: Carry, batch: Batch, key: Key[Array, ""]) -> Float[Array, "batch dims"]:
    """Return the mean of each example's latents."""
    return self.centre(params, self.infer(params, batch, None))

  def decode(self, params: Params, carry: Carry, latent: PyTree, key: Key[Array, ""],
             condition: Array | None = None) -> Float[Array, "batch *event"]:
    """Return the mean of x given each latent [batch, latent_dims], in the data's values; labels as a condition."""
    if latent.ndim != 2 or latent.shape[1] != self.latent_dims:
      raise SpecError(f"latent has shape {latent.shape}; it must be (batch, {self.latent_dims}).")
    numbers = self._decode(params, latent, self.condition_context(condition, latent.shape[0]), None)
    return self.output_distribution.mean(self.spec, params["decoder"]["output"], numbers)

  # Bits back.

  def latent_layers(self) -> tuple[int, ...]:
    """Return the dimensions of the one layer. Raise ConfigError unless q and p(z) are of independent Gaussians and x is
    discrete."""
    for setting, value, good in (("posterior", self.posterior, isinstance(self.posterior, Diagonal)),
                                 ("prior", self.prior, isinstance(self.prior, StandardNormal)),
                                 ("output", self.output_distribution,
                                  isinstance(self.output_distribution, DiscreteOutput))):
      if not good:
        raise ConfigError(f"model.{setting} is {type(value).__name__}; bits back codes discrete data by "
                          "posterior.name=diagonal and prior.name=normal.")
    return (self.latent_dims,)

  def posterior_moments(self, params: Params, carry: Carry, x: Int[Array, "batch *event"],
                        above: tuple[Float[Array, "batch _"], ...]
                        ) -> tuple[Float[Array, "batch dims"], Float[Array, "batch dims"]]:
    """Return means and standard deviations of q(z | x)."""
    mean, log_scale = moments(self.infer(params, {"x": x}, None))
    return mean, jnp.exp(log_scale)

  def prior_moments(self, params: Params, carry: Carry, num: int, above: tuple[Float[Array, "num _"], ...]
                    ) -> tuple[Float[Array, "num dims"], Float[Array, "num dims"]]:
    """Return zeros and ones."""
    return jnp.zeros((num, self.latent_dims)), jnp.ones((num, self.latent_dims))

  def level_log_probs(self, params: Params, carry: Carry, latents: tuple[Float[Array, "batch _"], ...],
                      x: Int[Array, "batch *event"], channel: int) -> Float[Array, "batch *places levels"]:
    """Return log-probabilities of every level of one channel of all places; see `DiscreteOutput`."""
    output = self.output_distribution
    assert isinstance(output, DiscreteOutput)
    return output.level_log_probs(self.spec, params["decoder"]["output"], self._decode(params, latents[0], None, None),
                                  x, channel)

  def simulated_bracket(self, params: Params, carry: Carry, key: Key[Array, ""], num: int, num_temperatures: int
                        ) -> tuple[Float[Array, " num"], Float[Array, " num"]]:
    """Return a lower and an upper bound of log p(x) of `num` examples drawn from the model, by annealing.

    Of a simulated example the latents are an exact draw from the true posterior, from which a chain can be annealed
    back: bidirectional Monte Carlo (Grosse, Ghahramani and Adams, arXiv:1511.02543). Labels are drawn evenly.

    Raise ConfigError where the posterior's density is known for its own draws only.
    """
    if not isinstance(self.posterior, DensePosterior):
      raise ConfigError(f"model.posterior is {type(self.posterior).__name__}, whose noise is not known of given "
                        "latents; a bracket needs posterior.name=diagonal or full.")
    label_key, prior_key, output_key, forward_key, back_key = jax.random.split(key, 5)
    condition = jax.random.randint(label_key, (num,), 0, self.spec.num_classes or 1)
    z = self.prior_latents(params, prior_key, num)
    numbers = self._decode(params, z, self.condition_context(condition if self.class_conditional else None, num), None)
    x = self.output_distribution.sample(self.spec, params["decoder"]["output"], numbers, output_key)
    batch = {"x": x, "y": condition} if self.class_conditional else {"x": x}
    features = self.infer(params, batch, None)
    path, betas = self.annealing_path(params, carry, batch, features), annealed_importance.ladder(num_temperatures)
    lower = annealed_importance.forward(path, betas, forward_key, num).log_weights
    noise = self.posterior.noise_of(features, z)
    back = annealed_importance.backward(path, betas, back_key, noise)
    # backward gives log f_1(u) plus the log-weight of the way back, whose exponential is 1 / p(x) in the mean.
    return lower, path.log_density(noise, jnp.ones(())) - back

  def prior_density(self, params: Params) -> Density:
    """Return p(z)."""
    return self.own_prior.density(params, self.latent_dims, self.posterior,
                                  lambda inputs: self._encode(params, inputs, None, None))

  def _weighed(self, params: Params, batch: Batch, features: Float[Array, "batch features"],
               z: Float[Array, "batch dims"], log_q: Float[Array, " batch"], key: Key[Array, ""] | None) -> Draw:
    numbers = self._decode(params, z, self.context(batch), key)
    own = params["decoder"]["output"]
    reconstruction = self.output_distribution.log_prob(self.spec, own, numbers, jnp.asarray(batch["x"]))
    log_ratio = log_q - self.prior_density(params).log_prob(z)
    if isinstance(self.own_prior, StandardNormal) and isinstance(self.posterior, DensePosterior):
      kl = self.posterior.kl_to_normal(features)
    else:
      kl = log_ratio[:, None]
    return Draw(reconstruction - log_ratio, reconstruction, kl)

  def _doubly_reparametrized(self, params: Params, carry: Carry, batch: Batch,
                             key: Key[Array, ""]) -> Float[Array, ""]:
    """Return a number of value 0 with the gradient: weights w of decoder and prior, w^2 of the encoder, through z."""
    noise_key, infer_key, draw_key = jax.random.split(key, 3)
    features, noise = self.infer(params, batch, infer_key), self.training_noise(noise_key, batch)
    constant, fixed = jax.lax.stop_gradient(features), jax.lax.stop_gradient(params)

    def log_weights(params: Params, features: Float[Array, "batch features"]) -> Float[Array, "samples batch"]:
      # Of the posterior's parameters, z alone has a gradient; log q has none but through z.
      return self.draws(params, carry, batch, (features, constant), noise, draw_key).log_weight

    by_decoder = log_weights({**params, "encoder": fixed["encoder"]}, constant)
    by_encoder = log_weights(fixed, features)
    weights = jax.lax.stop_gradient(jax.nn.softmax(by_decoder, axis=0))
    value = -jnp.mean(jnp.sum(weights * by_decoder + jnp.square(weights) * by_encoder, axis=0))
    return value - jax.lax.stop_gradient(value)

  @property
  def _encoder(self) -> nn.Module:
    return self.encoder.clone(outputs=self.posterior.num_features(self.latent_dims))

  @property
  def _decoder(self) -> nn.Module:
    return self.decoder.clone(places=places_of(self.spec)[0], outputs=self.output_distribution.num_outputs(self.spec))

  def _encode(self, params: Params, inputs: Float[Array, "batch *event"], context: Array | None,
              key: Key[Array, ""] | None) -> Float[Array, "batch features"]:
    rngs = {} if key is None else {"dropout": key}
    made: Any = self._encoder.apply({"params": params["encoder"]["network"]}, inputs, context, rngs=rngs)
    return made

  def _decode(self, params: Params, z: Float[Array, "batch dims"], context: Array | None,
              key: Key[Array, ""] | None) -> Float[Array, "batch *numbers"]:
    rngs = {} if key is None else {"dropout": key}
    made: Any = self._decoder.apply({"params": params["decoder"]["network"]}, z, context, rngs=rngs)
    return made


def _check_shape(name: str, made: Any, shape: tuple[int, ...]) -> None:
  if made.shape != shape:
    raise ConfigError(f"model.{name} made an array of shape {made.shape}; it must be {shape}.")
