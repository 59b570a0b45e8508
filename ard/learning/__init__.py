"""Settings and recipes, one training step, the loop, and what a run leaves behind."""
