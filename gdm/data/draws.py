"""Random numbers that belong to an example, not to a moment: a hash of (seed, epoch, example, dimension).

Whoever asks for example 17 in epoch 3 gets the same draws, in any batch, on any host, before or after a resume.
"""

import zlib

import numpy as np
from jaxtyping import Float, Integer, UInt32

_GOLDEN = 0x9E3779B97F4A7C15
_MASK = 2**64 - 1
_CHUNK_WORDS = 1 << 15  # words hashed at a time: what stays in a core's cache is hashed five times faster


def _mix(z: int) -> int:
  """Return the finalizer of SplitMix64 (Steele, Lea and Flood 2014, fig. 16) on a Python integer."""
  z &= _MASK
  z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
  z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _MASK
  return z ^ (z >> 31)


def named(seed: int, name: str) -> int:
  """Return a seed of its own for each name, so that two splits or purposes never share their draws."""
  return _mix(_mix(seed + _GOLDEN) + zlib.crc32(name.encode()))


def words(seed: int, epoch: int, examples: Integer[np.ndarray, " batch"],
          num: int) -> UInt32[np.ndarray, "batch {num}"]:
  """Uniform 32-bit words, `num` per example, by SplitMix64 in counter mode (two words from each 64-bit hash)."""
  key = np.uint64(_mix(_mix(_mix(seed + _GOLDEN) + epoch + _GOLDEN) + _GOLDEN))
  pairs = -(-num // 2)
  column = np.arange(1, pairs + 1, dtype=np.uint64)
  hashes = np.empty((len(examples), pairs), "<u8")
  rows = max(1, _CHUNK_WORDS // pairs)
  for start in range(0, len(examples), rows):
    z = hashes[start:start + rows]
    np.add(examples[start:start + rows].astype(np.uint64)[:, None] * np.uint64(pairs), column, out=z)
    z *= np.uint64(_GOLDEN)
    z += key
    z ^= z >> np.uint64(30)
    z *= np.uint64(0xBF58476D1CE4E5B9)
    z ^= z >> np.uint64(27)
    z *= np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
  return hashes.view("<u4")[:, :num]


def uniforms(seed: int, epoch: int, examples: Integer[np.ndarray, " batch"],
             num: int) -> Float[np.ndarray, "batch {num}"]:
  """Uniforms in [0, 1) in steps of 2^-32, `num` per example."""
  return words(seed, epoch, examples, num) * 2.0**-32


def permutation(seed: int, epoch: int, num: int) -> Integer[np.ndarray, " {num}"]:
  """Return the order of `num` examples in one epoch: a pure function of (seed, epoch), by Philox (Salmon et al.
  2011)."""
  key = np.array([seed & _MASK, epoch & _MASK], np.uint64)  # of a list numpy would make floating-point numbers
  return np.random.Generator(np.random.Philox(key=key)).permutation(num)


def permuted(seed: int, epoch: int, num: int, places: Integer[np.ndarray, " batch"]) -> Integer[np.ndarray, " batch"]:
  """Return what stands at these places of an order of `num` examples that is never written out.

  A Feistel network over the next power of four is a permutation of its integers; what falls outside goes through it
  again until it is inside (Black and Rogaway 2002, "cycle walking"). For sets whose `permutation` would take seconds
  and gigabytes.
  """
  half = max(1, (max(num - 1, 1).bit_length() + 1) // 2)
  mask, shift = np.uint64(2**half - 1), np.uint64(half)
  keys = [np.uint64(_mix(_mix(_mix(seed + _GOLDEN) + epoch + _GOLDEN) + (turn + 1) * _GOLDEN)) for turn in range(6)]
  found = places.astype(np.uint64)
  todo = np.arange(len(found))
  while len(todo):
    left, right = found[todo] >> shift, found[todo] & mask
    for key in keys:
      z = (right + key) * np.uint64(0xBF58476D1CE4E5B9)
      z = (z ^ (z >> np.uint64(29))) * np.uint64(0x94D049BB133111EB)
      left, right = right, left ^ ((z >> np.uint64(32)) & mask)
    found[todo] = (left << shift) | right
    todo = todo[found[todo] >= num]
  return found.astype(np.int64)
