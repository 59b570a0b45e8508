"""Batches through a backend: stored sets replayed, and attacks by scores alone."""
