"""Examples as a file that only the same model on the same machine opens."""

import math
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Integer

from gdm.batches import dims_per_step
from gdm.errors import DataError
from gdm.evaluation.coding import container
from gdm.evaluation.coding.container import Header
from gdm.evaluation.coding.fingerprints import backend, examples_digest, model_digest
from gdm.evaluation.coding.parts import Parts
from gdm.evaluation.coding.ways import AnyCoder, way_of
from gdm.model import Carry, Model, Params
from gdm.precision import highest_precision


class Coding(NamedTuple):
  """A model with its parameters, and the settings and step that it was made by."""

  model: Model
  settings: Mapping[str, Any]
  params: Params
  carry: Carry
  step: int
  averaged: bool


class Examples(NamedTuple):
  """Examples x [examples, *event] of integers, and the lengths [examples] of sequences."""

  x: Integer[np.ndarray, "examples *event"]
  length: Integer[np.ndarray, " examples"] | None = None


class Coded(NamedTuple):
  """A coded file: its header, the bits that follow, how many symbols they are of, and how fast it went.

  `decode_seconds` is None where decoding was not tried. Compiling is left out of both times. Of bits back, also the
  initial bits, which are in the payload, and the parts of all else.
  """

  header: Header
  payload: bytes
  num_symbols: int
  encode_seconds: float
  decode_seconds: float | None
  initial_bits: int = 0
  parts: Parts | None = None

  @property
  def payload_bits(self) -> int:
    return 8 * len(self.payload)

  def to_bytes(self) -> bytes:
    return container.pack(self.header, self.payload)


@highest_precision()
def encode(coding: Coding, examples: Examples, *, split: str, data: str, batch_size: int, num_samples: int = 1,
           verify: bool = True) -> Coded:
  """Code examples by the model's conditionals, or by its latents.

  Args:
    coding: the model.
    examples: what to code; of examples with lengths, only what is real.
    split: name of the split.
    data: its fingerprint, 16 hex digits.
    batch_size: of the coder, at most.
    num_samples: draws of the latents of each example; 1 where the model has none.
    verify: decode again, and compare.

  Raises:
    ConfigError: the model offers nothing to code by, or not for sequences where examples have lengths.
    DataError: examples that the model does not know, or whose padding differs; or decoding did not give them back.
    NotFiniteError: the model gives probabilities that are not finite.
    SpecError: the data is not discrete.
  """
  way, spec, (x, length) = way_of(coding.model, num_samples), coding.model.spec, examples
  size = way.batch_size(len(x), batch_size)
  num_real = None if length is None else length * dims_per_step(spec)
  pad = 0 if num_real is None else _padding(x, num_real)
  computed_by, machine = backend()
  header = Header(
      step=coding.step, averaged=coding.averaged, num_examples=len(x), batch_size=size, num_samples=num_samples,
      dtype=x.dtype.str, levels=spec.require_discrete("lossless coding"), event=x.shape[1:],
      length_dtype="" if length is None else length.dtype.str, pad=pad, split=split, data=data,
      model=model_digest(coding.settings, coding.params, coding.carry), backend=computed_by,
      examples=examples_digest(x, length), machine=machine)
  coder = way.coder(coding.params, coding.carry, size)
  start = time.perf_counter()
  payload = coder.encode(x, num_real).astype("<u4").tobytes()
  encode_seconds = time.perf_counter() - start
  decode_seconds = None
  if verify:
    start = time.perf_counter()
    _decoded(coder, header, payload)
    decode_seconds = time.perf_counter() - start
  num_symbols = way.num_steps * len(x) if num_real is None else int(num_real.sum())
  return Coded(header, payload, num_symbols, encode_seconds, decode_seconds, *way.spent(coder))


@highest_precision()
def decode(coding: Coding, header: Header, payload: bytes) -> Examples:
  """Return the examples of a file that `container.unpack` read.

  Raises:
    DataError: it takes another model, other weights or another machine, or other examples came out.
  """
  way, spec = way_of(coding.model, header.num_samples), coding.model.spec
  here = (spec.require_discrete("lossless coding"), tuple(spec.event))
  if here != (header.levels, header.event):
    raise DataError(f"the file holds examples of shape {header.event} with {header.levels} levels, but the model's "
                    f"have {here[1]} with {here[0]}; name the workdir that it was made from.")
  if model_digest(coding.settings, coding.params, coding.carry) != header.model:
    raise DataError("the file was made with other weights or settings of the model; name the workdir that it was made "
                    "from, unchanged.")
  computed_by, machine = backend()
  if computed_by != header.backend:
    raise DataError(f"the file was made on another machine or by other versions ({header.machine}; here {machine}): "
                    "the last bits of the model's probabilities would differ, so that nothing could be decoded. Decode "
                    "where it was made: same processor, number of threads, versions and XLA flags.")
  return _decoded(way.coder(coding.params, coding.carry, header.batch_size), header, payload)


def _decoded(coder: AnyCoder, header: Header, payload: bytes) -> Examples:
  x, num_real = coder.decode(np.frombuffer(payload, "<u4").astype(np.uint32), header.num_examples,
                             bool(header.length_dtype), header.pad)
  x = x.astype(header.dtype)
  per_step = math.prod(header.event[1:])
  length = None if num_real is None else (num_real // per_step).astype(header.length_dtype)
  if examples_digest(x, length) != header.examples:
    raise DataError("what was decoded is not what was encoded: the model's probabilities came out otherwise than then. "
                    "Nothing was written.")
  return Examples(x, length)


def _padding(x: Integer[np.ndarray, "examples *event"], num_real: Integer[np.ndarray, " examples"]) -> int:
  """Return the value that fills up all examples beyond their real values; 0 where all are full."""
  flat = x.reshape(len(x), -1)
  beyond = np.unique(flat[np.arange(flat.shape[1]) >= num_real[:, None]])
  if len(beyond) > 1:
    raise DataError(f"examples are filled up with several values, {beyond[0]} and {beyond[1]} among them; padding is "
                    "not coded, so it must be one value.")
  return int(beyond[0]) if len(beyond) else 0
