"""The six stages of a run: one function `run(job)` each."""
