"""The closed vocabulary of the configuration, torch-free."""
