"""The version of ardx, all three packages together."""

__version__ = "0.1.0"
