"""What is stored, exactly: torch-free twins of the values in formats/."""
