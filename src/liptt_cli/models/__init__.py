"""Models from outside: where they lie, their tensors one by one, and the blocks they are made of."""
