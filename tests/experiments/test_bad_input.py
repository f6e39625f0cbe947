"""Bad input gets one line that names the field, the value and what would be right; no folder is touched."""

import re
import sys

import numpy as np
import pytest
from helpers.commands import HERE, ROOT, TINY

from gdm.runs.plotting import draw_samples

DEFAULTS = ROOT / "gdm" / "runs" / "defaults.py"  # a get_config that is no config of a model


def refused(result, pattern):
  """The command ended with one line of error that matches, and printed nothing else."""
  assert result.status == 2, result
  assert result.out == ""
  assert result.err.startswith("error: ") and result.err.count("\n") == 1, result.err
  assert re.search(pattern, result.err), result.err


FIELDS = {
    "training.num_step=5": "training has no field 'num_step'; did you mean 'num_steps'",
    "foo.bar=1": "the config has no field 'foo'; known: data, .*evaluation, .*mesh, model",
    "trainng.num_steps=1": "the config has no field 'trainng'; did you mean 'training'",
    "learning_rate=1": r"no field 'learning_rate'; did you mean 'optimizer\.learning_rate'",
    "model.input_dropuot=1": "model has no field 'input_dropuot'; did you mean 'input_dropout'",
    "model.name.x=1": "model.name is a value, 'fvsbn', and has no fields",
    "training=1": "training is a section; .*num_steps",
    "training.num_steps=1e3": "num_steps is '1e3'; it must be an integer",
    "training.num_steps=": "num_steps is ''; it must be an integer",
    "training.num_steps=0": "training.num_steps is 0; it must be at least 1",
    "training.num_steps=-3": "training.num_steps is -3; it must be at least 1",
    "training.log_every=0": "training.log_every is 0; it must be at least 1",
    "training.eval_every=-1": "training.eval_every is -1; it must be at least 1, or 0 for never",
    "training.checkpoint_every=0": "training.checkpoint_every is 0; it must be at least 1",
    "training.keep=0": "training.keep is 0; it must be at least 1",
    "training.steps_per_call=0": "training.steps_per_call is 0; it must be at least 1",
    "training.steps_per_call=2": r"training.eval_every is 3; it must be a multiple of training.steps_per_call \(2\)",
    "training.accumulate=3": r"training.accumulate is 3; it must divide data.batch_size \(100\)",
    "training.ema_decay=1": r"training.ema_decay is 1.0; it must be in \[0, 1\)",
    "training.unroll=maybe": "unroll is 'maybe'; it must be true or false",
    "training.patience=-1": "training.patience is -1; it must be at least 1, or 0",
    "optimizer.learning_rate=abc": "learning_rate is 'abc'; it must be a number",
    "optimizer.learning_rate=nan": "optimizer.learning_rate is nan; it must be finite and above 0",
    "optimizer.learning_rate=-1": "optimizer.learning_rate is -1.0; it must be finite and above 0",
    "optimizer.name=adm": "optimizer.name is 'adm'; did you mean 'adam'",
    "optimizer.schedule=cosin": "optimizer.schedule is 'cosin'; did you mean 'cosine'",
    "optimizer.warmup_steps=30": r"optimizer.warmup_steps is 30; .* below num_steps \(30\)",
    "optimizer.clip_norm=-1": "optimizer.clip_norm is -1.0; it must be finite and at least 0",
    "data.batch_size=0": "data.batch_size is 0; it must be at least 1",
    "data.batch_size=1298": "data.batch_size is 1298, but the training split of digits.* has only 1297",
    "data.name=digit": "data.name is 'digit'.*did you mean 'digits'",
    "data.name=toy2d:two_moon": "'toy2d:two_moon'.*did you mean 'two_moons'",
    "data.name=npz": "data.name is 'npz', but npz needs a path",
    "data.name=npz:nowhere.npz": "'nowhere.npz' does not exist",
    "data.name=text:nowhere.txt": "'?nowhere.txt'? does not exist",
    "data.name=tfds:nothing_of_this_name": "tfds:nothing_of_this_name",
    "data.path=ftp://host/x.npz": "data.path is 'ftp://host/x.npz'; it must be a path of this machine, or one in",
    "data.data_dir=gs://bucket": "data.data_dir is 'gs://bucket'; it must be a path of this machine",
    "data.name=npz:ftp://bucket/x.npz": "data.name is 'ftp://bucket/x.npz', but places behind ftp:// are not supported",
    "data.transforms=(1,)": r"data.transforms is \(1,\); it must be a tuple of names",
    "data.transforms=": r"data.transforms is \('',\); it must be a tuple of names",
    "data.transforms=binarise": "no transform 'binarise'; did you mean 'binarize'",
    "data.transforms=quantize": "'quantize' must be quantize:<levels>",
    "data.transforms=standardize": "standardize needs continuous data .*17 levels",
    "evaluation.batch_size=0": "evaluation.batch_size is 0; it must be at least 1",
    "evaluation.parameters=foo": "evaluation.parameters is 'foo'; it must be auto, ema or live",
    "sampling.temperature=0": "sampling.temperature is 0.0; it must be finite and above 0",
    "seed=-1": r"seed is -1; it must be in \[0, 2\*\*32\)",
    "model.name=fvsb": "model.name is 'fvsb'; did you mean 'fvsbn'",
    "model.name=independent": "model.[a-z_]+ is unknown to independent; known: alpha",
    "model.ordering=natrual": "ordering is 'natrual'; did you mean 'natural'",
    "model.input_dropout=2": "input_dropout is 2.0",
}


