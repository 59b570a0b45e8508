"""Robust checkpoints that others publish, and the networks that load them."""
