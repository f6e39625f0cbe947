"""One process's end made known to the others, at once and in words.

JAX notices a process that is gone by missed heartbeats, after a minute or two, and then aborts the others with a C++
stack trace; one that failed and tries to leave in order would wait minutes for the rest. So each process keeps a
connection to the first one. Who fails says so before it goes; who vanishes is noticed because its connection closes;
the first one tells everybody, and all end within a second.
"""

import contextlib
import json
import logging
import os
import secrets
import socket
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from gdm.training import hosts

EXIT_INTERRUPTED = EXIT_VANISHED = 75  # what is saved is whole, the same command resumes
CONNECT_SECONDS = 5.0  # to each address that is tried
ACCEPT_SECONDS = 60.0
_BYE = {"bye": True}
_logger = logging.getLogger("gdm")


class Lifeline:
  """The connections between the processes of one run; `hosts` must be able to talk already."""

  def __init__(self, address: str | None = None):
    """Connects all processes.

    Args:
      address: how the others reach the first process's machine; they also try its own name and addresses.
    """
    self._peers: dict[int, socket.socket] = {}
    self._left: set[int] = set()
    self._ending = threading.Lock()
    server = socket.create_server(("", 0)) if hosts.is_first() else None
    places = hosts.from_first(lambda: addresses(address))
    port = hosts.from_first(lambda: server.getsockname()[1] if server else 0)
    token = hosts.from_first(lambda: secrets.token_hex(16))
    accepting = threading.Thread(target=self._accept, args=(server, token), daemon=True, name="lifeline")
    if server is not None:
      accepting.start()
    elif (peer := connect(places, port, {"process": jax.process_index(), "token": token})) is not None:
      self._peers[0] = peer
    connected = multihost_utils.process_allgather(np.int32(hosts.is_first() or bool(self._peers)))
    if server is not None:
      missing = [str(index) for index, found in enumerate(connected) if not found]
      if missing:
        server.shutdown(socket.SHUT_RDWR)  # nobody else comes
      accepting.join()
      server.close()
      if missing:
        _logger.warning("Process %s cannot reach this machine at %s: where one vanishes it is noticed by JAX's "
                        "heartbeats alone, after a minute or two.", ", ".join(missing), " or ".join(places))
    for index, peer in self._peers.items():
      peer.settimeout(None)
      threading.Thread(target=self._listen, args=(index, peer), daemon=True, name=f"lifeline-{index}").start()

  def _accept(self, server: socket.socket, token: str) -> None:
    """Take the others' connections, until all have come or were given up."""
    server.settimeout(ACCEPT_SECONDS)
    while len(self._peers) < jax.process_count() - 1:
      try:
        peer, _ = server.accept()
      except OSError:  # nobody comes any more
        return
      peer.settimeout(CONNECT_SECONDS)
      with contextlib.suppress(OSError, ValueError):
        greeting = _receive(peer)
        if greeting.get("token") == token:  # else somebody else's
          _send(peer, {"token": token})
          self._peers[greeting["process"]] = peer

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


def addresses(given: str | None = None) -> list[str]:
  """Return how others may reach this machine, the likeliest first: what was given, its name, its own addresses.

  Names do not resolve everywhere: in containers, and between the machines of some clouds.
  """
  found = [given or "", socket.gethostname(), socket.getfqdn()]
  for family, outside in ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1")):  # kept for documentation
    with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
      probe.connect((outside, 9))  # sends nothing, but chooses the address by which this machine goes out
      found.append(probe.getsockname()[0])
  return list(dict.fromkeys(filter(None, found)))


def connect(places: Sequence[str], port: int, greeting: Mapping[str, Any]) -> socket.socket | None:
  """Return a connection to the first of several places where the process that knows the greeting's token listens.

  None where there is no such place. Example: `connect(["node7", "10.0.0.7"], 4321, {"process": 1, "token": token})`.
  """
  for place in places:
    try:
      peer = socket.create_connection((place, port), timeout=CONNECT_SECONDS)
    except OSError:
      continue
    try:
      _send(peer, dict(greeting))
      if _receive(peer).get("token") == greeting["token"]:
        return peer
    except (OSError, ValueError):
      pass
    peer.close()
  return None


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
