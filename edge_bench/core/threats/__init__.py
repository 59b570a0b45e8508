"""What was tried against a model."""
