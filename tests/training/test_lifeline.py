"""How processes find the first one's machine, where names may not resolve."""

import json
import socket
import threading

import pytest

from gdm.training import lifeline
from gdm.training.lifeline import addresses, connect

TOKEN = {"process": 1, "token": "ab12"}


@pytest.fixture
def listening():
  """Starts a listener that answers each greeting with a message; returns its port."""
  servers = []

  def start(answer):
    server = socket.create_server(("127.0.0.1", 0))
    servers.append(server)

    def serve():
      while True:
        try:
          peer, _ = server.accept()
        except OSError:
          return
        with peer:
          lifeline._receive(peer)
          peer.sendall(json.dumps(answer).encode() + b"\n")

    threading.Thread(target=serve, daemon=True).start()
    return server.getsockname()[1]

  yield start
  for server in servers:
    server.shutdown(socket.SHUT_RDWR)
    server.close()


def test_an_address_is_tried_where_the_name_does_not_resolve(listening):
  peer = connect(["no-such-host.invalid", "127.0.0.1"], listening({"token": "ab12"}), TOKEN)
  assert peer is not None
  peer.close()


def test_one_who_does_not_know_the_token_is_not_taken_for_the_first_process(listening):
  assert connect(["127.0.0.1"], listening({"token": "other"}), TOKEN) is None
  assert connect(["127.0.0.1"], listening({}), TOKEN) is None


def test_where_nobody_can_be_reached_there_is_no_connection(listening):
  port = listening({})
  assert connect([], port, TOKEN) is None
  assert connect(["no-such-host.invalid"], port, TOKEN) is None


def test_addresses_begin_with_the_given_one_and_have_no_doubles():
  found = addresses("node7")
  assert found[0] == "node7" and socket.gethostname() in found and len(found) == len(set(found))
  assert addresses(None)[0] == socket.gethostname()
