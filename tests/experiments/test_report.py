"""One page about many runs; where Chromium is installed it is opened, sorted and filtered there."""

import json
import re
import shutil
import subprocess

import numpy as np
import pytest

from gdm.studies.report_page import save_report_page

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def write(folder, nats, *, name="digits", coded=None, split="test"):
  """A scored run, as experiments.evaluate and compress leave it."""
  folder.mkdir(parents=True, exist_ok=True)
  mean, stderr = float(np.mean(nats)), float(np.std(nats, ddof=1) / np.sqrt(len(nats)))
  bits = -mean / (64 * np.log(2))
  report = {"model": folder.name, "dataset": name, "split": split, "step": 30, "kind": "exact", "given": [],
            "nats_mean": mean, "nats_stderr": stderr, "nats_ci95": [mean - 2 * stderr, mean + 2 * stderr],
            "bits_per_dim": bits, "bits_per_dim_stderr": 0.02, "bits_per_dim_ci95": [bits - 0.04, bits + 0.04],
            "num_examples": len(nats), "num_dims": 64, "num_draws": 1, "data_fingerprint": f"of {name}",
            "parameters": "ema", "num_params": 12345, "train_seconds": 61.25}
  (folder / f"likelihood_{split}.json").write_text(json.dumps(report))
  np.savez(folder / f"scores_{split}.npz", nats=nats, num_dims=np.full(len(nats), 64), normalizer_stderr=0.0)
  if coded:
    (folder / f"coded_{split}.json").write_text(json.dumps({**report, "coded_bits_per_dim": coded}))
  (folder / "config.json").write_text("{}")
  (folder / "finished.json").write_text("{}")
  (folder / "samples.png").write_bytes(b"\x89PNG\r\n")
  (folder / "metrics.jsonl").write_text("".join(json.dumps({"step": step, "valid/bits_per_dim": 3.0 / step}) + "\n"
                                                for step in (10, 20, 30)))


@pytest.fixture
def page(tmp_path):
  """A page of three runs on two data sets."""
  rng = np.random.default_rng(0)
  hard = rng.normal(size=50)
  write(tmp_path / "runs" / "made", hard - 80.0, coded=1.85)
  write(tmp_path / "runs" / "<b>nade", hard - 81.0 + 0.1 * rng.normal(size=50))
  write(tmp_path / "runs" / "table", hard - 9.0, name="mushrooms")
  path = tmp_path / "report.html"
  assert save_report_page(path, [tmp_path / "runs"], "Our & runs") == 3
  return path


def test_the_page_has_tables_differences_codes_curves_and_samples(page):
  text = page.read_text()
  assert "Our &amp; runs" in text and "<b>" not in text and "&lt;b&gt;nade" in text
  assert "bits/dim - made ± 95 %" in text
  [difference] = re.findall(r">\+(0\.02\d\d) ± (0\.0\d+)<", text)
  assert abs(float(difference[0]) - 1.0 / (64 * np.log(2))) < 0.002 and float(difference[1]) < 0.002
  assert "Coded against claimed" in text and ">1.8500<" in text
  assert text.count("data:image/svg") == 2 and text.count("data:image/png") == 3


def test_the_command_writes_it(commands, tmp_path, page):
  out = commands.good("report", page.parent / "runs", f"--out={tmp_path / 'other.html'}")
  assert out.startswith("3 runs in ") and (tmp_path / "other.html").is_file()


@pytest.mark.parametrize(("args", "message"), [
    ([], "no folder given"), (["/nowhere"], "is not a folder"), (["{tmp}"], "no run and no report")])
def test_mistakes_are_one_line(commands, tmp_path, args, message):
  result = commands.run("report", *[arg.format(tmp=tmp_path) for arg in args])
  assert (result.status, result.out) == (2, "") and message in result.err and result.err.count("\n") == 1


CLICKS = """<script>
document.querySelectorAll("th button")[1].click(); document.querySelectorAll("th button")[1].click();
document.querySelector("select[data-group=data]").value = "digits"; show();
document.title = JSON.stringify([
  [...document.querySelector("tbody").rows].map(row => row.cells[0].textContent),
  [...document.querySelectorAll("section")].map(section => section.hidden),
  document.querySelectorAll("img").length]);
filter.value = "nade exact"; show();
document.title += "|" + [...document.querySelectorAll("tbody tr:not([hidden])")].map(row => row.cells[0].textContent);
</script>"""


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
def test_a_browser_sorts_and_filters_it(page):
  page.write_text(page.read_text().replace("</body>", f"{CLICKS}</body>"))
  found = subprocess.run([CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", page.as_uri()],
                         capture_output=True, text=True, check=True, timeout=60).stdout
  title = re.search(r"<title>(.*?)</title>", found)[1].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
  lists, shown = title.split("|")
  order, hidden, images = json.loads(lists)
  assert order == ["<b>nade", "made"]  # the worst first: the heading was clicked twice
  assert hidden == [False, True, False, False, True] and images == 5
  assert shown == "<b>nade"
