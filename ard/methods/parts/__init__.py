"""What objectives are made of: their settings and divergences, and the inner maximisation."""