@pytest.mark.parametrize("override", FIELDS)
def test_a_field_that_cannot_be_is_named(commands, tmp_path, override):
  workdir = tmp_path / "run"
  refused(commands.run("train", f"{TINY}:digits", f"--workdir={workdir}", f"--config.{override}"), FIELDS[override])
  assert not workdir.exists()


COMMANDS = {
    (): "--config is missing",
    (f"{TINY}:digits",): "--workdir is missing",
    (f"{TINY}:digits", "--workdir={}", "extra"): "argument 'extra' is unknown",
    (f"{TINY}:digits", "--workdir={}", "config.training.num_steps=3"): "argument 'config.training.num_steps=3'",
    (f"{TINY}:digits", "--wrkdir={}"): "'wrkdir'. Did you mean: workdir",
    (f"{TINY}:digits", "--workdir={}", "--config.training.num_steps"): "Missing value for flag",
    ("--config.training.num_steps=3", f"{TINY}:digits", "--workdir={}"): "before a value for --config",
    ("--config.training.num_steps=3", "--workdir={}"): "--config is missing",
    (f"{TINY}:digit", "--workdir={}"): "has no variant 'digit'; did you mean 'digits'",
    ("--config=configs/baselines/chow_lu.py:digits", "--workdir={}"): "did you mean 'configs/baselines/chow_liu.py'",
    ("--config=", "--workdir={}"): "--config is ''",
    (f"--config={HERE}", "--workdir={}"): "there is no file",
    (f"--config={ROOT / 'pyproject.toml'}", "--workdir={}"): "is no Python file",
    (f"--config={ROOT / 'experiments' / 'cli.py'}", "--workdir={}"): "makes no config: .*get_config",
    (f"--config={DEFAULTS}:digits", "--workdir={}"): "model.name is 'digits'; known: .*fvsbn",
    (f"--config={DEFAULTS}", "--workdir={}"): "model.name is ''; known: .*fvsbn",
    (f"{TINY}:digits", f"--workdir={__file__}"): "is a file; name a folder",
    (f"{TINY}:digits", f"--workdir={__file__}/child"): "cannot be written: Not a directory",
    (f"{TINY}:digits", "--workdir=/proc/nowhere/run"): "cannot be written: No such file",
    (f"{TINY}:digits", "--workdir=ftp://bucket/run"): "workdir is 'ftp://bucket/run', but places behind ftp:// are not",
    (f"{TINY}:digits", "--workdir={}[1e-3]"): r"workdir is '.*run\[1e-3\]', whose path has '\['",
    (f"{TINY}:digits", f"--workdir={HERE}"): "holds .*, .* but no config.json; name an empty folder",
    (f"{TINY}:digits", "--workdir={}", "--config.training.eval_every=0", "--config.training.patience=2"):
        "training.patience is 2, but training.eval_every is 0",
    (f"{TINY}:digits", "--workdir={}", "--config.training.ema_decay=0", "--config.evaluation.parameters=ema"):
        "evaluation.parameters is 'ema', but the run keeps no averages",
    (f"{TINY}:gray", "--workdir={}", "--config.model.heads=binary"): "needs binary data .* of 17 levels",
}


