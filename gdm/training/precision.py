"""bfloat16 where the arithmetic is, float32 everywhere else.

Matrix products and convolutions take nearly all of a network's operations and tolerate 8 bits of mantissa;
log-probabilities, log-determinants, normalizations and updates do not. So a function is traced, gradients included,
and only its float32 products are computed from bfloat16 operands, with sums in float32. It needs no word from any
model, and parameters, optimizer states and averages stay float32.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend import core
from jax.extend.core import primitives


def bfloat16_products(function: Callable) -> Callable:
  """`function`, its matrix products and convolutions of float32 operands computed in bfloat16; shapes and dtypes stay.

  Products inside loops, branches and rematerialized parts are included. Differentiate first: rules of differentiation
  that `function` defines (`jax.custom_jvp`) do not survive, only what they compute.
  """
  def call(*args):
    closed, out = jax.make_jaxpr(function, return_shape=True)(*args)
    values = _evaluate(closed.jaxpr, closed.consts, jax.tree.leaves(args))
    return jax.tree.unflatten(jax.tree.structure(out), values)

  return call


def _evaluate(jaxpr: Any, consts: Sequence[Any], args: Sequence[Any]) -> list[Any]:
  """Run a jaxpr, equation by equation."""
  values: dict[core.Var, Any] = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *args], strict=True))
  for equation in jaxpr.eqns:
    inputs = [x.val if isinstance(x, core.Literal) else values[x] for x in equation.invars]
    outputs = _RULES.get(equation.primitive, _unchanged)(equation, inputs)
    values.update(zip(equation.outvars, outputs, strict=True))
  return [x.val if isinstance(x, core.Literal) else values[x] for x in jaxpr.outvars]


def _unchanged(equation: Any, inputs: list[Any]) -> Sequence[Any]:
  outputs = equation.primitive.bind(*inputs, **equation.params)
  return outputs if equation.primitive.multiple_results else [outputs]


def _product(equation: Any, inputs: list[Any]) -> Sequence[Any]:
  if any(x.dtype != jnp.float32 for x in inputs):
    return _unchanged(equation, inputs)
  narrow = [x.astype(jnp.bfloat16) for x in inputs]
  params = {**equation.params, "preferred_element_type": jnp.dtype(jnp.float32)}
  return [equation.primitive.bind(*narrow, **params)]


def _inlined(name: str) -> "Rule":
  """Return a rule for primitives that only call the jaxpr in their parameter `name`."""
  def rule(equation, inputs):
    inner = equation.params[name]
    return _evaluate(inner.jaxpr, inner.consts, inputs)

  return rule


def _within(*names: str) -> "Rule":
  """Return a rule for primitives that hold jaxprs in their parameters `names`."""
  def rule(equation, inputs):
    rewritten = {name: jax.tree.map(_rewritten, equation.params[name], is_leaf=_is_jaxpr) for name in names}
    return equation.primitive.bind(*inputs, **{**equation.params, **rewritten})

  return rule


def _is_jaxpr(value: Any) -> bool:
  return isinstance(value, core.Jaxpr | core.ClosedJaxpr)


def _rewritten(jaxpr: Any) -> Any:
  """Return the same jaxpr, closed or open, with narrow products."""
  closed = jaxpr if isinstance(jaxpr, core.ClosedJaxpr) else core.ClosedJaxpr(jaxpr, ())
  inputs = [jax.ShapeDtypeStruct(x.aval.shape, x.aval.dtype, weak_type=x.aval.weak_type) for x in closed.jaxpr.invars]
  narrow = jax.make_jaxpr(lambda *args: _evaluate(closed.jaxpr, closed.consts, args))(*inputs)
  return narrow if isinstance(jaxpr, core.ClosedJaxpr) else narrow.jaxpr


Rule = Callable[[Any, list[Any]], Sequence[Any]]
_RULES: dict[Any, Rule] = {
    primitives.dot_general_p: _product,
    primitives.conv_general_dilated_p: _product,
    primitives.jit_p: _inlined("jaxpr"),
    primitives.custom_jvp_call_p: _inlined("call_jaxpr"),
    primitives.custom_vjp_call_p: _inlined("call_jaxpr"),
    primitives.scan_p: _within("jaxpr"),
    primitives.while_p: _within("cond_jaxpr", "body_jaxpr"),
    primitives.cond_p: _within("branches"),
    primitives.remat_p: _within("jaxpr"),
}
