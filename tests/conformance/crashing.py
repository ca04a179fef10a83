"""The model with the faults that end a process, as subjects to run in a child."""

from __future__ import annotations

from .model import Model

capsule_null_deleter_skipped = Model("capsule.null-deleter-skipped")
deleter_with_gil = Model("deleter.with-gil")
deleter_foreign_thread = Model("deleter.foreign-thread")
deleter_after_finalization = Model("deleter.after-finalization")
sound = Model()
