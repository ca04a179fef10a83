"""Models with faults, as subjects to run in a child."""

from __future__ import annotations

import signal

from .model import Model

capsule_null_deleter_skipped = Model("capsule.null-deleter-skipped")
deleter_with_gil = Model("deleter.with-gil")
deleter_foreign_thread = Model("deleter.foreign-thread")
deleter_after_finalization = Model("deleter.after-finalization")
sound = Model()
copies_never = Model("copy.true-copies")
device_last = Model("import.device-first")


class Hanging(Model):
    def make(self, *_: object) -> object:  # type: ignore[override]
        signal.pause()
        return None


class Absent(Model):
    def load(self) -> None:
        raise ModuleNotFoundError("No module named 'absent'")


class Spoilt(Model):
    def load(self) -> None:
        raise ImportError("its library is there and can not be imported")


hanging = Hanging()
spoilt = Spoilt()
absent = Absent()
