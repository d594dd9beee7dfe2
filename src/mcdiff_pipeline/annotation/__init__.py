"""From video to training data."""
