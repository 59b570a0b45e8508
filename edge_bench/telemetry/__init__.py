"""What a board's sensors say while it is measured: power, temperature, clocks, throttling."""
