"""The renderer of moving objects over photographs."""
