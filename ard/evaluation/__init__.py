"""Robust accuracy from masks per sample, and doubts about it."""
