"""Small programs of the kinds that models are made of, compiled as a whole against one operation at a time in float64.

XLA has compiled some programs wrongly without an error (gdm/compiler.py). `programs(size)` lists programs whose kinds
cover what this package compiles; `error(program)` is how far its compiled result is from the reference. The slow tests
run all of them at several sizes, `experiments.doctor` each at one.

  for program in selfcheck.programs(256):
    assert selfcheck.error(program) < program.tolerance, program.name
"""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import logsumexp
from jaxtyping import Array

FLOAT32 = 1e-3  # tolerances, relative to the largest value of a result; miscompiled ones are off by 0.1 and more
BFLOAT16 = 5e-2

_32_BITS = {"float64": np.float32, "int64": np.int32}

ELEMENTWISE: dict[str, Callable[[Array], Array]] = {
    "exp": jnp.exp, "expm1": jnp.expm1, "log1p": jnp.log1p, "tanh": jnp.tanh, "sigmoid": jax.nn.sigmoid,
    "softplus": jax.nn.softplus, "silu": jax.nn.silu, "gelu": jax.nn.gelu, "relu": jax.nn.relu,
    "erf": jax.scipy.special.erf, "sin": jnp.sin, "square": jnp.square, "sqrt": lambda x: jnp.sqrt(1 + x),
    "rsqrt": lambda x: jax.lax.rsqrt(1 + x), "power": lambda x: (1 + x) ** 1.5, "log": lambda x: jnp.log(1 + x),
    "divide": lambda x: 1 / (1.5 + x), "arctan": jnp.arctan, "lgamma": lambda x: jax.scipy.special.gammaln(1.5 + x),
    "clip": lambda x: jnp.clip(x, -0.5, 0.5),
}


# One or a few programs of each kind, those that found the faults known so far among them.
SHORT = (
    "sums/expm1", "sums/log1p", "sums/softplus", "sums/two of expm1", "sums/expm1 over examples",
    "sums/expm1 by example", "sums/expm1, gradients", "reductions/logsumexp of a function", "reductions/softmax -1",
    "reductions/cumsum 0", "constants/zeros", "constants/ones", "constants/full", "constants/ones, batched",
    "constants/full, gradient", "constants/narrow", "constants/identity", "constants/made inside, 0.0",
    "constants/gradient by, 1.0", "products/attention", "networks/rbm of equal parameters closed over",
    "networks/autoencoder of random parameters, gradients", "networks/masked of zero parameters closed over",
    "networks/gaussian of zero parameters closed over", "networks/cross-entropy", "convolutions/plain",
    "convolutions/causal", "loops/recurrence", "indexing/segment sum", "linear algebra/cholesky", "random/bits",
)


@dataclasses.dataclass(frozen=True)
class CheckedProgram:
  """A function to compile and its arguments.

  Attributes:
    name: kind and variant, `sums/expm1`.
    function: from arrays to an array, or a tree of them.
    arguments: float64 or integer arrays; the compiled program gets 32 bits of each.
    tolerance: greatest error to accept, in units of the largest value of a result.
    reference_bits: 64, or 32 where the function draws random numbers, which depend on the type.
  """

  name: str
  function: Callable[..., object]
  arguments: tuple[Any, ...]
  tolerance: float = FLOAT32
  reference_bits: int = 64


def error(program: CheckedProgram) -> float:
  """Return how far the compiled result is from the reference: the largest difference over the result's largest value.

  The reference is computed on the CPU where JAX has one here. Products have the highest precision on other devices.
  Infinite where one of the two is not finite and the other is, or another infinity.
  """
  with jax.enable_x64(program.reference_bits == 64), jax.disable_jit(), jax.default_device(_reference_device()):
    arguments = program.arguments if program.reference_bits == 64 else _to_32_bits(program.arguments)
    expected = jax.device_get(jax.tree.leaves(program.function(*jax.tree.map(jnp.asarray, arguments))))
  # On a CPU, asking for a precision changes no result, but a program should be compiled as users have it.
  precision = None if jax.default_backend() == "cpu" else "highest"
  with jax.enable_x64(False), jax.disable_jit(False), jax.default_matmul_precision(precision):
    found = jax.device_get(jax.tree.leaves(jax.jit(program.function)(*_to_32_bits(program.arguments))))
  return max(_difference(np.asarray(a, np.float64), np.asarray(b, np.float64))
             for a, b in zip(found, expected, strict=True))


