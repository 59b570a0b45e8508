"""The version of ardx, all three packages together."""

__version__ = "0.2.0.dev0"
