"""A hierarchical VAE of images: latents at several sizes, inferred from the top down.

Ladder inference (Sønderby et al., arXiv:1602.02282) with residual convolutions, as in arXiv:1606.04934 (section 5) and
the very deep VAE (Child, arXiv:2011.10650).
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from gdm.errors import ConfigError, SpecError
from gdm.latent.latent_model import Draw, LatentModel
from gdm.latent.networks.hierarchy import UP, Hierarchy
from gdm.latent.outputs import DiscreteOutput, Output, output_for, places_of
from gdm.latent.posteriors import normal_log_prob
from gdm.model import Batch, Carry, Params, PyTree

Features = tuple[Float[Array, "batch _ _ _"], ...]


class Pass(NamedTuple):
  """One pass down through all layers.

  Attributes:
    outputs: the decoder's numbers at every pixel.
    zeta: all latents, the top first, in units in which the prior is standard normal.
    kl: KL(q || p) of each layer in nats, in closed form, given the latents above it.
    log_scale: the sum of the posterior's log-scales, over all latents.
  """

  outputs: Float[Array, "batch *numbers"]
  zeta: Float[Array, "batch noise"]
  kl: Float[Array, "batch layers"]
  log_scale: Float[Array, " batch"]


@dataclasses.dataclass(frozen=True)
class HierarchicalVAE(LatentModel):
  """p(z) = prod_l p(z_l | z above), and q(z | x) = prod_l q(z_l | z above, x) with the same pass down.

  Latents, as `encode` returns and `decode` takes them, are in units in which the prior is standard normal: the z_l are
  a function of them.

  Attributes:
    network: both passes; its layers say where the latents are.
    output: p(x | z): bernoulli, categorical, logistic_mixture, gaussian; by default as the data is.

  Example:
    model = HierarchicalVAE(DataSpec((28, 28, 1), 2), network=Hierarchy(layers=(2, 2)))
    params, carry = model.init(key, {"x": x})
    nats = model.log_likelihood(params, carry, {"x": x}, key, num_samples=100).nats
  """

  network: Hierarchy = Hierarchy()
  output: Output | None = None

  def __post_init__(self) -> None:
    super().__post_init__()
    if not self.spec.is_image:
      raise SpecError("HierarchicalVAE needs images of (height, width, channels), but spec.event is "
                      f"{self.spec.event}; choose model.name=vae.")
    output_for(self.output, self.spec)
    least = 2**len(self.network.layers)
    if min(self.spec.event[:2]) < least:
      raise SpecError(f"network.layers has {len(self.network.layers)} sizes, which halve the image as often, but "
                      f"images are {self.spec.event[0]} x {self.spec.event[1]}; sides must be at least {least}.")

  @property
  def output_distribution(self) -> Output:
    return output_for(self.output, self.spec)

  @property
  def noise_dims(self) -> int:
    return sum(place.size for place in self._network.hierarchy)

  def init(self, key: Key[Array, ""], batch: Batch) -> tuple[Params, Carry]:
    """Return parameters: group "encoder" is the pass up, "decoder" the pass down with its posteriors."""
    x, context = jnp.asarray(batch["x"]), self.context(batch)
    made = self._network.init(key, self.encoder_inputs(x), context)["params"]
    encoder = {name: tree for name, tree in made.items() if name.startswith(UP)}
    decoder = {name: tree for name, tree in made.items() if name not in encoder}
    return {"encoder": {"network": encoder},
            "decoder": {"network": decoder, "output": self.output_distribution.init(self.spec, x)}}, {}

  def infer(self, params: Params, batch: Batch, key: Key[Array, ""] | None) -> PyTree:
    """Return the features of the pass up, and the labels as one-hot vectors or None."""
    context = self.context(batch)
    return self._apply(params, "up", self.encoder_inputs(batch["x"]), context), context

  def draw(self, params: Params, carry: Carry, batch: Batch, inferred: PyTree, noise: Float[Array, "batch noise"],
           key: Key[Array, ""] | None) -> Draw:
    features, context = inferred
    made = self._down(params, noise, features, context)
    reconstruction = self.output_distribution.log_prob(
        self.spec, params["decoder"]["output"], made.outputs, jnp.asarray(batch["x"]))
    log_ratio = normal_log_prob(noise) - made.log_scale - normal_log_prob(made.zeta)
    return Draw(reconstruction - log_ratio, reconstruction, made.kl)

  def centre(self, params: Params, inferred: PyTree) -> Float[Array, "batch dims"]:
    """Return the means of the topmost layer, the only ones that no draw of other latents moves."""
    features, context = inferred
    h = self._apply(params, "enter", 0, self._apply(params, "start", features[0].shape[0], context))
    mean = self._apply(params, "posterior", 0, h, features)[0]
    return mean.reshape(mean.shape[0], -1)

  def verdict(self, metrics: Mapping[str, float]) -> str:
    """Return words for latents that are not used; that those of the topmost layer alone are idle, whose units are
    counted, is no collapse while the KL of all is above a nat."""
    return super().verdict(metrics) if metrics.get("kl", 0.0) < 1.0 else ""

  def prior_latents(self, params: Params, key: Key[Array, ""], num: int) -> Float[Array, "num dims"]:
    return jax.random.normal(key, (num, self.noise_dims))

  def outputs_of(self, params: Params, latents: Float[Array, "batch dims"],
                 context: Float[Array, "batch classes"] | None) -> Float[Array, "batch *numbers"]:
    return self._down(params, latents, None, context).outputs

  def encode(self, params: Params, carry: Carry, batch: Batch, key: Key[Array, ""]) -> Float[Array, "batch dims"]:
    """Return all latents [batch, noise_dims], the top first: each layer's mean given the means above it."""
    features, context = self.infer(params, batch, None)
    return self._down(params, jnp.zeros((batch["x"].shape[0], self.noise_dims)), features, context).zeta

  def decode(self, params: Params, carry: Carry, latent: PyTree, key: Key[Array, ""],
             condition: Array | None = None) -> Float[Array, "batch *event"]:
    """Return the mean of x given latents, in the data's values.

    Args:
      params, carry: the model's.
      latent: all of them [batch, noise_dims], or only those of the topmost layer; the others are then at the means of
        their priors.
      key: not used.
      condition: labels of a class-conditional model.
    """
    top = self._network.hierarchy[0].size
    if latent.ndim != 2 or latent.shape[1] not in (top, self.noise_dims):
      raise SpecError(f"latent has shape {latent.shape}; it must be (batch, {self.noise_dims}), or (batch, {top}) for "
                      "the topmost layer alone.")
    zeta = jnp.pad(latent, ((0, 0), (0, self.noise_dims - latent.shape[1])))
    outputs = self._down(params, zeta, None, self.condition_context(condition, latent.shape[0])).outputs
    return self.output_distribution.mean(self.spec, params["decoder"]["output"], outputs)

  def latent_layers(self) -> tuple[int, ...]:
    """Return the dimensions of each layer, from the top down. Raise ConfigError unless x is discrete."""
    if not isinstance(self.output_distribution, DiscreteOutput):
      raise ConfigError(f"model.output is {type(self.output_distribution).__name__}; bits back codes discrete data.")
    return tuple(place.size for place in self._network.hierarchy)

  def posterior_moments(self, params: Params, carry: Carry, x: Int[Array, "batch *event"],
                        above: tuple[Float[Array, "batch _"], ...]
                        ) -> tuple[Float[Array, "batch dims"], Float[Array, "batch dims"]]:
    """Return means and standard deviations of q(zeta_l | x, layers above)."""
    features, _ = self.infer(params, {"x": x}, None)
    made: Any = self._network.apply(_variables(params), x.shape[0], above, features, method=_posterior_below)
    return made

  def prior_moments(self, params: Params, carry: Carry, num: int, above: tuple[Float[Array, "num _"], ...]
                    ) -> tuple[Float[Array, "num dims"], Float[Array, "num dims"]]:
    """Return zeros and ones: latents are in units of their prior."""
    shape = num, self.latent_layers()[len(above)]
    return jnp.zeros(shape), jnp.ones(shape)

  def level_log_probs(self, params: Params, carry: Carry, latents: tuple[Float[Array, "batch _"], ...],
                      x: Int[Array, "batch *event"], channel: int) -> Float[Array, "batch *places levels"]:
    """Return log-probabilities of every level of one channel of all places; see `DiscreteOutput`."""
    output = self.output_distribution
    assert isinstance(output, DiscreteOutput)
    outputs = self._down(params, jnp.concatenate(latents, axis=1), None, None).outputs
    return output.level_log_probs(self.spec, params["decoder"]["output"], outputs, x, channel)

  def _down(self, params: Params, noise: Float[Array, "batch noise"], features: Features | None,
            context: Float[Array, "batch classes"] | None) -> Pass:
    """Return a pass through all layers by standard normal noise; latents are of the prior where features are None."""
    made: Any = self._network.apply(_variables(params), noise, features, context, method=_pass_down)
    return made

  @property
  def _network(self) -> Hierarchy:
    return self.network.clone(places=places_of(self.spec)[0], outputs=self.output_distribution.num_outputs(self.spec))

  def _apply(self, params: Params, method: str, *args: Any) -> Any:
    return self._network.apply(_variables(params), *args, method=method)


