"""Recipes that come with ardx: a TOML file for each published setting and each budget of time."""
