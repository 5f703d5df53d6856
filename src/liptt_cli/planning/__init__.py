"""Prices before weights: sites, budgets and allocators, torch-free."""
