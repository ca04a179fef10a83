"""Arrays in lists, tuples, named tuples, dicts and dataclasses, nested at will."""

from __future__ import annotations

import copy
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
        made: Any = copy.copy(tree)  # who knows what a subclass takes to be made
        for key, item in tree.items():
            made[key] = map_tree(function, item)
        return made
    if dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        made = copy.copy(tree)
        for field in dataclasses.fields(tree):
            object.__setattr__(made, field.name, map_tree(function, getattr(tree, field.name)))
        return made
    return function(tree)