@pytest.mark.parametrize("args", COMMANDS, ids=" ".join)
def test_a_command_that_cannot_be_is_explained(commands, tmp_path, args):
  workdir = tmp_path / "run"
  refused(commands.run("train", *(arg.format(workdir) if arg.startswith("--w") else arg for arg in args)),
          COMMANDS[args])
  assert not workdir.exists()


PLACES = {
    ("evaluate", "--workdir=hdfs://b/run"): "workdir is 'hdfs://b/run', but places behind hdfs://",
    ("sample", "--workdir=runs/a[1]"): r"workdir is 'runs/a\[1\]', whose path has",
    ("export", "--workdir={}", "--out=ftp://b/w.safetensors"): "--out is 'ftp://b/w.safetensors', but places behind ftp://",
    ("compress", "--workdir={}", "--out=ftp://b/x.gdm"): "--out is 'ftp://b/x.gdm', but places",
    ("decompress", "--workdir={}", "--in=ftp://b/x.gdm", "--out=x.npz"): "--in is 'ftp://b/x.gdm', but places",
    ("generate", "--workdir={}", "--out=ftp://b/x.json"): "--out is 'ftp://b/x.json', but places",
    ("sweep", f"{TINY}:digits", "--root=ftp://b/sweep", "--grid=seed=0,1"): "--root is 'ftp://b/sweep', but places",
    ("sweep", f"{TINY}:digits", "--root=sweep[1]", "--grid=seed=0,1"): r"--root is 'sweep\[1\]', whose path has",
    ("ensemble", "--workdir=ftp://b/e", "a", "b"): "workdir is 'ftp://b/e', but places",
    ("ensemble", "--workdir={}", "ftp://b/1", "ftp://b/2"): "workdir is 'ftp://b/1', but places",
    ("compose", "--workdir=e[1]", "a", "b"): r"workdir is 'e\[1\]', whose path has",
    ("leaderboard", "ftp://b/runs"): "argument is 'ftp://b/runs', but places",
    ("latent", "--workdir=ftp://b/run"): "workdir is 'ftp://b/run', but places",
    ("quality", "--workdir=ftp://b/run"): "workdir is 'ftp://b/run', but places",
    ("outliers", "--workdir=ftp://b/run"): "workdir is 'ftp://b/run', but places",
    ("bracket", "--workdir=ftp://b/run"): "workdir is 'ftp://b/run', but places",
}


@pytest.mark.parametrize("args", PLACES, ids=" ".join)
def test_places_where_nothing_could_be_kept_are_refused(commands, tmp_path, monkeypatch, args):
  binary, *flags = args
  refused(commands.run(binary, *(flag.format(tmp_path / "run") for flag in flags)), PLACES[args])
  assert not list(tmp_path.iterdir())
  assert not any((ROOT / name).exists() for name in ("gs:", "s3:", "sweep[1]", "e[1]"))


