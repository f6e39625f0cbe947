"""Signals and time limits are heard at any moment, also while the main thread waits for a device."""

import os
import signal
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gdm.training.preemption import Interruption


class Stop:
  """Counts its calls; `called` is set by the first."""

  def __init__(self):
    self.calls, self.called = 0, threading.Event()

  def __call__(self):
    self.calls += 1
    self.called.set()


def send(number):
  os.kill(os.getpid(), number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_device_call_is_no_hindrance(number):
  stop = Stop()

  def until_stopped(x):
    send(number)
    return np.asarray(stop.called.wait(10.0), bool)

  with Interruption(stop) as interruption:
    heard = jax.jit(lambda x: jax.pure_callback(until_stopped, jax.ShapeDtypeStruct((), bool), x))(jnp.zeros(()))
    assert heard and stop.calls == 1 and interruption()


def test_deferred_it_only_raises_a_flag():
  stop, inner = Stop(), Stop()
  with Interruption(stop) as interruption:
    with interruption.deferred():
      send(signal.SIGTERM)
      assert _true_soon(interruption) and stop.calls == 0
      with interruption.at_once(inner):
        assert inner.calls == 1  # for what came before
        send(signal.SIGTERM)
        assert _true_soon(lambda: inner.calls == 2)
      send(signal.SIGINT)  # the second time it is meant
      assert _true_soon(lambda: stop.calls == 1)
    with interruption.at_once():
      assert stop.calls == 2


def test_a_time_limit_counts_from_the_start_but_is_heard_from_the_clock_on():
  stop = Stop()
  with Interruption(stop, seconds=0.05, since=time.monotonic() - 1.0) as interruption:
    time.sleep(0.1)
    assert stop.calls == 0 and not interruption()
    with interruption.deferred():
      interruption.start_clock()
      assert interruption() and stop.calls == 0
    with interruption.at_once():
      assert stop.calls == 1
  later = Stop()
  with Interruption(later, seconds=0.2) as interruption:
    interruption.start_clock()
    assert not interruption() and later.called.wait(10.0) and interruption()


def test_a_section_is_not_left_while_it_stops():
  """What comes after, a save say, must not begin under a process that is about to end."""
  begun, may_end, order = threading.Event(), threading.Event(), []

  def stop():
    begun.set()
    may_end.wait(10.0)
    order.append("stopped")

  with Interruption(lambda: None) as interruption, interruption.deferred():
    with interruption.at_once(stop):
      send(signal.SIGTERM)
      assert begun.wait(10.0)
      threading.Timer(0.05, may_end.set).start()
    order.append("left")
  assert order == ["stopped", "left"]


def test_handlers_are_restored():
  before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
  with Interruption(lambda: None):
    pass
  assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
  assert signal.set_wakeup_fd(-1) == -1


def _true_soon(condition):
  end = time.monotonic() + 10.0
  while not condition() and time.monotonic() < end:
    time.sleep(0.002)
  return condition()
