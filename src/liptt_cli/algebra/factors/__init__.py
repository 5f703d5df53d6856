"""Factors: a weight as a chain of float cores."""
