"""How many rows a plan has read."""

from collections.abc import Mapping
from typing import Any


def rows_read(node: Mapping[str, Any]) -> float:
    """How many rows of tables and indexes the scans of a plan read, by its ``EXPLAIN (ANALYZE, FORMAT JSON)``."""
    below = sum(rows_read(each) for each in node.get("Plans", ()))
    if "Relation Name" not in node and "Index Name" not in node:
        return below
    each = node["Actual Rows"] + node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Index Recheck", 0)
    return float(below + each * node["Actual Loops"])
