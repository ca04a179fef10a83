"""Have a child process test the second extension, in which guarantees can be removed.

A pytest plugin (``-p streams.twin``): DLEXCHANGE_TWIN names the extension's file.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from importlib.machinery import ModuleSpec
from typing import Any


class Twin:
    """Finds ``dlexchange._core`` elsewhere."""

    @staticmethod
    def find_spec(name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if name != "dlexchange._core":
            return None
        return importlib.util.spec_from_file_location(name, os.environ["DLEXCHANGE_TWIN"])


assert "dlexchange" not in sys.modules, "too late: the shipped extension is loaded"
sys.meta_path.insert(0, Twin)
