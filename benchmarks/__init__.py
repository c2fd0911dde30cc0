"""Speed and cost: load on the real stack, figures, and the comparison of two runs."""
