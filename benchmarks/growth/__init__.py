"""How the cost of one request grows as what is around it grows."""
