"""A guard against loss of speed: what one request costs in instructions of Python, counted and not timed."""
