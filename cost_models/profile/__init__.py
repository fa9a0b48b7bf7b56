"""Profile: where the time and the memory of a model go on this machine, and what bounds them."""
