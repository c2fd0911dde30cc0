"""What the console's calls cost in front of a large table."""
