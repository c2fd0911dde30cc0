"""How the cost of one request grows with the size of its surroundings."""
