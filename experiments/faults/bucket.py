"""A bucket on this machine: a server that speaks S3 and refuses to write when told to.

It is moto's, in a process of its own, reached over the loopback alone. Of two that create the same object it lets one,
as Amazon's does.
"""

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from gdm.extras import load_extra
from gdm.storage.store import Store
from gdm.storage.urls import parse_url

BUCKET = "faults"
_CHANGES = ("PUT", "POST", "DELETE")


class Bucket(NamedTuple):
  """A bucket that is served.

  Attributes:
    environment: variables by which a process reaches it.
    switch: a file; while it exists, every write is refused with its content, an HTTP status.
  """

  environment: dict[str, str]
  switch: Path

  @property
  def url(self) -> str:
    """Where runs can lie."""
    return f"s3://{BUCKET}"

  def store(self, place: str) -> Store:
    """Return the objects below a place, for this process."""
    os.environ.update(self.environment)
    return Store(parse_url(f"{self.url}/{place}", "place"))

  @contextlib.contextmanager
  def refusing(self, status: str = "503 Slow Down") -> Iterator[None]:
    """Within this context, nothing can be written."""
    self.switch.write_text(status)
    try:
      yield
    finally:
      self.switch.unlink()


@contextlib.contextmanager
def served(folder: Path) -> Iterator[Bucket]:
  """Serve an empty bucket; `folder` takes the switch. Raise ConfigError where the server's package is missing."""
  load_extra("moto.server", "dev", "a bucket on this machine")
  switch = folder / "refuse"
  process = subprocess.Popen([sys.executable, "-m", "experiments.faults.bucket", str(switch)], stdout=subprocess.PIPE,
                             stderr=subprocess.DEVNULL, text=True)
  try:
    assert process.stdout is not None
    environment = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1",
                   "AWS_ENDPOINT_URL": process.stdout.readline().strip(), "AWS_EC2_METADATA_DISABLED": "true"}
    yield Bucket(environment, switch)
  finally:
    process.kill()
    process.communicate()  # which closes its output


def _refusing(application: Callable[..., Iterable[bytes]], switch: Path) -> Callable[..., Iterable[bytes]]:
  """Return a WSGI application that refuses to write while a file exists."""
  def call(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    if environ["REQUEST_METHOD"] in _CHANGES and switch.exists():
      start_response(switch.read_text() or "503 Slow Down", [("Content-Type", "application/xml")])
      return [b"<Error><Code>SlowDown</Code><Message>refused for a while</Message></Error>"]
    return application(environ, start_response)

  return call


def main(switch: str) -> None:
  import threading

  import boto3
  from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
  from werkzeug.serving import make_server

  application = _refusing(DomainDispatcherApplication(create_backend_app), Path(switch))
  server = make_server("127.0.0.1", 0, application, threaded=True)
  thread = threading.Thread(target=server.serve_forever)
  thread.start()
  url = f"http://127.0.0.1:{server.port}"
  boto3.client("s3", endpoint_url=url, region_name="us-east-1", aws_access_key_id="key",
               aws_secret_access_key="secret").create_bucket(Bucket=BUCKET)
  print(url, flush=True)
  thread.join()


if __name__ == "__main__":
  main(sys.argv[1])
