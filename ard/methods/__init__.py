"""Published training objectives as functions of logits, and what training ascends."""
