"""Model-FLOPs utilization: what a step computes, over what its devices could have computed in the same time."""

from collections.abc import Mapping

from jax.sharding import Mesh

# Peak FLOP/s of one JAX device with dense bfloat16 products, from the makers' data sheets. A device of a TPU v2 or v3
# is one core of two.
PEAK_FLOPS: Mapping[str, float] = {
    "NVIDIA V100-SXM2-16GB": 125e12,
    "NVIDIA A100-SXM4-40GB": 312e12,
    "NVIDIA A100-SXM4-80GB": 312e12,
    "NVIDIA A100 80GB PCIe": 312e12,
    "NVIDIA L4": 121e12,
    "NVIDIA L40S": 362e12,
    "NVIDIA H100 80GB HBM3": 989e12,
    "NVIDIA H100 PCIe": 756e12,
    "NVIDIA H200": 989e12,
    "NVIDIA B200": 2250e12,
    "TPU v2": 22.5e12,
    "TPU v3": 61.5e12,
    "TPU v4": 275e12,
    "TPU v5 lite": 197e12,
    "TPU v5": 459e12,
    "TPU v6 lite": 918e12,
}


def utilization(mesh: Mesh, flops_per_step: int | float | None, steps_per_second: int | float) -> float | None:
  """Return the fraction of the mesh's peak; None where the device's peak, or the step's FLOPs, are unknown."""
  peak = PEAK_FLOPS.get(mesh.devices.flat[0].device_kind)
  if peak is None or not flops_per_step:
    return None
  return flops_per_step * steps_per_second / (peak * mesh.size)
