"""Small sequence models of each network, with parameters far from their start, on spaces small and large."""

import functools

import jax
import numpy as np

from gdm.dataspec import DataSpec
from helpers.token_models import moved_from_start, token_model

SMALL = DataSpec((3,), 3)
LONGER = DataSpec((12,), 5)

# Case -> registry name and fields of its network. A new network gets a line here.
CASES = {
    "rnn": ("recurrent", {"cell": "rnn", "num_layers": 2, "width": 8, "embedding_width": 4}),
    "lstm": ("recurrent", {"cell": "lstm", "num_layers": 2, "width": 8, "embedding_width": 7}),
    "gru": ("recurrent", {"cell": "gru", "num_layers": 3, "width": 8, "tie_embeddings": True}),
    "learned": ("transformer", {"num_layers": 2, "num_heads": 2, "width": 8, "mlp_ratio": 2}),
    "rotary": ("transformer", {"num_layers": 2, "num_heads": 2, "width": 8, "positions": "rotary",
                               "tie_embeddings": False}),
    "two_taps": ("wavenet", {"num_layers": 2, "num_stacks": 2, "width": 6, "skip_width": 8}),  # sees 7 tokens
    "three_taps": ("wavenet", {"num_layers": 1, "num_stacks": 3, "width": 6, "skip_width": 5, "kernel_size": 3,
                               "tie_embeddings": True}),  # sees 7 tokens
    "gaps": ("wavenet", {"num_layers": 3, "num_stacks": 1, "width": 8, "skip_width": 8}),  # sees 8 tokens
    "smooth": ("wavenet", {"num_layers": 2, "num_stacks": 1, "width": 6, "skip_width": 8, "smooth": 3}),
}


def cases_of(*networks):
  """The cases of these networks, by their registry names."""
  return [case for case, (network, _) in CASES.items() if network in networks]


def sequence_model(case, spec, **fields):
  network, own = CASES[case]
  return token_model(network, spec, **{**own, **fields})


@functools.lru_cache
def build(case, spec=SMALL, scale=None):
  """A model with parameters moved by noise of this scale, by default one that suits its network."""
  model = sequence_model(case, spec)
  return model, *moved_from_start(model, scale or (0.3 if CASES[case][0] == "wavenet" else 0.5))


def dependence_on_vectors(model, params, vectors):
  """How strongly the logits at each position [output] depend on the vector of each input position [input].

  The strongest of several sequences `vectors` [batch, steps, width].
  """
  variables, network = {"params": params["model"]}, model.network

  @jax.jit
  @jax.vmap
  @jax.jacrev
  def jacobian(vectors):
    return network.apply(variables, vectors[None], method=lambda net, x: net.logits(net.run(x)[0]))[0]

  return np.abs(np.asarray(jacobian(vectors))).max(axis=(0, 2, 4))
