"""ANSWER a request: take in records, run turns, write endings, publish replies."""
