"""Attacks by name, the ball that they stay in, and what they may ask of the model attacked."""
