"""Modules that stand in the place of a linear: packed to run, thawed to train."""
