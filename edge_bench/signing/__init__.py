"""Evidence that can be handed on: OpenSSH signatures, and in-toto statements of a verdict."""
