"""A QDQ graph read into torch, so that what will be rounded can be trained."""
