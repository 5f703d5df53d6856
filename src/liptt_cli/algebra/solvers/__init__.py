"""Solvers: from float cores to the codes that fit the weight."""
