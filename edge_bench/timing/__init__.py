"""Latency and throughput: how they are measured, and whether to trust them."""
