"""What became of robustness and latency over the reports of past commits."""
