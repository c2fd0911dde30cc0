"""ANSWER a request: records in, turns run, endings written, replies out."""
