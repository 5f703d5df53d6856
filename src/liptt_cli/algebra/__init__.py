"""The primitives that every method is composed of, one file each."""
