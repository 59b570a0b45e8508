"""Hashes that files carry over their own content."""