def _reference_device() -> Any:
  try:
    return jax.local_devices(backend="cpu")[0]
  except RuntimeError:  # JAX_PLATFORMS leaves the CPU out
    return None


def _to_32_bits(tree: Any) -> Any:
  def convert(x: Any) -> Any:
    return np.asarray(x, _32_BITS.get(x.dtype.name, x.dtype)) if isinstance(x, np.ndarray) else x
  return jax.tree.map(convert, tree)


def _difference(found: np.ndarray, expected: np.ndarray) -> float:
  if found.shape != expected.shape:
    return np.inf
  finite = np.isfinite(expected)
  if not np.array_equal(found[~finite], expected[~finite], equal_nan=True) or not np.isfinite(found[finite]).all():
    return np.inf
  scale = max(np.abs(expected[finite]).max(initial=0), 1e-6)
  return float(np.abs(found[finite] - expected[finite]).max(initial=0) / scale)


def programs(size: int) -> Iterator[CheckedProgram]:
  """Yield all programs; `size` is the number of examples, and bounds the width of matrices."""
  for kind in (_sums, _reductions, _products_with_constants, _products, _networks, _convolutions, _loops, _indexing,
               _linear_algebra, _random):
    yield from kind(size, np.random.default_rng(size))


def _sums(n: int, random: np.random.Generator) -> Iterator[CheckedProgram]:
  """Sum over a short axis, next to functions of each example."""
  t, noise = np.linspace(1e-5, 0.9, n), random.normal(size=(n, 2))
  for name, f in ELEMENTWISE.items():
    yield CheckedProgram(f"sums/{name}", lambda t, noise, f=f: f(t) * jnp.sum(noise * f(-0.9 * t)[:, None], -1),
                         (t, noise))
  for name in ("expm1", "log1p", "softplus", "tanh"):
    f = ELEMENTWISE[name]
    yield CheckedProgram(f"sums/two of {name}", lambda t, noise, f=f: (
        jnp.sum(noise * f(t)[:, None], -1) * jnp.sum(noise**2 * f(-0.9 * t)[:, None], -1)), (t, noise))
    yield CheckedProgram(f"sums/{name} over examples", lambda t, noise, f=f: (
        f(t)[:, None] * jnp.sum(noise * f(-0.9 * t)[:, None], 0)), (t, noise))
    yield CheckedProgram(f"sums/{name}, gradients", lambda t, noise, f=f: jax.grad(lambda t, noise: jnp.sum(
        f(t) * jnp.sum(noise * f(-0.9 * t)[:, None], -1)), (0, 1))(t, noise), (t, noise))
    yield CheckedProgram(f"sums/{name} by example", lambda t, noise, f=f: jax.vmap(
        lambda t, noise: f(t) * jnp.sum(noise * f(-0.9 * t)))(t, noise), (t, noise))


def _reductions(n: int, random: np.random.Generator) -> Iterator[CheckedProgram]:
  """Reductions of all kinds, over each axis, and normalizations by them."""
  x = random.normal(size=(n, 24))
  kinds = {"sum": jnp.sum, "mean": jnp.mean, "max": jnp.max, "min": jnp.min, "var": jnp.var, "std": jnp.std,
           "logsumexp": logsumexp, "norm": lambda x, axis: jnp.sqrt(jnp.sum(x * x, axis)),
           "prod": lambda x, axis: jnp.prod(1 + x / (100 * np.sqrt(x.size)), axis),
           "any": lambda x, axis: jnp.any(x > 2, axis), "argmax": jnp.argmax, "median": jnp.median}
  for name, f in kinds.items():
    yield CheckedProgram(f"reductions/{name} over examples", lambda x, f=f: f(x, axis=0), (x,))
    yield CheckedProgram(f"reductions/{name} of a function",
                         lambda x, f=f: f(x * jnp.exp(-x * x), axis=-1) + jnp.exp(x[:, 0]), (x,))
  for axis in (-1, 0):
    yield CheckedProgram(f"reductions/softmax {axis}", lambda x, axis=axis: jax.nn.softmax(x, axis), (x,))
    yield CheckedProgram(f"reductions/log_softmax {axis}", lambda x, axis=axis: jax.nn.log_softmax(3 * x, axis), (x,))
    yield CheckedProgram(f"reductions/standardized {axis}", lambda x, axis=axis: (
        (x - jnp.mean(x, axis, keepdims=True)) * jax.lax.rsqrt(jnp.var(x, axis, keepdims=True) + 1e-5)), (x,))
    yield CheckedProgram(f"reductions/gradient of logsumexp {axis}", lambda x, axis=axis: jax.grad(
        lambda x: jnp.sum(logsumexp(x, axis) * logsumexp(-x, axis)))(x), (x,))
    for name in ("cumsum", "cumprod", "cummax", "cumlogsumexp"):
      yield CheckedProgram(f"reductions/{name} {axis}", lambda x, name=name, axis=axis: getattr(jax.lax, name)(
          1 + x / (1000 * np.sqrt(x.size)), axis=axis % 2), (x,))
  weights = random.uniform(size=(n,))
  yield CheckedProgram("reductions/weighted", lambda x, w: jnp.sum(x * w[:, None], 0) / jnp.sum(w), (x, weights))
  yield CheckedProgram("reductions/masked", lambda x, w: jnp.sum(jnp.where(w[:, None] > 0.5, x, 0)) / jnp.sum(w > 0.5),
                       (x, weights))
  yield CheckedProgram("reductions/log-mean-exp", lambda x: logsumexp(x.reshape(-1)) - jnp.log(x.size), (x,))
  yield CheckedProgram("reductions/pairwise distances", lambda x: jnp.sum(
      (x[:64, None] - x[None, :64]) ** 2, -1) / 24, (x,))


