"""What generated code runs on: torch only."""
