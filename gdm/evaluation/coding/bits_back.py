"""Examples to bits and back by latents (bits back with asymmetric numeral systems; Townsend et al., arXiv:1901.04866).

An example x is coded by its latents z: pop z by q(z | x), push x by p(x | z), push z by p(z). The decoder pops z and x
and pushes z back by q(z | x), so that x costs -log2 of p(x, z) / q(z | x): minus the ELBO in the mean. With several
layers, z is popped from the top down, each layer by q(layer | x, above), and pushed from the bottom up.

With N draws x costs the importance-weighted bound (bits back in extended space; Ruan et al., arXiv:2102.11086, section
3): pop z_1 to z_N by q, and pop one's number by their weights; push the others back by q, x by p(x | z) of the one, it
by p(z), and its number, of N equally likely ones.

A layer is discretized by a grid about its own prior (HiLLoC; Townsend et al., arXiv:1912.09953), which the decoder
knows by the layers above. One stack holds all examples. Batches let a model's call serve many of them; the first ones
to be encoded are small, since their latents can be popped from initial bits only.
"""

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Integer
from scipy.special import logsumexp

from gdm.errors import NotFiniteError
from gdm.evaluation.coding import gaussians
from gdm.evaluation.coding.bottomless import BottomlessStack
from gdm.evaluation.coding.latent_coder import LatentCoder
from gdm.evaluation.coding.outputs import OutputCoder
from gdm.evaluation.coding.parts import Parts
from gdm.evaluation.coding.programs import compiler_options
from gdm.evaluation.coding.tables import bits, quantize, uniform
from gdm.model import Carry, HasBitsBack, Params

_TABLE_ENTRIES = 1 << 25  # of one batch, at most
_LATENT_BITS = 12.0  # of one latent under its posterior, about
_DENSITY = 0.2  # of what a dimension's levels could hold, that an example costs, about

# Means and scales [num, dims] of a layer's posterior in units of its prior -> the bins of its latents
_Choose = Callable[[int, Float[np.ndarray, "num dims"], Float[np.ndarray, "num dims"]], Int[np.ndarray, "num dims"]]


class _Drawn(NamedTuple):
  """Draws of all layers of a batch: bins, means and scales in units of the prior [num, dims], latents [batch, dims]."""

  bins: list[Int[np.ndarray, "num _"]]
  moments: list[tuple[Float[np.ndarray, "num _"], Float[np.ndarray, "num _"]]]
  latents: tuple[Float[np.ndarray, "batch _"], ...]


