"""Pictures on the disk: which files are some, and their pixels."""
