"""What `attack` does of each kind of set, and the options that it has for them."""