def kl_to_normal(mean: Float[Array, "*shape"], log_scale: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
  """Return KL(N(mean, scale^2) || N(0, 1)) in nats."""
  return 0.5 * (jnp.square(mean) + jnp.exp(2.0 * log_scale) - 1.0) - log_scale


def _variables(params: Params) -> dict[str, PyTree]:
  return {"params": {**params["encoder"]["network"], **params["decoder"]["network"]}}


def _pass_down(network: Hierarchy, noise: Float[Array, "batch noise"], features: Features | None,
               context: Float[Array, "batch classes"] | None) -> Pass:
  num, places = noise.shape[0], network.hierarchy
  h, begin = network.start(num, context), 0
  drawn, kl, log_scales = [], [], jnp.zeros(num)
  for index, place in enumerate(places):
    zeta = noise[:, begin:begin + place.size].reshape(num, place.rows, place.columns, place.channels)
    begin, h = begin + place.size, network.enter(index, h)
    if features is not None:
      mean, log_scale = network.posterior(index, h, features)
      zeta = mean + jnp.exp(log_scale) * zeta
      kl.append(jnp.sum(kl_to_normal(mean, log_scale), axis=(1, 2, 3)))
      log_scales = log_scales + jnp.sum(log_scale, axis=(1, 2, 3))
    drawn.append(zeta.reshape(num, -1))
    h = network.advance(index, h, zeta)
  kl = jnp.stack(kl, axis=1) if kl else jnp.zeros((num, len(places)))
  return Pass(network.finish(h), jnp.concatenate(drawn, axis=1), kl, log_scales)


def _posterior_below(network: Hierarchy, num: int, above: tuple[Float[Array, "batch _"], ...], features: Features
                     ) -> tuple[Float[Array, "batch dims"], Float[Array, "batch dims"]]:
  """Return means and standard deviations of the layer below the given ones."""
  h = network.start(num, None)
  for index, (place, zeta) in enumerate(zip(network.hierarchy, above, strict=False)):
    h = network.advance(index, network.enter(index, h),
                        zeta.reshape(num, place.rows, place.columns, place.channels))
  index = len(above)
  mean, log_scale = network.posterior(index, network.enter(index, h), features)
  return mean.reshape(num, -1), jnp.exp(log_scale).reshape(num, -1)
