"""Compressed weights as values: trees of tensors with one meaning."""
