"""Likelihood over a split, sample quality, detection, coding, tables.

`add_row` puts another program's scores into the tables.
"""

from gdm.evaluation.outside import add_row

__all__ = ["add_row"]
