"""What came of a clause for a subject, and the exceptions a check ends with."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

__all__ = ["Failed", "Outcome", "Untested", "Verdict"]

Outcome = Literal["pass", "fail", "noted", "refused", "untested", "absent", "broken"]

#: Worst first: a clause with several checks gets the first of these that occurred.
#: broken: the check itself could not be run as written, which is this suite's fault.
#: noted: a clause that accuses nobody does not hold; said, never counted.
RANK: tuple[Outcome, ...] = ("broken", "fail", "noted", "pass", "refused", "untested", "absent")


class Failed(AssertionError):
    """A check saw the subject break its clause."""

    def __init__(self, expected: str, seen: str, snippet: str = "") -> None:
        super().__init__(f"expected {expected}; saw {seen}")
        self.expected = expected
        self.seen = seen
        self.snippet = snippet


class Untested(Exception):
    """A check can say nothing about this subject; the text is the reason."""


@dataclass(frozen=True)
class Verdict:
    """The outcome of one clause for one subject."""

    clause: str
    subject: str
    outcome: Outcome
    expected: str = ""
    seen: str = ""
    snippet: str = ""
    confirmed: bool | None = None

    def as_json(self) -> dict[str, Any]:
        """Without the fields that say nothing."""
        return {k: v for k, v in asdict(self).items() if v not in ("", None)}
