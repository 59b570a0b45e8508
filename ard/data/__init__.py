"""Pictures and their labels: in memory or in their files, datasets by name."""
