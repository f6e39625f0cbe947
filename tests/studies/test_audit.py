"""The audit proves what holds, and finds what does not: a sum that is not one, an example that was left out."""

import dataclasses
import json
import shutil
import types

import pytest

from gdm.baselines.independent import Independent
from gdm.dataspec import DataSpec
from gdm.errors import ConfigError, NotFiniteError, SpecError
from gdm.evaluation.total_mass import small_twin, total_mass
from gdm.likelihood import Kind
from gdm.runs.registry import build_model
from gdm.studies import audit as audits
from gdm.studies.audit import Verdict


@pytest.mark.fast_cases("made-spec0-exact", "naive_bayes-spec4-exact")
@pytest.mark.parametrize(("name", "spec", "kind"), [
    ("made", DataSpec((8, 8, 1), 17), Kind.EXACT),
    ("nice", DataSpec((50,), 5), Kind.LOWER_BOUND),
    ("nice", DataSpec((50,), None), Kind.EXACT),
    ("recurrent", DataSpec((64,), 65, has_lengths=True), Kind.EXACT),
    ("naive_bayes", DataSpec((8, 8, 1), 17, num_classes=10), Kind.EXACT),
    ("independent", DataSpec((20,), 2), Kind.EXACT)])
def test_twins_of_right_models_sum_to_one(name, spec, kind):
  small = {"made": {"network": {"hidden": (6,)}}, "nice": {"num_layers": 3, "hidden": (6,)},
           "recurrent": {"network": {"width": 4}}}.get(name, {})
  twin = small_twin(lambda spec: build_model({"name": name, **small}, spec), spec)
  assert twin is not None
  mass = total_mass(twin)
  assert mass is not None and mass.kind is kind and mass.holds, mass


@dataclasses.dataclass(frozen=True)
class Wrong(Independent):
  """Gives every example a tenth of a nat too much."""

  def log_likelihood(self, params, carry, batch, key, num_samples=1):
    found = super().log_likelihood(params, carry, batch, key, num_samples)
    return dataclasses.replace(found, nats=found.nats + 0.1)


def test_a_wrong_likelihood_is_found():
  mass = total_mass(Wrong(DataSpec((4,), 3)))
  assert mass is not None and not mass.holds and 1.09 < mass.total < 1.12


def test_what_promises_no_sum_is_left_alone():
  assert total_mass(build_model({"name": "ffjord", "hidden": (4,)}, DataSpec((2,), None))) is None
  with pytest.raises(SpecError, match="no space is small enough for these settings"):
    small_twin(lambda spec: build_model({"name": "rnade"}, spec), DataSpec((3, 3, 3), None))


@pytest.mark.parametrize(("error", "verdict"), [
    (NotFiniteError("example 3 is NaN"), Verdict.FAILED), (ConfigError("no conditionals"), Verdict.NOT_TRIED)])
def test_what_is_not_finite_has_failed_and_what_cannot_be_was_not_tried(monkeypatch, error, verdict):
  def check(run, split):
    raise error

  monkeypatch.setattr(audits, "CHECKS", {"sums": check})
  monkeypatch.setattr(audits, "training_flops", lambda run: None)
  found = audits.audit(types.SimpleNamespace(report={}), "test")
  assert found.findings == (("sums", verdict, str(error)),)


def test_a_run_is_audited_by_command(tmp_path, unbroken, commands):
  workdir = tmp_path / "runs" / "fvsbn"
  shutil.copytree(unbroken("digits"), workdir)
  commands.good("evaluate", f"--workdir={workdir}")
  pages = f"--out={tmp_path / 'audit.html'}", f"--markdown={tmp_path / 'audit.md'}"
  out = commands.good("audit", str(tmp_path / "runs"), *pages)
  assert "+      sums to one: 1.00000" in out and "+      conditionals make the score" in out
  assert "+      decoded: the first 32 examples came back" in out and "0 checks failed" in out
  assert max(map(len, out.splitlines()[:-1])) <= 80  # the last one names files
  assert "| fvsbn |" in (tmp_path / "audit.md").read_text()
  assert "<table" in (tmp_path / "audit.html").read_text()

  path = workdir / "likelihood_test.json"
  report = json.loads(path.read_text())
  path.write_text(json.dumps({**report, "num_examples": report["num_examples"] - 20}))
  failed = commands.run("audit", str(tmp_path / "runs"), *pages)
  assert failed.status == 1 and "FAILED whole split, once" in failed.out
  missing = commands.run("audit", str(tmp_path / "nowhere"))
  assert missing.status == 2 and "is not a folder" in missing.err
