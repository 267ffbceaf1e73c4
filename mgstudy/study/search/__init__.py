"""Which trial comes next, and what is recorded of each."""
