"""The renderer of moving people over photographs."""
