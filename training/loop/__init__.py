"""The parts of the training scripts: the loop, its data, its losses, and what is done with the result."""
