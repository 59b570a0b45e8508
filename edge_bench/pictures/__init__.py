"""Pictures from their files to logits, as a product makes images of them."""
