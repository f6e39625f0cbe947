"""The bits that a payload by latents consists of."""

from typing import NamedTuple


class Parts(NamedTuple):
  """Bits that a payload consists of: what was pushed, less what was popped.

  Attributes:
    output: of examples given their latents.
    prior: of latents, by their prior.
    posterior: of latents, by their posterior; they were popped.
    choice: of which draw is taken: the bits of its number less those popped for it; 0 with one draw.
  """

  output: float = 0.0
  prior: float = 0.0
  posterior: float = 0.0
  choice: float = 0.0

  @property
  def total(self) -> float:
    return self.output + self.prior - self.posterior + self.choice
