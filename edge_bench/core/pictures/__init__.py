"""What has to be done to a picture before a model reads it."""