def bits_back_batch_size(model: HasBitsBack, num_examples: int, num_samples: int, at_most: int) -> int:
  """Return a batch size whose tables fit in memory."""
  spec = cast(Any, model).spec
  latents = sum(model.latent_layers()) * (gaussians.BASE + 4 * num_samples)
  per_example = spec.num_dims * spec.require_discrete("bits back") + latents
  return max(1, min(at_most, num_examples // _share(model, num_samples), _TABLE_ENTRIES // per_example))


def _share(model: HasBitsBack, num_samples: int) -> int:
  """Return the least number of examples on the stack for each one of the next batch: about as many as hold the bits
  that its latents take."""
  spec = cast(Any, model).spec
  cost = _DENSITY * math.log2(spec.require_discrete("bits back")) * spec.num_dims
  return max(8, math.ceil(_LATENT_BITS * sum(model.latent_layers()) * num_samples / cost))


class BitsBackCoder(LatentCoder):
  """Encodes and decodes with one model, its parameters, and batches of up to one size; compiles when it is made.

  See `LatentCoder` for the rest.
  """

  way = "bits back"

  def __init__(self, model: HasBitsBack, params: Params, carry: Carry, batch_size: int, num_samples: int = 1):
    spec = cast(Any, model).spec
    super().__init__(spec.require_discrete("bits back"), batch_size, _share(model, num_samples))
    self._state, self._num_samples, self._dims = (params, carry), num_samples, model.latent_layers()
    x = jax.ShapeDtypeStruct((batch_size, *spec.event), jnp.int32)
    latents = tuple(jax.ShapeDtypeStruct((batch_size, dims), jnp.float32) for dims in self._dims)

    def compiled(function: Callable[..., Any], *arguments: Any) -> Any:
      return jax.jit(function).lower(params, carry, *arguments).compile(compiler_options())

    prior = functools.partial(_prior, model, batch_size)
    self._posterior = [compiled(model.posterior_moments, x, latents[:layer]) for layer in range(len(latents))]
    self._prior = [compiled(prior, latents[:layer]) for layer in range(len(latents))]
    self._output = OutputCoder(model, params, carry, latents, batch_size)
    log_prob = functools.partial(_log_prob, model, spec.event[-1] if spec.is_image else 1)
    self._log_prob = compiled(log_prob, latents, x) if num_samples > 1 else None

  def _push_batch(self, stack: BottomlessStack, x: Int[np.ndarray, "num *event"]) -> Parts:
    num, padded = len(x), self._output.padded(x)
    popped = functools.partial(_pop_posterior, stack)
    draws = [self._descend(num, lambda layer, mean, scale: popped(mean, scale), padded)
             for _ in range(self._num_samples)]
    chosen, choice, spent = np.zeros(num, np.int32), uniform(num, self._num_samples), Parts()
    if self._num_samples > 1:
      weights = self._weights(draws, padded)
      chosen = stack.pop(weights)
      spent = spent._replace(choice=float(np.sum(bits(choice, chosen)) - np.sum(bits(weights, chosen))))
      for sample in reversed(range(self._num_samples)):
        _push_posterior(stack, draws[sample], np.flatnonzero(chosen != sample))
    one = _picked(draws, chosen)
    output = self._output.push(stack, one.latents, padded, num)
    for bins in reversed(one.bins):
      for digit in reversed(range(gaussians.DIGITS)):
        prefix, symbol = gaussians.digits_of(bins.ravel(), digit)
        stack.push(symbol, gaussians.standard_tables(prefix, digit))
    if self._num_samples > 1:
      stack.push(chosen, choice)
    prior = sum(float(np.sum(gaussians.standard_bits(bins))) for bins in one.bins)
    return spent._replace(output=output, prior=prior, posterior=float(np.sum(_posterior_bits(one, np.arange(num)))))

  def _pop_batch(self, stack: BottomlessStack, num: int) -> Int[np.ndarray, "num *event"]:
    several = self._num_samples > 1
    chosen = stack.pop(uniform(num, self._num_samples)) if several else np.zeros(num, np.int32)
    one = self._descend(num, lambda layer, mean, scale: _pop_prior(stack, mean.shape))
    x = self._output.pop(stack, one.latents, num)
    draws = []
    for sample in range(self._num_samples):
      mine = chosen == sample

      def choose(layer: int, mean: Float[np.ndarray, "num dims"], scale: Float[np.ndarray, "num dims"],
                 others: Any = ~mine) -> Int[np.ndarray, "num dims"]:
        bins = one.bins[layer].copy()
        bins[others] = _pop_posterior(stack, mean[others], scale[others])
        return bins

      draws.append(self._descend(num, choose, x))
    if several:
      stack.push(chosen, self._weights(draws, x))
    for draw in reversed(draws):
      _push_posterior(stack, draw, np.arange(num))
    return x[:num]

  def _descend(self, num: int, choose: _Choose, x: Int[np.ndarray, "batch *event"] | None = None) -> _Drawn:
    """Return latents of all layers, from the top down, of bins that `choose` is asked for; without x, the means and
    scales of the posterior are zeros and ones."""
    drawn, latents = _Drawn([], [], ()), ()
    for layer, dims in enumerate(self._dims):
      centre, spread = self._moments(self._prior[layer], latents)
      mean, scale = np.zeros((num, dims)), np.ones((num, dims))
      if x is not None:
        own_mean, own_scale = self._moments(self._posterior[layer], x, latents)
        mean, scale = ((own_mean - centre) / spread)[:num], (own_scale / spread)[:num]
      bins = choose(layer, mean, scale)
      z = np.zeros((self._batch_size, dims), np.float32)
      z[:num] = centre[:num] + spread[:num] * gaussians.midpoints(bins)
      latents = (*latents, z)
      drawn.bins.append(bins)
      drawn.moments.append((mean, scale))
    return drawn._replace(latents=latents)

  def _moments(self, program: Any,
               *arguments: Any) -> tuple[Float[np.ndarray, "batch _"], Float[np.ndarray, "batch _"]]:
    mean, scale = (np.asarray(each, np.float64) for each in program(*self._state, *arguments))
    if not (np.isfinite(mean).all() and np.isfinite(scale).all() and (scale > 0.0).all()):
      raise NotFiniteError("the model gives moments of latents that are NaN or infinite, or a scale of 0; no bits can "
                           "be made of them.")
    return mean, scale

  def _weights(self, draws: list[_Drawn], x: Int[np.ndarray, "batch *event"]) -> Int[np.ndarray, "num samples"]:
    """Return tables of which draw is taken: by p(x, z) / q(z | x) of the bins."""
    num = len(draws[0].bins[0])
    log_weights = []
    assert self._log_prob is not None
    for drawn in draws:
      log_prob = np.asarray(self._log_prob(*self._state, drawn.latents, x), np.float64)[:num]
      prior = sum(np.sum(gaussians.standard_bits(bins), axis=1) for bins in drawn.bins)
      log_weights.append(log_prob + math.log(2.0) * (_posterior_bits(drawn, np.arange(num)) - prior))
    stacked = np.stack(log_weights, axis=1)
    if not np.isfinite(stacked).all():
      raise NotFiniteError("the model gives log-probabilities that are NaN or infinite; no bits can be made of them.")
    return quantize(np.exp(stacked - logsumexp(stacked, axis=1, keepdims=True)))


def _prior(model: HasBitsBack, num: int, params: Params, carry: Carry, above: tuple[Float[Array, "batch _"], ...]
           ) -> tuple[Float[Array, "batch dims"], Float[Array, "batch dims"]]:
  return model.prior_moments(params, carry, num, above)


def _log_prob(model: HasBitsBack, channels: int, params: Params, carry: Carry,
              latents: tuple[Float[Array, "batch _"], ...], x: Int[Array, "batch *event"]) -> Float[Array, " batch"]:
  """Return log p(x | latents) in nats."""
  total = jnp.zeros(x.shape[0])
  for channel in range(channels):
    levels = model.level_log_probs(params, carry, latents, x, channel)
    levels = levels.reshape(x.shape[0], -1, levels.shape[-1])
    values = x.reshape(x.shape[0], -1, channels)[..., channel]
    total = total + jnp.sum(jnp.take_along_axis(levels, values[..., None], axis=2), axis=(1, 2))
  return total


def _pop_prior(stack: BottomlessStack, shape: tuple[int, ...]) -> Int[np.ndarray, "num dims"]:
  prefix = np.zeros(math.prod(shape), np.int64)
  for digit in range(gaussians.DIGITS):
    prefix = prefix * gaussians.BASE + stack.pop(gaussians.standard_tables(prefix, digit))
  return prefix.reshape(shape)


def _pop_posterior(stack: BottomlessStack, mean: Float[np.ndarray, "num dims"],
                   scale: Float[np.ndarray, "num dims"]) -> Int[np.ndarray, "num dims"]:
  return gaussians.BinGrid.logistic(gaussians.DIGITS).pop(stack, mean, scale)


def _push_posterior(stack: BottomlessStack, drawn: _Drawn, rows: Integer[np.ndarray, " rows"]) -> None:
  """Push the latents of some examples, so that `_pop_posterior` of one layer after another gives them."""
  for bins, (mean, scale) in reversed(list(zip(drawn.bins, drawn.moments, strict=True))):
    gaussians.BinGrid.logistic(gaussians.DIGITS).push(stack, bins[rows], mean[rows], scale[rows])


def _posterior_bits(drawn: _Drawn, rows: Integer[np.ndarray, " rows"]) -> Float[np.ndarray, " rows"]:
  """Return what the latents of some examples cost under their posterior."""
  total = np.zeros(len(rows))
  for bins, (mean, scale) in zip(drawn.bins, drawn.moments, strict=True):
    for digit in range(gaussians.DIGITS):
      prefix, symbol = gaussians.digits_of(bins[rows], digit)
      total += np.sum(bits(gaussians.digit_tables(mean[rows], scale[rows], prefix, digit), symbol), axis=1)
  return total


def _picked(draws: list[_Drawn], chosen: Integer[np.ndarray, " num"]) -> _Drawn:
  """Return of each example the draw that was chosen."""
  rows = np.arange(len(chosen))

  def pick(arrays: list[Any]) -> Any:
    return np.stack([array[:len(rows)] for array in arrays])[chosen, rows]

  latents = []
  for each in zip(*(drawn.latents for drawn in draws), strict=True):
    whole = np.zeros_like(each[0])
    whole[:len(rows)] = pick(list(each))
    latents.append(whole)
  bins = [pick(list(each)) for each in zip(*(drawn.bins for drawn in draws), strict=True)]
  moments = [(pick([m[0] for m in each]), pick([m[1] for m in each]))
             for each in zip(*(drawn.moments for drawn in draws), strict=True)]
  return _Drawn(bins, moments, tuple(latents))
