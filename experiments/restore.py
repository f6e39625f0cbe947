"""Restores test examples from measurements, by a trained model, and scores the draws.

  python -m experiments.restore --workdir=runs/edm --operator=downsample:2 --sampler=pigdm --num=19
  python -m experiments.restore --workdir=runs/edm --operator=mask:box,blur:1,radon:6 --sampler=ddrm,dps,particles
      [--noise=0.5] [--examples=50] [--num_steps=100] [--num_particles=256] [--guidance=1] [--labels] [--timed]
      [--classifier=runs/classifier]

Operators are mask:<share known, or hidden region>, lowest:<rows>, blur:<deviation>, downsample:<factor>, grey,
project:<number>, fourier:<one in so many lines>, radon:<angles> and quantize:<step>; joined by "+" they follow each
other. Samplers of diffusion models are replacement, repaint, projection, ddrm, pigdm, dps, particles and twisted; of
energies, flows and GANs posterior (measurements with noise); of models that complete examples completion (masks without
noise). docs/guides/inverse.md says which is right when. Commas make a table of all pairs.

Prints the PSNR of what a linear operator's pseudo-inverse makes of the measurements, without a model. Then PSNR and
SSIM of the mean of the draws, the share of values inside intervals between draws beside the stated one, the distance
of draws from data, and network evaluations. With --classifier, a run that tells labels, also how often it is right: of
the examples, without a model, and of draws. Writes `restored.json`, and for each pair
`restored_<operator>_<sampler>.png` and `.npz` into the workdir; of spectrograms WAV files, too.
"""

from absl import flags

from experiments import cli
from gdm.studies.restoration import restore_all

_OPERATOR = flags.DEFINE_string("operator", "downsample:2", "Operators, separated by commas.")
_SAMPLER = flags.DEFINE_string("sampler", "", "Samplers, separated by commas; the model's own first choice for none.")
_NUM = flags.DEFINE_integer("num", 19, "Draws of each example; 19 are the fewest for intervals of 90 %.")
_EXAMPLES = flags.DEFINE_integer("examples", 50, "Examples, spread over the split.")
_NOISE = flags.DEFINE_float("noise", 0.0, "Deviation of the measurements' noise, in the data's units.")
_STEPS = flags.DEFINE_integer("num_steps", 0, "Steps; 0 is each sampler's own choice.", lower_bound=0)
_PARTICLES = flags.DEFINE_integer("num_particles", 0, "Particles; 0 is the sampler's own choice.", lower_bound=0)
_GUIDANCE = flags.DEFINE_float("guidance", 1.0, "With --labels: how much more than given the labels.")
_LABELS = flags.DEFINE_bool("labels", False, "Whether the model is given the examples' labels.")
_CLASSIFIER = flags.DEFINE_string("classifier", "", "Folder of a trained run that tells labels.")
_TIMED = flags.DEFINE_bool("timed", False, "Whether to restore twice, to tell the speed without compiling, and memory.")
_SPLIT = flags.DEFINE_string("split", "test", "train, valid or test.")
_SEED = flags.DEFINE_integer("seed", 0, "Of operators, noise and draws.", lower_bound=0)
cli.define_run("data", "evaluation")


def main() -> None:
  samplers, operators = ([part.strip() for part in text.split(",")] for text in (_SAMPLER.value, _OPERATOR.value))
  cli.at_least(num=1, examples=1, noise=0.0)
  cli.show(restore_all(cli.open_run(), operators, samplers, num=_NUM.value, num_examples=_EXAMPLES.value,
                       noise=_NOISE.value, num_steps=_STEPS.value, num_particles=_PARTICLES.value,
                       guidance=_GUIDANCE.value, with_labels=_LABELS.value, classifier=_CLASSIFIER.value,
                       is_timed=_TIMED.value, split=_SPLIT.value, seed=_SEED.value))


if __name__ == "__main__":
  cli.run(main)
