"""The mathematics of a search by gradients: steps, schedules, penalties, instruments, and what is written down."""
