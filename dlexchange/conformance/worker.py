"""One process a subject: judges the clauses it is sent, and may crash.

``python -m dlexchange.conformance.worker SPEC FD`` reads clause ids from its standard input
and writes one JSON object a line to the descriptor FD: first ``ready`` or ``absent``, then
for each id any number of ``trying`` (what is about to be done, with its snippet, in case
that this process does not survive it) and the verdict. ``exit ID`` arms a check whose
verdict shows when the process ends.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import sys
import warnings
from typing import Any

from . import asking, subjects
from .clauses import Clause, load
from .cuda import Cuda, CudaError
from .engine import judge, verify
from .subject import Subject

__all__ = ["find_subject"]


class NotRun(Exception):
    """There is no device to run on."""


def find_subject(spec: str) -> Subject:
    """The subject that a spec names.

    Parameters
    ----------
    spec : str
        The name of a subject that ships with the suite, or ``module:attribute``.

    Raises
    ------
    ValueError
        There is none, or what it says of itself means nothing.
    """
    module, _, attribute = spec.partition(":")
    if not attribute:
        subjects.check_specs([spec])
        module = f"{subjects.__name__}.{subjects.file_of(spec)}"
    try:
        found = getattr(importlib.import_module(module), attribute or "subject")
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        raise ValueError(f"no module {module!r}, so no subject {spec!r}") from None
    if not isinstance(found, Subject):
        raise ValueError(f"{spec!r} is a {type(found).__name__}, not a Subject")
    verify(found)
    return found


@contextlib.contextmanager
def ground_of(subject: Subject) -> Any:
    """Whatever has to be in place before the subject's library is imported."""
    if subject.ground == "CUDA":
        subject.cuda = _real_driver()
        yield
    elif subject.ground == "simulated CUDA":
        from dlexchange.testing import simulated_cuda

        with simulated_cuda(devices=2) as simulator:
            subject.enter(simulator)
            yield
    else:
        if subject.ground == "SYCL":
            _need_sycl_device()
        yield


def _need_sycl_device() -> None:
    """Look for a SYCL device; a CPU is one.

    Raises
    ------
    NotRun
        There is none.
    """
    dpctl = importlib.import_module("dpctl")
    try:
        dpctl.SyclQueue()
    except Exception as error:
        raise NotRun(f"not run: no SYCL device ({error})") from None


def _real_driver() -> Cuda:
    """The CUDA driver of this machine.

    Raises
    ------
    NotRun
        There is none, or no device.
    """
    try:
        found = Cuda()
        count = found.devices
    except (OSError, CudaError) as error:
        raise NotRun(f"not run: no CUDA driver ({error})") from None
    if count == 0:
        raise NotRun("not run: no CUDA device")
    return found


def main(spec: str, descriptor: int) -> None:
    """Serve until the standard input ends."""
    warnings.simplefilter("ignore")
    replies = os.fdopen(descriptor, "w", buffering=1)

    def reply(**fields: Any) -> None:
        replies.write(json.dumps(fields) + "\n")

    def trying(expected: str, snippet: str) -> None:
        reply(trying={"expected": expected, "snippet": snippet})

    asking.on_try = trying
    subject = find_subject(spec)
    clauses = load()
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(ground_of(subject))
            subject.load()
        except (ModuleNotFoundError, NotRun) as error:
            reply(absent=f"{error}", name=subject.name, ground=subject.ground)
            return
        reply(ready=subject.name, version=subject.version, ground=subject.ground)
        for line in sys.stdin:
            words = line.split()
            if words[0] == "exit":
                reply(**_arm(subject, clauses[words[1]], descriptor))
                break
            reply(verdict=judge(clauses[words[0]], subject).as_json())


def _arm(subject: Subject, clause: Clause, descriptor: int) -> dict[str, Any]:
    """Run the check; what it left to the exit shows there, anything else now."""
    os.environ["DLX_CONFORMANCE_EXIT_FD"] = str(os.dup(descriptor))
    verdict = judge(clause, subject)
    if verdict.outcome == "pass":
        return {"armed": clause.id}
    return {"verdict": verdict.as_json()}


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