def _products_with_constants(n: int, random: np.random.Generator) -> Iterator[CheckedProgram]:
  """Matrix products with matrices that the compiler knows."""
  x = random.normal(size=(min(n, 4096), 64))
  width = x.shape[1]
  ones, steps = np.ones((width, width)), np.arange(width) / width
  constants = {"zeros": 0 * ones, "ones": ones, "full": -2.5 * ones, "narrow": 0.5 * ones[:, :3], "column": ones[:, :1],
               "identity": np.eye(width), "triangular": np.tril(ones, -1), "equal rows": ones * steps,
               "equal columns": ones * steps[:, None], "random": random.normal(size=(width, width))}
  for name, c in constants.items():
    name = f"constants/{name}"
    yield CheckedProgram(name, lambda x, c=c: x @ c, (x,))
    yield CheckedProgram(f"{name} on the left", lambda x, c=c: c.T @ x.T, (x,))
    yield CheckedProgram(f"{name}, gradient", lambda x, c=c: jax.grad(lambda x: jnp.sum(jnp.tanh(x @ c)))(x), (x,))
    yield CheckedProgram(f"{name}, batched", lambda x, c=c: x.reshape(2, -1, width) @ jnp.stack([c, c]), (x,))
    yield CheckedProgram(f"{name}, by example", lambda x, c=c: jax.vmap(lambda row: jnp.tanh(row) @ c + 1)(x), (x,))
    yield CheckedProgram(f"{name}, one example", lambda x, c=c: x[0] @ c, (x,))
  for value in (0.0, 1.0, -2.5):
    kinds = {"made inside": lambda x, c: x @ c(width, 48), "transposed": lambda x, c: x @ c(48, width).T,
             "vector": lambda x, c: x @ c(width), "alone": lambda x, c: c(8, width) @ c(width, 8) + x[0, 0],
             "scaled": lambda x, c: x @ (c(width, 48) * x[0, 0]), "einsum": lambda x, c: jnp.einsum(
                 "bi,ijk->bjk", x, c(width, 4, 5)),
             "two layers": lambda x, c: jnp.tanh(x @ c(width, 48) + 0.1) @ c(48, width),
             "gradient by": lambda x, c: jax.grad(lambda w: jnp.sum(jnp.tanh(x @ w)))(c(width, 48))}
    for name, f in kinds.items():
      yield CheckedProgram(f"constants/{name}, {value}",
                           lambda x, f=f, value=value: f(x, lambda *shape: jnp.full(shape, value)), (x,))


