"""What command lines share: options as values, tables, progress, signals, errors as sentences."""
