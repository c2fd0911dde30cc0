"""The version of the package, which is written in ``pyproject.toml`` only."""

from importlib import metadata

_PACKAGE = "llm-orchestra-pipeline"


def version() -> str:
    """The version that is installed, from a wheel or from a checkout. Raises ``PackageNotFoundError``."""
    return metadata.version(_PACKAGE)
