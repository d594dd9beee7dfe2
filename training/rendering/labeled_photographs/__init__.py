"""The renderer of things that move in photographs."""
