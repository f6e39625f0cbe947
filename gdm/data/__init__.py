"""Sources of data, transforms, the loader."""

from gdm.exports import on_demand

__getattr__, __dir__ = on_demand(__name__, {
    "Dataset": "dataset", "Loader": "loader", "eval_batches": "loader", "load_dataset": "load",
})
