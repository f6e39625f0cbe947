"""Operators by name, as commands take them: `downsample:4`, `mask:box`, `blur:1+downsample:2`."""

from collections.abc import Callable

from gdm.errors import ConfigError, nearest
from gdm.inverse.operators.blur import blur
from gdm.inverse.operators.composition import composed
from gdm.inverse.operators.downsampling import downsampling
from gdm.inverse.operators.fourier import fourier
from gdm.inverse.operators.grey import grey
from gdm.inverse.operators.mask import lowest_rows, random_mask, region
from gdm.inverse.operators.operator import Operator
from gdm.inverse.operators.projection import random_projection
from gdm.inverse.operators.quantization import quantization
from gdm.inverse.operators.radon import radon

Event = tuple[int, ...]


def _masked(event: Event, text: str, seed: int) -> Operator:
  return random_mask(event, float(text), seed) if _is_number(text) else region(event, text)


# Name -> what makes the operator of an event, an argument and a seed; and what the argument is, "" for none.
OPERATORS: dict[str, tuple[Callable[[Event, str, int], Operator], str]] = {
    "mask": (_masked, "share of known entries, or the hidden region left, right, top, bottom or box"),
    "lowest": (lambda event, text, seed: lowest_rows(event, int(text)), "number of lowest rows, which are measured"),
    "blur": (lambda event, text, seed: blur(event, float(text)), "deviation in pixels"),
    "downsample": (lambda event, text, seed: downsampling(event, int(text)), "factor"),
    "grey": (lambda event, text, seed: grey(event), ""),
    "project": (lambda event, text, seed: random_projection(event, int(text), seed), "number of random projections"),
    "fourier": (lambda event, text, seed: fourier(event, float(text), seed), "one in so many lines is measured"),
    "radon": (lambda event, text, seed: radon(event, int(text)), "number of angles"),
    "quantize": (lambda event, text, seed: quantization(event, float(text)), "step, in the data's units"),
}


def operator_of(text: str, event: Event, seed: int = 0) -> Operator:
  """Return the operator that a text names, `name:argument`; several joined by "+" are done from left to right.

  Args:
    text: as "downsample:4" or "blur:1+mask:0.5".
    event: shape of an example.
    seed: of random masks, lines and projections.

  Raise ConfigError for an unknown name or argument, SpecError where the event does not fit.

  Example:
    operator = operator_of("blur:1+downsample:2", (8, 8, 1))
    y = operator.forward(jnp.ones((16, 8, 8, 1)))  # [16, 4, 4, 1]
  """
  found: Operator | None = None
  for part in text.split("+"):
    name, _, argument = part.strip().partition(":")
    if name not in OPERATORS:
      raise ConfigError(f"operator is {name!r}; {nearest(name, OPERATORS)}")
    make, words = OPERATORS[name]
    if bool(words) != bool(argument):
      raise ConfigError(f"operator is {part.strip()!r}; it must be "
                        + (f"{name}:<{words}>." if words else f"{name}, without an argument."))
    try:
      made = make(tuple(event if found is None else found.measured), argument, seed)
    except ValueError:
      raise ConfigError(f"operator is {part.strip()!r}; it must be {name}:<{words}>.") from None
    found = made if found is None else composed(found, made)
  assert found is not None
  return found


def _is_number(text: str) -> bool:
  return text.replace(".", "", 1).replace("e-", "", 1).replace("-", "", 1).isdigit()
