"""Says of trained runs what is proven about their numbers and what is claimed.

  python -m experiments.audit DIR... [--split=test] [--against=MODEL] [--out=audit.html] [--markdown=audit.md]

DIR is a workdir, or a folder of workdirs. Of each run: whether the probabilities of a small twin, a model of the same
code and settings, sum to one; whether scores are the sums of conditionals that see nothing later, or latents come back,
at the trained weights; whether the whole split was scored once; kind and interval; some examples coded and decoded; the
paired difference from a reference, the best run of its table or --against; seconds and floating-point operations of
training; and the quality of samples, where it was measured. Prints them and writes a page, in HTML and markdown. Ends
with exit status 1 where a check failed.
"""

from collections.abc import Sequence

from absl import flags

from experiments import cli
from gdm.paths import write_whole
from gdm.studies.audit_page import audit_runs, markdown, save_audit_page, text_lines

_SPLIT = flags.DEFINE_string("split", "test", "train, valid or test.")
_AGAINST = flags.DEFINE_string("against", "", "A model or a run that all are compared with; the best one by default.")
_OUT = flags.DEFINE_string("out", "audit.html", "The page to write.")
_MARKDOWN = flags.DEFINE_string("markdown", "audit.md", "The same in markdown.")


def main(arguments: Sequence[str]) -> int:
  folders = cli.require_folders(arguments, "audit", "[--split=test] [--out=audit.html]")
  page, plain = cli.require_place("out"), cli.require_place("markdown")
  audited = []
  for each in audit_runs(folders, _SPLIT.value, _AGAINST.value):
    audited.append(each)
    print("\n".join(text_lines(each)), flush=True)
  save_audit_page(page, audited)
  write_whole(plain, lambda file: file.write(markdown(audited).encode()))
  failed = sum(len(each.audit.failed) for each in audited)
  print(f"{len(audited)} runs, {failed} checks failed; {page} and {plain}")
  return 1 if failed else 0


if __name__ == "__main__":
  cli.run(main, with_arguments=True)
