"""Several processes that train one run: who writes, and how all come to know what one of them found.

Everything here costs nothing where there is one process.
"""

import json
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from gdm.errors import UserError

T = TypeVar("T")


def is_first() -> bool:
  """Return whether this is the process that writes logs, manifests and pictures."""
  return jax.process_index() == 0


def barrier(name: str) -> None:
  """Wait until every process has come here."""
  if jax.process_count() > 1:
    multihost_utils.sync_global_devices(name)


def from_first(call: Callable[[], T]) -> T:
  """Return the result of `call` on the first process, on all of them; it is called there alone.

  The value must be one that JSON holds. A UserError there is raised everywhere, so that no process waits for one that
  has given up.
  """
  if jax.process_count() == 1:
    return call()
  answer: dict[str, Any] = {}
  if is_first():
    try:
      answer = {"value": call()}
    except UserError as error:
      answer = {"error": str(error), "kind": type(error).__name__}
  answer = _broadcast(answer)
  if "error" in answer:
    kinds = {kind.__name__: kind for kind in UserError.__subclasses__()}
    raise kinds.get(answer["kind"], UserError)(answer["error"])
  return answer["value"]


def gathered(leaf: jax.Array) -> np.ndarray | jax.Array:
  """Return the whole of an array that lies on the devices of all processes, on each of them; all must ask.

  A copy of it is in each machine's memory for as long as the result is used.
  """
  if not isinstance(leaf, jax.Array) or leaf.is_fully_addressable:
    return leaf
  if leaf.is_fully_replicated:
    return np.asarray(leaf.addressable_data(0))
  return np.asarray(multihost_utils.process_allgather(leaf, tiled=True))


def _broadcast(value: Any) -> Any:
  """Return the first process's value, as JSON."""
  data = np.frombuffer(json.dumps(value).encode(), np.uint8) if is_first() else np.empty(0, np.uint8)
  size = int(multihost_utils.broadcast_one_to_all(np.int32(data.size)))
  padded = np.zeros(size, np.uint8)
  padded[:data.size] = data
  return json.loads(np.asarray(multihost_utils.broadcast_one_to_all(padded)).astype(np.uint8).tobytes())
