"""What a report is held to: conditions, the statistics that decide them, verdicts."""
