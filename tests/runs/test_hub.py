"""An exported run goes to a hub in one commit; here the hub is a stub on this machine."""

import base64
import http.server
import json
import threading

import pytest

from gdm.errors import ConfigError, WorkdirError
from gdm.runs.hub import push

pytest.importorskip("huggingface_hub", reason="the extra 'hub' is not installed")


class Stub(http.server.BaseHTTPRequestHandler):
  """Answers as a hub that has room for everything, but for repositories called refused."""

  def do_POST(self):
    body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
    self.server.seen.append((self.path, body))
    if b"refused" in body:
      return self._answer({"error": "no"}, 403)
    if self.path.endswith("/preupload/main"):
      files = [{**each, "uploadMode": "regular", "shouldIgnore": False} for each in json.loads(body)["files"]]
      return self._answer({"files": files})
    if "/commit/" in self.path:
      return self._answer({"commitUrl": "https://huggingface.co/me/rings/commit/1", "commitOid": "1", "success": True})
    return self._answer({"url": "https://huggingface.co/me/rings", "name": "me/rings", "id": "me/rings", "errors": [],
                         "warnings": []})

  def do_GET(self):
    self._answer({}, 404)

  def _answer(self, value, status=200):
    text = json.dumps(value).encode()
    self.send_response(status)
    self.send_header("Content-Type", "application/json")
    self.send_header("Content-Length", str(len(text)))
    self.end_headers()
    self.wfile.write(text)

  def log_message(self, *args):
    pass


@pytest.fixture
def hub(monkeypatch):
  server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Stub)
  server.seen = []
  thread = threading.Thread(target=server.serve_forever, daemon=True)
  thread.start()
  monkeypatch.setenv("HF_TOKEN", "hf_stub")
  yield server
  server.shutdown()
  server.server_close()
  thread.join()


@pytest.fixture
def files(tmp_path):
  (tmp_path / "rings.safetensors").write_bytes(b"weights")
  (tmp_path / "rings.md").write_text("# rings")
  return tmp_path / "rings.safetensors", tmp_path / "rings.md"


def test_file_and_card_are_one_commit(hub, files):
  assert "me/rings" in push(files, "me/rings", f"http://127.0.0.1:{hub.server_port}")
  ((_, body),) = [each for each in hub.seen if "/commit/" in each[0]]
  sent = [json.loads(line)["value"] for line in body.splitlines() if json.loads(line)["key"] == "file"]
  assert {each["path"]: base64.b64decode(each["content"]) for each in sent} == {
      "rings.safetensors": b"weights", "README.md": b"# rings"}


def test_a_hub_that_refuses_or_is_not_there_is_told(hub, files):
  with pytest.raises(WorkdirError, match="me/refused cannot be pushed to"):
    push(files, "me/refused", f"http://127.0.0.1:{hub.server_port}")
  with pytest.raises(WorkdirError, match="me/rings cannot be pushed to"):
    push(files, "me/rings", "http://127.0.0.1:9")
  with pytest.raises(ConfigError, match="must be name/repository"):
    push(files, "a/b/c", f"http://127.0.0.1:{hub.server_port}")
