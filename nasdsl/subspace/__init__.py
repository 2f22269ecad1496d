"""Parts of a space as values: a set, balls round seeds, some options only, and what these have in common."""
