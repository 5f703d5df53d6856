"""A lean loop for one sequence: the same mathematics as the model's own forward, without its generality."""