def files(folder):
  """npz files that cannot be used -> what is said of them."""
  rng = np.random.default_rng(0)
  good = {name: rng.integers(0, 2, (num, 6)).astype(np.uint8) for name, num in
          (("train", 100), ("valid", 20), ("test", 20))}
  real = {name: x.astype(np.float32) for name, x in good.items()}
  real["valid"][3, 2] = np.nan
  np.savez(folder / "good.npz", **good)
  contents = (folder / "good.npz").read_bytes()
  (folder / "truncated.npz").write_bytes(contents[:len(contents) // 2])
  (folder / "flipped.npz").write_bytes(contents[:500] + bytes([contents[500] ^ 1]) + contents[501:])
  (folder / "text.npz").write_text("0,1,1")
  np.savez(folder / "pickled.npz", **{**good, "train": np.array([{"a": 1}], dtype=object)})
  np.savez(folder / "rank.npz", **{name: x[:, 0] for name, x in good.items()})
  np.savez(folder / "levels.npz", **{**good, "test": good["test"] * 3}, levels=2)
  np.savez(folder / "nan.npz", **real)
  np.savez(folder / "empty.npz", **{**good, "test": good["test"][:0]})
  return {
      "truncated": "is truncated or no npz archive",
      "flipped": "is damaged",
      "text": "is truncated or no npz archive",
      "pickled": "array 'train' holds pickled Python objects, which are never loaded",
      "rank": r"array 'train' has shape \(100,\); it must be \[N, ...\]",
      "levels": r"array 'test': the value at index .* is 3, but levels is 2",
      "nan": r"split valid: the value at index \[3, 2\] is nan",
      "empty": r"array 'test' has shape \(0, 6\): it is empty",
      "missing": "does not exist",
  }


def test_files_that_cannot_be_used_are_named(commands, tmp_path):
  workdir = tmp_path / "run"
  for name, pattern in files(tmp_path).items():
    path = tmp_path / f"{name}.npz"
    refused(commands.run("train", f"{TINY}:npz", f"--workdir={workdir}", f"--config.data.path={path}"), pattern)
    assert not workdir.exists()


def test_a_batch_that_the_devices_cannot_share_is_refused(commands, tmp_path):
  refused(commands.run("train", f"{TINY}:digits", f"--workdir={tmp_path / 'run'}",
                       XLA_FLAGS="--xla_force_host_platform_device_count=3"),
          "data.batch_size is 100; it must be a multiple of the number of devices, 3")


LATER = {
    ("evaluate",): "--workdir is missing",
    ("evaluate", "--workdir=/nowhere"): "workdir /nowhere does not exist",
    ("evaluate", f"--workdir={HERE}"): "has no config.json; name a folder that experiments.train made",
    ("evaluate", f"--workdir={__file__}"): "is no safetensors file",
    ("evaluate", "--workdir={}", "test"): "argument 'test' is unknown",
    ("evaluate", "--workdir={}", "--split=tset"): "no split 'tset'; did you mean 'test'",
    ("evaluate", "--workdir={}", "--checkpoint=7"): r"--checkpoint is '7'; it must be best, last, or one of .*30",
    ("evaluate", "--workdir={}", "--checkpoint=lsat"): "--checkpoint is 'lsat'",
    ("evaluate", "--workdir={}", "--config.evaluation.parameters=foo"): "it must be auto, ema or live",
    ("evaluate", "--workdir={}", "--config.evaluation.batch_size=-1"): "evaluation.batch_size is -1",
    ("evaluate", "--workdir={}", "--config.evaluation.num_draws=x"): "num_draws is 'x'; it must be an integer",
    ("evaluate", "--workdir={}", "--config.evaluation.num_draw=3"): "did you mean 'num_draws'",
    ("evaluate", "--workdir={}", "--config.training.num_steps=3"): "training is fixed by the run",
    ("evaluate", "--workdir={}", "--config.data.transforms=()"): "data.transforms belongs to a run.s training",
    ("sample", "--workdir=/nowhere"): "workdir /nowhere does not exist",
    ("sample", "--workdir={}", "--num=0"): "--num is 0; it must be at least 1",
    ("sample", "--workdir={}", "--num=many"): "--num=many",
    ("sample", "--workdir={}", "--known=2"): r"--known is 2.0; it must be in \[0, 1\]",
    ("sample", "--workdir={}", "--config.sampling.temperature=-1"): "sampling.temperature is -1.0",
    ("sample", "--workdir={}", "--config.sampling.temprature=1"): "did you mean 'temperature'",
    ("train", f"{TINY}:digits", "--workdir={}", "--config.optimizer.learning_rate=0.5"):
        "belongs to another config .optimizer.learning_rate: 0.01 there, 0.5 now.; name another",
    ("train", f"{TINY}:independent", "--workdir={}"): "model.name: 'fvsbn' there, 'independent' now",
}


@pytest.mark.parametrize("args", LATER, ids=" ".join)
def test_a_finished_run_is_left_alone_by_commands_that_cannot_be(commands, unbroken, args):
  workdir = unbroken("digits")
  before = {path: path.stat().st_mtime_ns for path in workdir.rglob("*")}
  binary, *rest = (arg.format(workdir) if arg.startswith("--w") else arg for arg in args)
  refused(commands.run(binary, *rest), LATER[args])
  assert {path: path.stat().st_mtime_ns for path in workdir.rglob("*")} == before


def test_a_model_that_cannot_sample_is_told():
  """No model of the registry lacks the capability yet, so a stand-in does."""
  from gdm.errors import ConfigError

  class Run:
    model = object()

    class config:
      class model:
        name = "nothing"

      class sampling:
        temperature = 1.0

  with pytest.raises(ConfigError, match="nothing cannot sample"):
    draw_samples(Run)


def test_a_config_file_with_a_mistake_is_named(commands, tmp_path):
  path = tmp_path / "broken.py"
  path.write_text("def get_config(:\n")
  refused(commands.run("train", f"--config={path}", f"--workdir={tmp_path / 'run'}"), "is no Python file: .*line 1")
  path.write_text("def get_config():\n  return {'a': 1}\n")
  refused(commands.run("train", f"--config={path}", f"--workdir={tmp_path / 'run'}"), "get_config returns dict")


def test_one_process_of_its_own_says_the_same():
  """As a user starts it, without the server of the other tests: one line, nothing of any library's."""
  import subprocess
  result = subprocess.run([sys.executable, "-m", "experiments.train", f"{TINY}:digits", "--workdir=/proc/nowhere/run"],
                          capture_output=True, text=True, cwd=ROOT, check=False)
  assert (result.returncode, result.stdout) == (2, "")
  assert result.stderr.startswith("error: workdir /proc/nowhere/run") and result.stderr.count("\n") == 1


PAGES = {path.stem: path.read_text() for path in sorted((ROOT / "experiments").glob("*.py"))}
NUMBERS = [(name, flag) for name, text in PAGES.items()
           for flag in re.findall(r'DEFINE_integer\("(num|seed|num_steps|num_particles)"', text)]
# Where the library refuses it, and says why.
CHECKED_LATER = {("attack", "num_steps"), ("bracket", "num"), ("landscapes", "num_steps"), ("quality", "num")}


@pytest.mark.parametrize(("command", "flag"), NUMBERS, ids="-".join)
def test_counts_and_seeds_have_a_least_value(command, flag):
  """Below it NumPy raises, deep within, after a run was read."""
  text = PAGES[command]
  definition = re.search(rf'DEFINE_integer\("{flag}".*?\)\n', text, re.DOTALL).group()
  checks = re.findall(r"at_least\((.*?)\)", text)
  assert "lower_bound" in definition or any(f"{flag}=" in call for call in checks) or (command, flag) in CHECKED_LATER


@pytest.mark.parametrize("command", [name for name, text in PAGES.items() if 'DEFINE_string("out"' in text])
def test_a_place_for_a_file_is_tried_before_anything_is_computed(command):
  if command not in ("prepare", "generate"):  # which make folders, generate those of sounds
    assert 'require_place("out")' in PAGES[command]
