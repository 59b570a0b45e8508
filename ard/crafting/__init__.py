"""Adversarial sets: crafted here, or imported and judged anew."""
