"""Filling in music: which entries a region keeps, and what a run writes."""

import pytest

from gdm.errors import ConfigError
from gdm.runs.music import region


def test_voices_or_all_bars_but_some_are_kept():
  known = region("soprano,bass", 32, 4, 4)
  assert known.all(axis=0).tolist() == [True, False, False, True] and known.sum() == 64
  known = region("bars:2", 40, 4, 4)
  assert known[:16].all() and not known[16:32].any() and known[32:].all()
  assert not region("bars:1-3", 40, 4, 4).any() and not region("", 40, 4, 4).any()


@pytest.mark.parametrize("keep", ["descant", "bars:0-1", "bars:2-4", "bars:3-2", "bars:x"])
def test_other_regions_are_refused(keep):
  with pytest.raises(ConfigError, match=r"--keep is"):
    region(keep, 40, 4, 4)
