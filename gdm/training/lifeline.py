"""One process's end made known to the others, at once and in words.

JAX notices a process that is gone by missed heartbeats, after a minute or two, and then aborts the others with a C++
stack trace; one that failed and tries to leave in order would wait minutes for the rest. So each process keeps a
connection to the first one. Who fails says so before it goes; who vanishes is noticed because its connection closes;
the first one tells everybody, and all end within a second.
"""

import contextlib
import json
import os
import socket
import sys
import threading
from typing import Any

import jax

from gdm.training import hosts

EXIT_INTERRUPTED = EXIT_VANISHED = 75  # what is saved is whole, the same command resumes
_BYE = {"bye": True}


class Lifeline:
  """The connections between the processes of one run; `hosts` must be able to talk already."""

  def __init__(self, address: str | None = None):
    """Connects all processes.

    Args:
      address: how the others reach the first process's machine; its own name by default.
    """
    self._peers: dict[int, socket.socket] = {}
    self._left: set[int] = set()
    self._ending = threading.Lock()
    server = socket.create_server(("", 0)) if hosts.is_first() else None
    host, port = hosts.from_first(lambda: [address or socket.gethostname(), server.getsockname()[1] if server else 0])
    if server is not None:
      with server:
        server.settimeout(60)
        for _ in range(jax.process_count() - 1):
          peer, _ = server.accept()
          peer.settimeout(60)
          self._peers[_receive(peer)["process"]] = peer
    else:
      peer = socket.create_connection((str(host), int(port)), timeout=60)
      _send(peer, {"process": jax.process_index()})
      self._peers[0] = peer
    for index, peer in self._peers.items():
      peer.settimeout(None)
      threading.Thread(target=self._listen, args=(index, peer), daemon=True, name=f"lifeline-{index}").start()

  def fail(self, code: int, message: str) -> None:
    """Tell the others to end with `code`; the caller then ends itself, by `os._exit`."""
    self._ending.acquire(blocking=False)  # what comes back of it is no news
    self._tell({"code": code, "message": message, "process": jax.process_index()})

  def leave(self) -> None:
    """Tell the others that this process ends in order, since its work is done."""
    self._tell(_BYE)

  def _tell(self, message: dict[str, Any]) -> None:
    for peer in self._peers.values():
      with contextlib.suppress(OSError):  # it is gone already
        _send(peer, message)

  def _listen(self, index: int, peer: socket.socket) -> None:
    try:
      message = _receive(peer)
    except (OSError, ValueError):
      message = {"code": EXIT_VANISHED, "process": index,
                 "message": f"process {index} vanished; the same command on all processes resumes from the last "
                            "checkpoint."}
    if message == _BYE:
      return
    self._ending.acquire()  # never released: the first to come ends the process
    self._tell(message)
    sys.stdout.flush()
    if "vanished" in message["message"]:
      os.write(2, f"error: {message['message']}\n".encode())
    elif message["code"] != EXIT_INTERRUPTED:
      os.write(2, f"error: process {message['process']}: {message['message']}\n".encode())
    elif hosts.is_first():  # which speaks for all
      os.write(1, f"{message['message']}\n".encode())
    os._exit(message["code"])


def _send(peer: socket.socket, message: dict[str, Any]) -> None:
  peer.sendall(json.dumps(message).encode() + b"\n")


def _receive(peer: socket.socket) -> dict[str, Any]:
  """Return the next message. Raise ValueError where the other side closed the connection."""
  line = b""
  while not line.endswith(b"\n"):
    part = peer.recv(1)
    if not part:
      raise ValueError("closed")
    line += part
  return json.loads(line)
