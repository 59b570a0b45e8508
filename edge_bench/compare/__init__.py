"""What changed between two reports, and whether the samples can tell."""
