"""One training in several processes, and the memory of each."""
