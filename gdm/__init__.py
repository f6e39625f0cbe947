"""Deep generative models in JAX and Flax: one contract, one train step, likelihoods that say what they are.

On CPUs, jaxlib 0.10 hands fused sums to a library that gets some of them wrong: from about 2^16 examples on, a sum over
products with an expm1 or log1p of each example, next to another one, is off by any factor (tests/test_compiler.py). So
importing this package leaves that library matrix products alone, which it does well; it must come before the first
computation. Who has set that flag of XLA_FLAGS already keeps it.
"""

import os
from importlib import metadata

_FLAG = "--xla_cpu_experimental_ynn_fusion_type"

# Another version may not know the flag, and XLA ends the process over one that it does not know.
if metadata.version("jaxlib").startswith(("0.10.", "0.11.")) and _FLAG not in os.environ.get("XLA_FLAGS", ""):
  os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {_FLAG}=".strip()
