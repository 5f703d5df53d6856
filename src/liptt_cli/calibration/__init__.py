"""Texts, windows and what a model's linears see of them."""
