"""Arrays in lists, tuples, named tuples, dicts and dataclasses, nested at will."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

__all__ = ["map_tree"]


def map_tree(function: Callable[[Any], Any], tree: Any) -> Any:
    """Apply a function to the leaves; the containers are made anew."""
    if isinstance(tree, tuple) and hasattr(tree, "_fields"):
        return type(tree)(*(map_tree(function, item) for item in tree))
    if isinstance(tree, (list, tuple)):
        return type(tree)(map_tree(function, item) for item in tree)
    if isinstance(tree, dict):
        return type(tree)((key, map_tree(function, item)) for key, item in tree.items())
    if dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        fields = {
            f.name: map_tree(function, getattr(tree, f.name)) for f in dataclasses.fields(tree)
        }
        return dataclasses.replace(tree, **fields)
    return function(tree)
