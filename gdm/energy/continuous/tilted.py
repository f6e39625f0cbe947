"""An energy that tilts a tractable base: p(x) is proportional to base(x) exp(-E(u)), u the standardized x.

The base is any model with an exact density and samples, a flow say, and is trained beside the energy by its own
objectives. A fresh model, of energy zero, is the base itself, so that log Z starts at 0; annealing starts at the base,
and so do chains; and noise-contrastive estimation tells the data from the base's own samples (Gao et al.,
arXiv:1912.00589, section 3, with a base that moves by its likelihood alone).
"""

import dataclasses
from typing import cast

import jax
from jaxtyping import Array, Float, Key

from gdm import checks
from gdm.energy.continuous.chains import Energy, PathBase
from gdm.energy.continuous.network_energy import NetworkEnergy
from gdm.errors import ConfigError, SpecError
from gdm.inference.quadrature import Box
from gdm.likelihood import Kind
from gdm.model import Batch, Carry, HasLogLikelihood, HasSample, LossOutput, Model, Objective, Params
from gdm.submodels import named_params, params_of

BASE = "base_"  # before the names of the base's groups
SHARED = ("statistics",)  # entries of the carry that are the base's; chains are the tilt's own
DEVIATIONS = 8.0  # of the data, within which quadrature looks


@dataclasses.dataclass(frozen=True)
class Tilted(NetworkEnergy):
  """A network's energy on a base with an exact density; see `NetworkEnergy` for the other attributes.

  The base's parameter group "g" is "base_g" here; its batch statistics are those of the whole. Its objectives come
  first, each on a minibatch of its own; to the energy's objective the base is a constant.

  Attributes:
    base: a model of the same real-valued data with objectives, an exact `log_likelihood`, and `sample`.
  """

  base: Model = dataclasses.field(kw_only=True)

  def __post_init__(self) -> None:
    super().__post_init__()
    if not isinstance(self.base, Model):
      raise ConfigError(f"model.base is {self.base!r}; it must be a model: fields with a name among them.")
    name = type(self.base).__name__
    if self.spec.is_discrete:
      raise SpecError(f"an energy that tilts {name} needs real numbers, but the data has {self.spec.levels} levels, of "
                      "which no base has a density; choose ebm, which dequantizes.")
    if self.base.spec != self.spec:
      raise SpecError(f"model.base models {self.base.spec}, its energy {self.spec}; both must model the same data.")
    for capability, words in ((HasLogLikelihood, "no log_likelihood to be tilted"),
                              (HasSample, "no sample to start chains from")):
      if not isinstance(self.base, capability):
        raise ConfigError(f"model.base is {name}, which has {words}; choose a model that has, such as maf.")
    if not self.base.objectives:
      raise ConfigError(f"model.base is {name}, which is not trained by steps; choose a model that is, such as maf.")

  @property
  def objectives(self) -> tuple[Objective, ...]:
    return (*map(self._of_base, self.base.objectives), self.energy_objective())

  def init_base(self, key: Key[Array, ""], batch: Batch) -> tuple[Params, Carry]:
    """Return the base's, by the batch.

    Raise ConfigError where its likelihood is no exact log p(x), or where its carry holds more than statistics.
    """
    params, carry = self.base.init(key, batch)
    name = type(self.base).__name__

    def nats() -> Float[Array, " batch"]:
      scored = cast(HasLogLikelihood, self.base).log_likelihood(params, carry, batch, key)
      if scored.kind is not Kind.EXACT or scored.given:
        given = f" given {', '.join(scored.given)}" if scored.given else ""
        raise ConfigError(f"model.base is {name}, whose log-likelihood is of kind '{scored.kind}'{given}; a tilt needs "
                          "an exact log p(x), as maf has.")
      return scored.nats

    jax.eval_shape(nats)
    if others := sorted(set(carry) - set(SHARED)):
      raise ConfigError(f"model.base is {name}, which carries {', '.join(others)} from step to step; a base may carry "
                        f"{', '.join(SHARED)} only.")
    return named_params(params, BASE), carry

  def energy(self, params: Params, carry: Carry, condition: Array | None = None) -> Energy:
    outputs, base = self.network_outputs(params), self.base_of(params, carry)
    return lambda u: outputs(u) - base.log_prob(u)

  def base_of(self, params: Params, carry: Carry) -> PathBase:
    """Return the base model, of standardized values."""
    own, statistics = params_of(params, BASE), _carry_of_base(carry)
    centre, scale = params["base"]["centre"], params["base"]["scale"]

    def log_prob(u):
      scored = cast(HasLogLikelihood, self.base).log_likelihood(
          own, statistics, {"x": u * scale + centre}, jax.random.key(0))  # exact: nothing is drawn
      return scored.nats + self.log_volume(params)

    def sample(key, num):
      return (cast(HasSample, self.base).sample(own, statistics, key, num).x - centre) / scale

    return PathBase(log_prob, sample, self.spread(params))

  @property
  def outputs(self) -> None:
    return None

  @property
  def first_log_normalizer(self) -> float:
    return 0.0

  def box(self, params: Params) -> Box:
    return self.centred_box(params, DEVIATIONS)

  def checked_condition(self, condition: Array | None, num: int, start: str) -> None:
    checks.unconditional(self, condition)

  def _of_base(self, objective: Objective) -> Objective:
    def loss(params: Params, carry: Carry, batch: Batch, key: Key[Array, ""], step: Array) -> LossOutput:
      out = objective.loss(params_of(params, BASE), _carry_of_base(carry), batch, key, step)
      return out._replace(carry={**carry, **out.carry})

    def prepare(params: Params, carry: Carry, batch: Batch, key: Key[Array, ""]) -> Batch:
      assert objective.prepare is not None
      return objective.prepare(params_of(params, BASE), _carry_of_base(carry), batch, key)

    return dataclasses.replace(objective, groups=tuple(BASE + group for group in objective.groups), loss=loss,
                               prepare=objective.prepare and prepare)


def _carry_of_base(carry: Carry) -> Carry:
  return {entry: carry[entry] for entry in SHARED if entry in carry}
