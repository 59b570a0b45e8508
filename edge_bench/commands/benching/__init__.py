"""What `bench` does beside one run on this machine, and the options that it has."""
