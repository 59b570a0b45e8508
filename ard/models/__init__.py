"""Networks by name, the files that hold their weights, and published checkpoints."""
