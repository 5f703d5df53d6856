"""The plug-in for transformers: a packed model loads by `import liptt_cli` and `from_pretrained`."""