def _products(n: int, random: np.random.Generator) -> Iterator[CheckedProgram]:
  """Matrix products of arguments, with what usually stands around them."""
  shapes = {"one row": (1, 64, 64), "few columns": (n, 2, 3), "narrow": (n, 16, 16), "wide": (min(n, 4096), 64, 200),
            "long inner axis": (3, min(n, 4096), 5), "square": (min(n, 512),) * 3}
  for shape, (rows, inner, columns) in shapes.items():
    a, b = random.normal(size=(rows, inner)), random.normal(size=(inner, columns)) / np.sqrt(inner)
    bias, name = random.normal(size=columns), f"products/{shape}"
    yield CheckedProgram(name, lambda a, b: a @ b, (a, b))
    yield CheckedProgram(f"{name}, affine", lambda a, b, bias: jax.nn.relu(a @ b + bias), (a, b, bias))
    yield CheckedProgram(f"{name}, softplus and sum",
                         lambda a, b, bias: jnp.sum(jax.nn.softplus(a @ b + bias), -1), (a, b, bias))
    yield CheckedProgram(f"{name}, gradients", lambda a, b, bias: jax.grad(
        lambda *args: jnp.mean(jnp.tanh(args[0] @ args[1] + args[2])), (0, 1, 2))(a, b, bias), (a, b, bias))
    yield CheckedProgram(f"{name}, bfloat16", lambda a, b: jnp.dot(
        a.astype(jnp.bfloat16), b.astype(jnp.bfloat16), preferred_element_type=jnp.float32), (a, b), BFLOAT16)
  m = min(n, 256)
  q, k, v = random.normal(size=(3, 2, 4, m, 16))
  yield CheckedProgram("products/batched", lambda q, k: q @ jnp.swapaxes(k, -1, -2), (q, k))
  yield CheckedProgram("products/attention", _attention, (q, k, v))
  yield CheckedProgram("products/attention, gradients",
                       lambda *args: jax.grad(lambda *args: jnp.sum(_attention(*args) ** 2), (0, 1, 2))(*args),
                       (q, k, v))
  yield CheckedProgram("products/outer", lambda q, k: jnp.einsum("bhi,bhj->hij", q[..., 0], k[..., 0]), (q, k))
  yield CheckedProgram("products/quadratic form", lambda q, k: jnp.einsum(
      "bhmi,ij,bhmj->bhm", q, k[0, 0, :1].T @ k[0, 0, :1], q), (q, k))


def _attention(q: Array, k: Array, v: Array) -> Array:
  scores = jnp.einsum("bhqd,bhkd->bhqk", q, k) / 4
  causal = jnp.tril(jnp.ones(scores.shape[-2:], bool))
  return jax.nn.softmax(jnp.where(causal, scores, -1e9), -1) @ v


def _networks(n: int, random: np.random.Generator) -> Iterator[CheckedProgram]:
  """Likelihoods by small networks, whole and their gradients, with parameters passed in and closed over."""
  n = min(n, 8192)
  x = (random.uniform(size=(n, 32)) < 0.3).astype(np.float64)
  mask = np.tril(np.ones((32, 32)), -1)
  initial = {"equal": lambda *shape: np.full(shape, 0.02), "zero": lambda *shape: np.zeros(shape),
             "random": lambda *shape: 0.2 * random.normal(size=shape)}
  for name, w in initial.items():
    params = (w(32, 48), w(48), w(48, 32), w(32))
    kinds = {"rbm": lambda x, a, b, c, d: -x @ d - jnp.sum(jax.nn.softplus(x @ a + b), -1),
             "autoencoder": lambda x, a, b, c, d: _bernoulli(x, jnp.tanh(x @ a + b) @ c + d),
             "masked": lambda x, a, b, c, d: _bernoulli(x, x @ (mask * (a @ c)) + d),
             "gaussian": lambda x, a, b, c, d: jnp.sum(-0.5 * ((x - d) * jnp.exp(-x @ (mask * (a @ c)))) ** 2, -1)}
    for kind, f in kinds.items():
      yield CheckedProgram(f"networks/{kind} of {name} parameters", f, (x, *params))
      yield CheckedProgram(f"networks/{kind} of {name} parameters closed over", lambda x, f=f, p=params: f(x, *p), (x,))
      yield CheckedProgram(f"networks/{kind} of {name} parameters, gradients", lambda x, *params, f=f: jax.grad(
          lambda params: jnp.mean(f(x, *params)))(params), (x, *params))
      yield CheckedProgram(f"networks/{kind} of {name} parameters closed over, gradient",
                           lambda x, f=f, p=params: jax.grad(lambda x: jnp.sum(f(x, *p)))(x), (x,))
  y = random.integers(0, 32, size=n)
  yield CheckedProgram("networks/cross-entropy", lambda x, y: jnp.take_along_axis(
      jax.nn.log_softmax(3 * x @ mask), y[:, None], -1)[:, 0], (x, y))
  yield CheckedProgram("networks/layer norm and gradient", lambda x: jax.grad(lambda x: jnp.sum(jnp.sin(
      (x - x.mean(-1, keepdims=True)) / jnp.sqrt(x.var(-1, keepdims=True) + 1e-5))))(x), (x + mask[16],))


