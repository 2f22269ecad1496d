"""From graphs to Python text and files."""
