"""Shared code of the services, and the `orchestra` command."""
