"""The fewest layers in float for which robust accuracy falls by no more than allowed."""
