"""Files of other programs, and what each can hold of a compressed linear."""
