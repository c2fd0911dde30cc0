"""How fast it is and what it costs: load on the real stack, figures, and the comparison of two runs."""
