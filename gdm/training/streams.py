"""Random numbers by name and step.

A key is `fold_in(fold_in(root, crc32(stream)), step)`. No key is threaded through the state, so a resumed run draws
what the unbroken run would have drawn. crc32 and not `hash()`, which is salted per process.
"""

import zlib

import jax
from jaxtyping import Array, Int, Key


def stream_key(root: Key[Array, ""], stream: str, step: Int[Array, ""] | int) -> Key[Array, ""]:
  """Return the key of the named stream at `step`; the same name, step and root always give the same key."""
  return jax.random.fold_in(jax.random.fold_in(root, zlib.crc32(stream.encode())), step)
