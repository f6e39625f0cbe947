"""The two ends of an energy model's likelihood, and how far they are apart, against the number of temperatures.

  python -m experiments.bracket --workdir=runs/rbm --split=test --temperatures=30,100,300,1000
      [--checkpoint=best|last|STEP] [--config.evaluation.num_samples=4 ...] [--config.data.data_dir=DIR]

To change what experiments.evaluate takes, say --config.evaluation.likelihood=ais,num_temperatures=10000 there.
Prints a line for each number of temperatures, and writes `bracket.json` and `bracket.png` into the workdir. Where the
partition function is known exactly, the picture shows the true value as well. The lower end is a bound of the annealed
sampler (RAISE), not of log p, and the line says where the upper end refutes it as such; of integers, which are
dequantized, there is no upper end. Of a latent-variable model, both ends are bounds of log p of examples that it draws
itself (--num of them).
"""

from absl import flags

from experiments import cli
from gdm.studies.brackets import bracket_run, parse_numbers

_SPLIT = flags.DEFINE_string("split", "test", "train, valid or test.")
_TEMPERATURES = flags.DEFINE_list("temperatures", ["30", "100", "300", "1000"], "Numbers of steps, rising.")
_NUM = flags.DEFINE_integer("num", 100, "Of latent-variable models: how many examples to simulate.")
cli.define_run("evaluation", "data")


def main() -> None:
  numbers = parse_numbers(_TEMPERATURES.value)
  cli.show(bracket_run(cli.open_run(), numbers, _SPLIT.value, _NUM.value))


if __name__ == "__main__":
  cli.run(main)
