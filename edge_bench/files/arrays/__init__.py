"""Files of arrays, read so that no header, size or object in them does harm."""
