"""Products with compressed weights on packed codes: what fits which kernel, their layouts, and the code that runs."""
