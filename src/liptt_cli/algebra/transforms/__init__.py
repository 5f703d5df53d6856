"""Transforms: coordinates in which a weight is easier to encode."""
