"""The file of coded examples: a header that says what it takes to decode, and the payload, each with its checksum.

All numbers are little-endian. The header:

| bytes | what |
|---|---|
| 8 | "gdmcoded" |
| 2 | version |
| 8, 1 | training step of the parameters, whether they are averaged |
| 8, 4, 4 | examples, batch size of the coder, its draws of the latents of each example |
| 4, 4 | NumPy's name of the examples' type, their levels |
| 1, 24 | axes of an example, their sizes (up to 6) |
| 1, 4, 4 | whether examples have lengths, NumPy's name of the lengths' type, what fills examples up |
| 16 | split, UTF-8 |
| 8 | fingerprint of the split |
| 16, 16, 16, 16 | sha256, cut, of the model, of what computed it, of the examples and of the payload |
| 64 | what computed it, in words, UTF-8 |
| 8 | bytes of the payload |
| 16 | sha256, cut, of all of the above |
"""

import dataclasses
import hashlib
import os
import struct
from pathlib import Path

from gdm.errors import DataError

MAGIC = b"gdmcoded"
VERSION = 2
DIGEST_BYTES = 16
MAX_AXES = 6

_LAYOUT = struct.Struct("<8sHQ?QII4sIB6I?4si16s8s16s16s16s16s64sQ")
HEADER_BYTES = _LAYOUT.size + DIGEST_BYTES


@dataclasses.dataclass(frozen=True)
class Header:
  """All that is needed to decode, and to know that the right thing came out.

  Attributes:
    step: training step of the parameters.
    averaged: whether they are the averaged ones.
    num_examples: examples coded.
    batch_size: of the coder.
    num_samples: draws of the latents of each example, of bits back.
    dtype: NumPy's name of the examples' type, "|u1" say.
    levels: number of values.
    event: shape of one example.
    length_dtype: NumPy's name of the lengths' type; "" where there are none.
    pad: what fills examples up beyond their length.
    split: name of the split.
    data: fingerprint of the split, 16 hex digits.
    model: digest of parameters and settings.
    backend: digest of what computed the probabilities.
    examples: digest of what was coded.
    machine: what computed them, in words, for messages.
  """

  step: int
  averaged: bool
  num_examples: int
  batch_size: int
  num_samples: int
  dtype: str
  levels: int
  event: tuple[int, ...]
  length_dtype: str
  pad: int
  split: str
  data: str
  model: bytes
  backend: bytes
  examples: bytes
  machine: str


def digest(data: bytes) -> bytes:
  """Return the first 16 bytes of the sha256."""
  return hashlib.sha256(data).digest()[:DIGEST_BYTES]


def pack(header: Header, payload: bytes) -> bytes:
  """Return the file. Raise DataError where an example has more axes than the header has room for."""
  if len(header.event) > MAX_AXES:
    raise DataError(f"examples have {len(header.event)} axes; a coded file has room for {MAX_AXES}.")
  sizes = (*header.event, *[0] * (MAX_AXES - len(header.event)))
  head = _LAYOUT.pack(
      MAGIC, VERSION, header.step, header.averaged, header.num_examples, header.batch_size, header.num_samples,
      header.dtype.encode(), header.levels, len(header.event), *sizes, bool(header.length_dtype),
      header.length_dtype.encode(), header.pad, header.split.encode(), bytes.fromhex(header.data), header.model,
      header.backend, header.examples, digest(payload), header.machine.encode()[:64], len(payload))
  return head + digest(head) + payload


def unpack(path: str | os.PathLike) -> tuple[Header, bytes]:
  """Return the header and the payload of a file. Raise DataError where it is missing, foreign, cut or damaged."""
  try:
    data = Path(path).read_bytes()
  except OSError as error:
    raise DataError(f"{path} cannot be read: {error.strerror}.") from error
  if data[:len(MAGIC)] != MAGIC[:len(data)]:
    raise DataError(f"{path} is no file of experiments.compress: it does not begin with {MAGIC.decode()!r}.")
  if len(data) < HEADER_BYTES:
    raise DataError(f"{path} is cut: it has {len(data)} bytes, and the header alone has {HEADER_BYTES}.")
  head, payload = data[:_LAYOUT.size], data[HEADER_BYTES:]
  if digest(head) != data[_LAYOUT.size:HEADER_BYTES]:
    version = int.from_bytes(data[8:10], "little")
    what = f"of version {version}, and this one reads {VERSION}, or its header is damaged" if version != VERSION else \
        "damaged: its header does not have its own checksum"
    raise DataError(f"{path} is {what}; nothing was decoded.")
  (_, _, step, averaged, num_examples, batch_size, num_samples, dtype, levels, axes, *rest) = _LAYOUT.unpack(head)
  sizes, (has_length, length_dtype, pad, split, fingerprint, model, backend, examples, checksum, machine, size) = (
      rest[:MAX_AXES], rest[MAX_AXES:])
  if len(payload) != size:
    raise DataError(f"{path} {'is cut' if len(payload) < size else 'goes on too long'}: its payload has "
                    f"{len(payload):,} bytes, but {size:,} were written; nothing was decoded.")
  if digest(payload) != checksum:
    raise DataError(f"{path} is damaged: its payload does not have its checksum; nothing was decoded.")
  header = Header(step, averaged, num_examples, batch_size, num_samples, _text(dtype), levels, tuple(sizes[:axes]),
                  _text(length_dtype) if has_length else "", pad, _text(split), fingerprint.hex(), model, backend,
                  examples, _text(machine))
  return header, payload


def _text(field: bytes) -> str:
  return field.rstrip(b"\0").decode(errors="replace")
