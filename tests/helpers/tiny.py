"""Models and data small enough for tests: a run of one takes a second."""

from gdm.runs import defaults

FVSBN = {"name": "fvsbn", "input_dropout": 0.1, "heads": "auto", "ordering": "natural"}
BINARY_DIGITS = {"name": "digits", "transforms": ("binarize",)}

VARIANTS = {
    "digits": {"data": BINARY_DIGITS, "model": FVSBN},
    "searched": {"data": BINARY_DIGITS, "model": FVSBN,
                 "search": {"model": {"input_dropout": (0.0, 0.5)}, "optimizer": {"learning_rate": (1e-6, 0.1)}}},
    "gray": {"data": {"name": "digits"}, "model": FVSBN},
    "npz": {"data": {"name": "npz", "batch_size": 20}, "model": FVSBN},
    "by_size": {"data": {"name": "npz", "batch_size": 20}, "model": FVSBN,
                "large": {"rows": 40, "optimizer": {"learning_rate": 1e-9}}},
    "flow": {"data": {"name": "digits"}, "model": {"name": "nice", "num_layers": 3, "hidden": (8,)}},
    "labelled_flow": {"data": {"name": "digits"}, "model": {"name": "nice", "num_layers": 3, "hidden": (8,),
                                                            "class_conditional": True}},
    "conditional_gan": {"data": {"name": "digits", "batch_size": 20},
                        "model": {"name": "conditional_gan", "latent_dims": 4, "generator": {"width": 2},
                                  "critic": {"width": 2}}},
    "ardm": {"data": BINARY_DIGITS, "model": {"name": "ardm", "network": {"name": "mlp", "hidden": (16,)}}},
    "tokens": {"data": BINARY_DIGITS, "model": {"name": "recurrent", "network": {"num_layers": 1, "width": 4}}},
    "denoiser": {"data": {"name": "digits", "batch_size": 40},
                 "model": {"name": "edm", "network": {"name": "unet", "width": 4, "num_blocks": 1, "multipliers": (1,)},
                           "class_conditional": True, "label_dropout": 0.2}},
    "plane": {"data": {"name": "toy2d:two_moons"}, "model": {"name": "maf", "num_layers": 1, "hidden": (8,)}},
    "independent": {"data": {"name": "digits"}, "model": {"name": "independent", "alpha": 1.0}},
    "mixture": {"data": {"name": "digits"},
                "model": {"name": "mixture", "num_components": 3, "num_iterations": 5, "num_restarts": 1,
                          "tolerance": 1e-4}},
}


def get_config(variant: str = "digits"):
  config, settings = defaults.get_config(), defaults.choose(variant, VARIANTS)
  config.data.update(settings["data"])
  config.model = settings["model"]
  config.search, config.large = settings.get("search", {}), settings.get("large", {})
  config.optimizer.learning_rate = 0.01
  is_solved = variant in ("independent", "mixture")
  config.training.update(num_steps=30, log_every=2, eval_every=3, checkpoint_every=4,
                         ema_decay=0.0 if is_solved else 0.9)
  return config
