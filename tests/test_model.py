"""The contract's protocols, asked of every registered model."""

import inspect

import pytest
from helpers.small_models import COMPOSED, SMALL, SOLVED, small_model

import gdm.model

PROTOCOLS = {name: value for name, value in vars(gdm.model).items()
             if inspect.isclass(value) and getattr(value, "_is_protocol", False) and value.__module__ == "gdm.model"}


def test_there_are_protocols():
  assert {"Model", "HasSample", "HasPosterior"} <= set(PROTOCOLS)


@pytest.mark.parametrize("name", [*SMALL, *SOLVED, *COMPOSED])
def test_what_a_protocol_calls_is_a_method(name):
  """A field of the same name, as a VAE's `posterior`, would make a model look as if it had a capability."""
  model = small_model(name)
  for protocol in PROTOCOLS.values():
    if isinstance(model, protocol):
      for method, function in vars(protocol).items():
        if inspect.isfunction(function) and not method.startswith("_"):
          assert callable(getattr(model, method)), f"{type(model).__name__}.{method} of {protocol.__name__}"
