"""``python -m orchestra.cli``: the same as the command ``orchestra``."""

from orchestra.cli.main import main

main()
