"""What each variant of a config serves: one name is one data set, whatever the model, so that numbers share a table.

The rule of transforms: tables (`npz`, `red_wine`) are served standardized where they are real numbers, and with their
blocks where they are binary; images, text, sound and densities that are known are served as they are. A model that
needs other data, as one of bits does, takes a variant of another name.
"""

from typing import Any

from gdm.runs import defaults

# What none of them suits is served as it is: integers, data without a context, data that are not binary.
TABLE = ("standardize?", "standardize_context?", "blocks")
SHAKESPEARE = "text:../shared/data/tiny_shakespeare.txt"  # validation is the last 10 %
DIGITS_BY_SPEAKERS = "npz:../shared/data/spoken_digits.npz#rate=8000&label=label*speaker"

SETS: dict[str, dict[str, Any]] = {
    # Images.
    "digits": {"name": "digits"},
    "binarized_digits": {"name": "digits", "transforms": ("binarize",)},
    "digits_4x4": {"name": "digits", "transforms": ("resize:4", "binarize")},
    "binarized_mnist": {"name": "tfds:binarized_mnist"},
    "binarized_mnist_4x4": {"name": "tfds:binarized_mnist", "transforms": ("resize:4",)},
    "mnist": {"name": "tfds:mnist"},
    "stacked_mnist": {"name": "tfds:mnist", "transforms": ("stack",)},  # 1,000 modes
    "cifar10": {"name": "tfds:cifar10"},
    "images": {"name": "npz"},  # any: with --config.data.path=FILE
    "captions": {"name": "npz"},  # any images with captions: with --config.data.path=FILE#prefix=caption
    # Tables.
    "npz": {"name": "npz", "transforms": TABLE},  # any: with --config.data.path=FILE
    "red_wine": {"name": "npz", "transforms": TABLE},  # with --config.data.path=FILE#fold=1
    # Binary sets with a head for each column, as in the papers; and by blocks.
    **{name: {"name": "npz"} for name in ("adult", "dna", "mushrooms")},
    **{f"{name}_blocks": {"name": "npz", "transforms": TABLE} for name in ("adult", "dna")},
    # Densities in the plane that are known.
    "toy2d": {"name": "toy2d:two_moons"},
    **{name: {"name": f"toy2d:{name}#train=50000"}
       for name in ("two_moons", "eight_gaussians", "ring8", "grid", "rings", "spirals", "ring", "banana", "spiral")},
    "rings_100k": {"name": "toy2d:rings#train=100000"},
    # Text and sound.
    "text": {"name": "text"},  # any: with --config.data.path=FILE, or FILE#context=128
    "shakespeare": {"name": f"{SHAKESPEARE}#context=64"},
    "shakespeare_long": {"name": f"{SHAKESPEARE}#context=128"},
    # Music: the published split of the JSB chorales, as piano rolls, whole; training in all keys.
    "jsb": {"name": "npz:../shared/data/jsb_chorales.npz#music=roll:1", "transforms": ("transpose:6",)},
    # The same as four voices at sixteenth notes, windows of 4 bars.
    "jsb_voices": {"name": "npz:../shared/data/jsb_satb16.npz#music=voices:4&context=64",
                   "transforms": ("transpose:6",)},
    # The same rolls as tokens, in windows of 64 frames: a chorale has 60 on average.
    "jsb_events": {"name": "npz:../shared/data/jsb_chorales.npz#music=roll:1&context=64",
                   "transforms": ("transpose:6", "events")},
    "midi": {"name": "midi", "transforms": ("transpose:6",)},  # any: with --config.data.path=FOLDER
    # Ten digits by six speakers at 8 kHz, in windows of a quarter of a second; a tenth of the training part validates.
    "spoken_digits": {"name": "npz:../shared/data/spoken_digits.npz#context=2048&rate=8000"},
    # The same whole, given digit and speaker: 0.64 s of sound, of which 93 % of the recordings have no more; and the
    # spectrograms of these, 32 bands by 40 frames.
    "digit_sounds": {"name": DIGITS_BY_SPEAKERS, "transforms": ("clip:5120",)},
    "digit_spectrograms": {"name": DIGITS_BY_SPEAKERS, "transforms": ("clip:5120", "spectrogram:32")},
    # What experiments.record writes: with --config.data.path=FILE.npz
    "worlds": {"name": "npz"},
    "pictures": {"name": "npz"},  # the same with --observations=pictures
    "audio": {"name": "wav"},  # any: with --config.data.path=FILE.wav, or a folder of WAV files
}


def choose(variant: str, variants: dict[str, dict[str, Any]]) -> dict[str, Any]:
  """Return the settings of a variant, and the data that it serves; a ConfigError names the nearest known one."""
  settings = defaults.choose(variant, variants)
  return {**settings, "data": {**settings.get("data", {}), **SETS[variant]}}
