"""Source files: code of the user's own."""
