"""The vocabulary: errors, frozen values, metrics and statistics."""
