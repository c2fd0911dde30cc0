"""A guard against performance regressions: the cost of one request in Python instructions, counted and not timed."""
