"""What per-sample masks and timings say: accuracies, intervals, tests, and the power of each."""
