"""The commands, one file each; whatever needs torch is imported inside them, so that help is instant."""
