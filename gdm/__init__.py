"""Deep generative models in JAX and Flax: one contract, one train step, likelihoods that say what they are.

On CPUs, XLA miscompiles some sums and products unless a flag is set before JAX starts (gdm/compiler.py). Importing this
package sets it, so the import must come before the first computation; where it comes too late, a warning says so.
"""

from gdm import compiler

compiler.prepare(stacklevel=2)  # a warning names the line that imports gdm
