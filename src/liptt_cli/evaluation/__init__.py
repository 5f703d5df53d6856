"""Models judged: perplexity, harness tasks, differences from a reference, gates."""
