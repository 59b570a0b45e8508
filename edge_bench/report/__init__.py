"""What a report says to people and machines: figures, doubts, comparisons, the gate."""
