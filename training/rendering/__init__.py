"""Parts of the renderers of training clips."""
