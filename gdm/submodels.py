"""Parameters and carry of models that are made of models: whose part is whose, by name."""

from gdm.model import Carry, Params, PyTree


def params_of(params: Params, prefix: str) -> Params:
  """Return the groups of the part whose groups' names begin with `prefix`, under their own names."""
  return {group.removeprefix(prefix): tree for group, tree in params.items() if group.startswith(prefix)}


def named_params(own: Params, prefix: str) -> dict[str, PyTree]:
  """Return a part's groups as the whole names them."""
  return {prefix + group: tree for group, tree in own.items()}


def carry_of(carry: Carry, name: str) -> Carry:
  """Return the entries of the part `name`, under their own names."""
  return {entry: parts[name] for entry, parts in carry.items() if name in parts}


def merged_carry(carry: Carry, name: str, own: Carry) -> dict[str, PyTree]:
  """Return the carry with the part `name` replaced; entries keep their names, which say how they are sharded."""
  parts: dict[str, PyTree] = dict(carry)
  for entry, tree in own.items():
    parts[entry] = {**parts.get(entry, {}), name: tree}
  return parts
