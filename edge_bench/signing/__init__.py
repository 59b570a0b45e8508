"""Signatures by the keys that people have: OpenSSH signs and verifies, ardx asks it to."""
