"""Codecs: values to codes and scales."""
