"""State, step, loop, checkpoint: knows the contract and no family.

By hand: `init_state`, `make_train_step` and `fit`; `train_with_checkpoints` saves and resumes beside.
"""

from gdm.exports import on_demand

__getattr__, __dir__ = on_demand(__name__, {
    "Checkpointer": "checkpoint", "Ended": "loop", "Hook": "loop", "Iterated": "by_hand", "MetricsWindow": "metrics",
    "TrainState": "state", "fit": "loop", "init_state": "state", "load_weights": "weights",
    "make_optimizers": "optimizer", "make_train_step": "step", "save_weights": "weights",
    "train_with_checkpoints": "by_hand",
})
