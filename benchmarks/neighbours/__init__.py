"""How long other callers wait next to a flood of one owner, or next to attacks."""
