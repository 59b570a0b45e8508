"""One benchmark of one backend, and of every backend that is here."""
