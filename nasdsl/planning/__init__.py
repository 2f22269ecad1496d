"""What a search will need, before the first step is taken: memory and time."""
