"""Pushing of files to a repository of the Hugging Face hub."""

from collections.abc import Iterable
from pathlib import Path

from gdm.errors import ConfigError, WorkdirError
from gdm.extras import load_extra


def push(files: Iterable[Path], repository: str, endpoint: str | None = None) -> str:
  """Put files into a repository, made if absent, in one commit; return its address.

  Args:
    files: the files, by their names; a model card becomes README.md, as the hub shows it.
    repository: "name/repository".
    endpoint: of the hub; by default the library's own, as HF_ENDPOINT says.

  Raises:
    ConfigError: huggingface_hub is not installed, or the name is none.
    WorkdirError: the hub refused, or cannot be reached.
  """
  hub = load_extra("huggingface_hub", "hub", "--push")
  operations = [hub.CommitOperationAdd("README.md" if path.suffix == ".md" else path.name, path) for path in files]
  try:
    api = hub.HfApi(endpoint=endpoint)
    place = api.create_repo(repository, exist_ok=True)
    api.create_commit(repository, operations, commit_message="Exported by gdm")
  except hub.errors.HFValidationError as error:
    raise ConfigError(f"--push is {repository!r}; it must be name/repository: {error}") from error
  except Exception as error:  # the library hands on its transport's own errors, which differ between its versions
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    raise WorkdirError(f"{repository} cannot be pushed to: {reason}") from error
  return str(place)
