"""Common ground of the services, and the `orchestra` command."""
