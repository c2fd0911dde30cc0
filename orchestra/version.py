"""The version of the package, which stands in ``pyproject.toml`` and nowhere else."""

from importlib import metadata

_PACKAGE = "llm-orchestra-pipeline"


def version() -> str:
    """The version that is installed, from a wheel or from a checkout. Raises ``PackageNotFoundError``."""
    return metadata.version(_PACKAGE)
