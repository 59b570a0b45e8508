"""What a run may be told, as frozen values with their defaults."""