def _bernoulli(x: Array, logits: Array) -> Array:
  return jnp.sum(x * logits - jax.nn.softplus(logits), -1)


def _convolutions(n: int, random: np.random.Generator) -> Iterator[CheckedProgram]:
  """Convolutions of one and two dimensions with strides, dilations and groups, and kernels that the compiler knows."""
  batch = max(1, min(n // 64, 32))
  x, kernel = random.normal(size=(batch, 12, 12, 8)), random.normal(size=(3, 3, 8, 16)) / 8
  signal, taps = random.normal(size=(batch, 64, 8)), random.normal(size=(2, 8, 16)) / 4

  def conv(x: Array, w: Array, strides: int = 1, padding: Any = "SAME", **options: Any) -> Array:
    axes = "HW"[:w.ndim - 2]
    return jax.lax.conv_general_dilated(x, w, (strides,) * len(axes), padding, **options,
                                        dimension_numbers=(f"N{axes}C", f"{axes}IO", f"N{axes}C"))

  kinds = {"plain": {}, "strided": {"strides": 2}, "dilated": {"rhs_dilation": (2, 2)}, "valid": {"padding": "VALID"},
           "transposed": {"lhs_dilation": (2, 2), "padding": ((1, 2), (1, 2))}}
  for name, options in kinds.items():
    yield CheckedProgram(f"convolutions/{name}", lambda x, w, o=options: jax.nn.silu(conv(x, w, **o)), (x, kernel))
    yield CheckedProgram(f"convolutions/{name}, gradients", lambda x, w, o=options: jax.grad(
        lambda x, w: jnp.mean(jnp.tanh(conv(x, w, **o))), (0, 1))(x, w), (x, kernel))
    for value in (0.0, 1.0, 0.25):
      yield CheckedProgram(f"convolutions/{name} with a kernel of {value}", lambda x, o=options, value=value: conv(
          x, jnp.full((3, 3, 8, 16), value), **o) + 1, (x,))
  yield CheckedProgram("convolutions/1x1", lambda x, w: conv(x, w), (x, kernel[:1, :1]))
  yield CheckedProgram("convolutions/1x1 of zeros", lambda x: conv(x, jnp.zeros((1, 1, 8, 16))), (x,))
  yield CheckedProgram("convolutions/groups", lambda x, w: conv(x, w, feature_group_count=4), (x, kernel[:, :, :2]))
  yield CheckedProgram("convolutions/depthwise", lambda x, w: conv(x, w, feature_group_count=8), (x, kernel[:, :, :1]))
  yield CheckedProgram("convolutions/causal", lambda x, w: conv(x, w, padding=((2, 0),), rhs_dilation=(2,)),
                       (signal, taps))
  yield CheckedProgram("convolutions/causal, gradients", lambda x, w: jax.grad(lambda x, w: jnp.mean(jnp.tanh(
      conv(x, w, padding=((2, 0),), rhs_dilation=(2,)))), (0, 1))(x, w), (signal, taps))
  mask = (np.arange(9) < 4).reshape(3, 3, 1, 1)
  yield CheckedProgram("convolutions/masked", lambda x, w: conv(x, w * mask), (x, kernel))
  yield CheckedProgram("convolutions/pooled", lambda x: jax.lax.reduce_window(
      x, -jnp.inf, jax.lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID"), (x,))
  yield CheckedProgram("convolutions/averaged", lambda x: jax.lax.reduce_window(
      x, 0.0, jax.lax.add, (1, 2, 2, 1), (1, 2, 2, 1), "VALID") / 4, (x,))
  yield CheckedProgram("convolutions/resized", lambda x: jax.image.resize(x, (batch, 24, 24, 8), "bilinear"), (x,))


def _loops(n: int, random: np.random.Generator) -> Iterator[CheckedProgram]:
  """Scans and loops: recurrences with their gradients, samplers' steps, sums in parts."""
  n = min(n, 1024)
  inputs, h = random.normal(size=(7, n, 12)), np.zeros((n, 16))
  w, u = random.normal(size=(12, 48)) / 4, random.normal(size=(16, 48)) / 4

  def gru(inputs, h, w, u):
    def step(h, x):
      a, b = x @ w, h @ u
      r, z = jax.nn.sigmoid(a[:, :16] + b[:, :16]), jax.nn.sigmoid(a[:, 16:32] + b[:, 16:32])
      h = (1 - z) * jnp.tanh(a[:, 32:] + r * b[:, 32:]) + z * h
      return h, h
    return jax.lax.scan(step, h, inputs)[1]

  yield CheckedProgram("loops/recurrence", gru, (inputs, h, w, u))
  yield CheckedProgram("loops/recurrence, gradients", lambda *args: jax.grad(
      lambda w, u: jnp.mean(gru(args[0], args[1], w, u) ** 2), (0, 1))(*args[2:]), (inputs, h, w, u))
  for value in (0.0, 0.25):
    yield CheckedProgram(f"loops/recurrence of weights {value}", lambda inputs, h, value=value: gru(
        inputs, h, jnp.full((12, 48), value), jnp.full((16, 48), value)), (inputs, h))
  yield CheckedProgram("loops/forward algorithm", lambda x: jax.lax.scan(
      lambda a, x: (logsumexp(a[:, :, None] + jnp.log(0.25) * jnp.ones((4, 4)), 1) + x, None), jnp.zeros((n, 4)),
      x[..., :4])[0], (inputs,))
  yield CheckedProgram("loops/gradient descent", lambda x: jax.lax.fori_loop(0, 5, lambda i, x: x - 0.1 * jax.grad(
      lambda x: jnp.sum(jax.nn.softplus(x @ w) ** 2))(x), x[0]), (inputs,))
  yield CheckedProgram("loops/until small", lambda x: jax.lax.while_loop(
      lambda x: jnp.max(jnp.abs(x)) > 0.1, lambda x: jnp.tanh(x) * 0.9, x), (inputs[0],))
  yield CheckedProgram("loops/solved by bisection", lambda x: jax.lax.fori_loop(0, 40, lambda i, ab: (
      jnp.where(jnp.tanh(ab.mean(0)) + ab.mean(0) < x, jnp.stack([ab.mean(0), ab[1]]),
                jnp.stack([ab[0], ab.mean(0)]))), jnp.stack([x - 3, x + 3])).mean(0), (inputs[0],))
  yield CheckedProgram("loops/branch", lambda x: jax.lax.map(lambda x: jax.lax.cond(
      x[0] > 0, lambda x: jnp.sum(jnp.exp(x)), lambda x: logsumexp(x), x), x[0, :32]), (inputs,))
  yield CheckedProgram("loops/rematerialized", lambda x: jax.grad(lambda x: jnp.sum(jax.checkpoint(
      lambda x: jnp.sin(jnp.tanh(x @ w) @ w.T))(x)))(x[0]), (inputs,))
  yield CheckedProgram("loops/divergence by jvp", lambda x: jax.vmap(lambda x: jnp.trace(jax.jacfwd(
      lambda x: jnp.tanh(x @ w) @ w.T)(x)))(x[0]), (inputs,))


def _indexing(n: int, random: np.random.Generator) -> Iterator[CheckedProgram]:
  """Gathers, scatters, sorts, windows."""
  x, index = random.normal(size=(n, 6)), random.integers(0, n, size=n)
  bins = random.integers(0, 6, size=n)
  yield CheckedProgram("indexing/take", lambda x, i: jnp.exp(x[i]) * 2, (x, index))
  yield CheckedProgram("indexing/take along an axis", lambda x, i: jnp.take_along_axis(x, i[:, None], 1)[:, 0],
                       (x, bins))
  yield CheckedProgram("indexing/embedding, gradient", lambda x, i: jax.grad(lambda x: jnp.sum(jnp.sin(x[i])))(x),
                       (x, bins))
  yield CheckedProgram("indexing/segment sum", lambda x, i: jax.ops.segment_sum(x, i, 6), (x, bins))
  yield CheckedProgram("indexing/scatter", lambda x, i: jnp.zeros((6, 6)).at[i].add(x), (x, bins))
  yield CheckedProgram("indexing/one-hot", lambda x, i: jax.nn.one_hot(i, 6) @ x[:6, :3], (x[:max(6, n)], bins))
  yield CheckedProgram("indexing/sort", lambda x: jnp.sort(x, 0), (x,))
  yield CheckedProgram("indexing/argsort", lambda x: jnp.take_along_axis(x, jnp.argsort(x, 0), 0), (x,))
  yield CheckedProgram("indexing/top", lambda x: jax.lax.top_k(x.T, min(n, 5))[0], (x,))
  grid = np.linspace(-3, 3, 31)
  yield CheckedProgram("indexing/searchsorted", lambda x: jnp.searchsorted(grid, x), (np.round(x, 2) + 0.003,))
  yield CheckedProgram("indexing/interpolated", lambda x: jnp.interp(x, grid, np.sin(grid)), (x,))
  yield CheckedProgram("indexing/rolled", lambda x: x * jnp.roll(x, 1, 0) - jnp.roll(x, -1, 1), (x,))
  yield CheckedProgram("indexing/padded and sliced", lambda x: jnp.pad(x, ((1, 2), (0, 1)))[1:-1, ::2] * 3, (x,))
  yield CheckedProgram("indexing/reversed and joined", lambda x: jnp.concatenate([x[::-1], jnp.tanh(x)], -1), (x,))
  yield CheckedProgram("indexing/transposed", lambda x: jnp.tanh(x.reshape(-1, 2, 3).transpose(2, 0, 1)).sum(1), (x,))
  yield CheckedProgram("indexing/integers", lambda i: (i * 7 + 3) % 11 + (i >> 1) - (i & 3) + i // 5, (index,))
  yield CheckedProgram("indexing/sum of integers", lambda i: jnp.cumsum(i % 7) + jnp.sum(i % 5), (index,))
  yield CheckedProgram("indexing/bits", lambda i: jnp.sum((i[:, None] >> jnp.arange(8)) & 1, -1), (index,))
  yield CheckedProgram("indexing/counted", lambda i: jnp.bincount(i, length=6), (bins,))


def _linear_algebra(n: int, random: np.random.Generator) -> Iterator[CheckedProgram]:
  """Factorizations of small matrices."""
  d = min(n, 32)
  a = random.normal(size=(d, d))
  positive, b = a @ a.T / d + np.eye(d), random.normal(size=(d, 3))
  yield CheckedProgram("linear algebra/cholesky", jnp.linalg.cholesky, (positive,))
  yield CheckedProgram("linear algebra/solve", jnp.linalg.solve, (positive, b))
  yield CheckedProgram("linear algebra/triangular", lambda a, b: jax.scipy.linalg.solve_triangular(
      jnp.linalg.cholesky(a), b, lower=True), (positive, b))
  yield CheckedProgram("linear algebra/log determinant", lambda a: jnp.linalg.slogdet(a)[1], (positive,))
  yield CheckedProgram("linear algebra/inverse", jnp.linalg.inv, (positive,))
  yield CheckedProgram("linear algebra/eigenvalues", jnp.linalg.eigvalsh, (positive,))
  yield CheckedProgram("linear algebra/gradient of log determinant", lambda a: jax.grad(
      lambda a: jnp.linalg.slogdet(a)[1])(a), (positive,))
  yield CheckedProgram("linear algebra/gaussian density", lambda a, b: jax.scipy.stats.multivariate_normal.logpdf(
      b.T, jnp.zeros(d), a), (positive, b))


def _random(n: int, random: np.random.Generator) -> Iterator[CheckedProgram]:
  """Random numbers, which must be the same bits, and what is made of them."""
  seed = random.integers(0, 2**32, size=2, dtype=np.uint32)

  def bits(seed):
    return jax.random.bits(jax.random.wrap_key_data(seed), (n,), np.uint32)

  def uniform(seed):
    return (bits(seed) >> 8) / (1 << 24)

  def folded(seed):
    keys = jax.vmap(lambda i: jax.random.fold_in(jax.random.wrap_key_data(seed), i))(jnp.arange(8, dtype=np.uint32))
    return jax.random.key_data(keys)

  yield CheckedProgram("random/bits", bits, (seed,), 0.0)
  yield CheckedProgram("random/folded", folded, (seed,), 0.0)
  yield CheckedProgram("random/normal", lambda seed: jax.scipy.special.erfinv(1.998 * uniform(seed) - 0.999), (seed,))
  yield CheckedProgram("random/sum of exponentials", lambda seed: jnp.sum(-jnp.log1p(-0.99 * uniform(seed))), (seed,))
