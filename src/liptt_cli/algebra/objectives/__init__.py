"""What a training lowers: distances of a student from its teacher, or from the labels."""
