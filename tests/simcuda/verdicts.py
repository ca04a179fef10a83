"""Ask a CUDA driver what it does in the cases that matter to hand-offs; print JSON.

Plain ctypes, so that it runs on any libcuda.so.1, real or simulated:

    python tests/simcuda/verdicts.py libcuda.so.1

Each case answers with status codes. A simulated driver that answers differently from a device
is wrong: test_verdicts.py compares them where there is a device.
"""

from __future__ import annotations

import ctypes
import json
import sys
import threading
from collections.abc import Callable
from ctypes import byref, c_int, c_size_t, c_uint, c_uint64, c_void_p
from typing import Any

NON_BLOCKING, DISABLE_TIMING, NOT_READY = 1, 2, 600
GLOBAL, THREAD_LOCAL, RELAXED = 0, 1, 2
LEGACY, PER_THREAD = c_void_p(1), c_void_p(2)
HOST_FUNCTION = ctypes.CFUNCTYPE(None, c_void_p)

cu: Any = None
CASES: dict[str, Callable[[], Any]] = {}


def case(function: Callable[[], Any]) -> Callable[[], Any]:
    CASES[function.__name__] = function
    return function


def check(status: int) -> None:
    if status != 0:
        raise RuntimeError(f"unexpected status {status}")


def stream(flags: int = NON_BLOCKING) -> c_void_p:
    out = c_void_p()
    check(cu.cuStreamCreate(byref(out), flags))
    return out


def event(flags: int = DISABLE_TIMING) -> c_void_p:
    out = c_void_p()
    check(cu.cuEventCreate(byref(out), flags))
    return out


def memory(nbytes: int = 64) -> c_uint64:
    out = c_uint64()
    check(cu.cuMemAlloc_v2(byref(out), c_size_t(nbytes)))
    return out


def work(on: c_void_p, at: c_uint64) -> int:
    return int(cu.cuMemsetD32Async(at, 7, c_size_t(4), on))


def begin(on: c_void_p, mode: int = RELAXED) -> None:
    check(cu.cuStreamBeginCapture_v2(on, mode))


def end(on: c_void_p) -> int:
    graph = c_void_p()
    status = int(cu.cuStreamEndCapture(on, byref(graph)))
    if graph:
        cu.cuGraphDestroy(graph)
    return status


def settled(query: Callable[[c_void_p], int], what: c_void_p) -> int:
    """Ask until done or, as a device takes a moment, often enough to call it held."""
    for _ in range(20_000):
        status = int(query(what))
        if status != NOT_READY:
            break
    return status


def is_capturing(on: c_void_p) -> list[int]:
    out = c_int(-1)
    status = int(cu.cuStreamIsCapturing(on, byref(out)))
    return [status, out.value if status == 0 else -1]


def elsewhere(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call in another thread, with the same context current."""
    context, answer = c_void_p(), []
    check(cu.cuCtxGetCurrent(byref(context)))

    def run() -> None:
        check(cu.cuCtxSetCurrent(context))
        answer.append(function(*arguments))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return answer[0]


# --- captures ---


@case
def synchronize_a_capturing_stream() -> list[int]:
    p = stream()
    begin(p)
    return [cu.cuStreamSynchronize(p), is_capturing(p)[1], end(p), is_capturing(p)[1]]


@case
def query_a_capturing_stream() -> list[int]:
    p = stream()
    begin(p)
    return [cu.cuStreamQuery(p), is_capturing(p)[1], end(p)]


@case
def query_a_captured_event() -> list[int]:
    p, mark = stream(), event()
    begin(p)
    return [cu.cuEventRecord(mark, p), cu.cuEventQuery(mark), is_capturing(p)[1], end(p)]


@case
def synchronize_a_captured_event() -> list[int]:
    p, mark = stream(), event()
    begin(p)
    check(cu.cuEventRecord(mark, p))
    return [cu.cuEventSynchronize(mark), is_capturing(p)[1], end(p)]


@case
def wait_inside_for_an_event_outside() -> list[int]:
    p, c, mark = stream(), stream(), event()
    check(cu.cuEventRecord(mark, c))
    check(cu.cuStreamSynchronize(c))
    begin(p)
    return [cu.cuStreamWaitEvent(p, mark, 0), is_capturing(p)[1], end(p)]


@case
def wait_inside_for_an_event_never_recorded() -> list[int]:
    p, mark = stream(), event()
    begin(p)
    return [cu.cuStreamWaitEvent(p, mark, 0), is_capturing(p)[1], end(p)]


@case
def wait_across_two_captures() -> list[int]:
    p, c, mark = stream(), stream(), event()
    begin(p)
    begin(c)
    check(cu.cuEventRecord(mark, p))
    status = cu.cuStreamWaitEvent(c, mark, 0)
    return [status, is_capturing(p)[1], is_capturing(c)[1], end(p), end(c)]


@case
def fork_and_join() -> list[int]:
    p, c, mark, back = stream(), stream(), event(), event()
    at = memory()
    begin(p)
    answers = [cu.cuEventRecord(mark, p), cu.cuStreamWaitEvent(c, mark, 0), is_capturing(c)[1]]
    answers += [work(c, at), cu.cuEventRecord(back, c), cu.cuStreamWaitEvent(p, back, 0)]
    return [*answers, end(p), is_capturing(c)[1]]


@case
def end_with_unjoined_work() -> list[int]:
    p, c, mark = stream(), stream(), event()
    at = memory()
    begin(p)
    check(cu.cuEventRecord(mark, p))
    check(cu.cuStreamWaitEvent(c, mark, 0))
    return [work(c, at), end(p), is_capturing(p)[1], is_capturing(c)[1]]


@case
def end_on_a_stream_that_joined() -> list[int]:
    p, c, mark = stream(), stream(), event()
    begin(p)
    check(cu.cuEventRecord(mark, p))
    check(cu.cuStreamWaitEvent(c, mark, 0))
    return [end(c), end(p)]


@case
def end_without_a_capture() -> list[int]:
    return [end(stream())]


@case
def begin_twice() -> list[int]:
    p = stream()
    begin(p)
    return [cu.cuStreamBeginCapture_v2(p, RELAXED), is_capturing(p)[1], end(p)]


@case
def begin_on_the_legacy_stream() -> list[int]:
    return [cu.cuStreamBeginCapture_v2(LEGACY, RELAXED)]


@case
def end_in_another_thread() -> list[int]:
    answers = []
    for mode in (GLOBAL, THREAD_LOCAL, RELAXED):
        p = stream()
        begin(p, mode)
        answers += [elsewhere(end, p), end(p)]
    return answers


@case
def legacy_record_while_a_blocking_stream_captures() -> list[int]:
    p, mark = stream(0), event()
    begin(p)
    return [cu.cuEventRecord(mark, LEGACY), is_capturing(p)[1], end(p)]


@case
def legacy_record_while_a_non_blocking_stream_captures() -> list[int]:
    p, mark = stream(), event()
    begin(p)
    return [cu.cuEventRecord(mark, LEGACY), is_capturing(p)[1], end(p)]


@case
def legacy_asked_while_a_blocking_stream_captures() -> list[Any]:
    answers = []
    for mode in (GLOBAL, THREAD_LOCAL, RELAXED):
        p = stream(0)
        begin(p, mode)
        answers += [is_capturing(LEGACY), end(p)]
    return answers


@case
def synchronize_the_context_while_capturing() -> list[int]:
    p = stream()
    begin(p)
    return [cu.cuCtxSynchronize(), is_capturing(p)[1], end(p)]


@case
def wait_for_an_event_of_a_capture_that_is_over() -> list[int]:
    p, c, mark = stream(), stream(), event()
    begin(p)
    check(cu.cuEventRecord(mark, p))
    check(end(p))
    return [cu.cuStreamWaitEvent(c, mark, 0), cu.cuEventQuery(mark)]


def forbidden_calls() -> dict[str, Callable[[], int]]:
    """Calls that a capture may forbid; made ready before it begins."""
    mark = event()
    other = stream()
    check(cu.cuEventRecord(mark, other))
    check(cu.cuStreamSynchronize(other))
    spare = event()
    return {
        "cuMemAlloc": lambda: cu.cuMemAlloc_v2(byref(c_uint64()), c_size_t(64)),
        "cuMemHostAlloc": lambda: cu.cuMemHostAlloc(byref(c_void_p()), c_size_t(64), 0),
        "cuEventQuery": lambda: cu.cuEventQuery(mark),
        "cuEventSynchronize": lambda: cu.cuEventSynchronize(mark),
        "cuEventCreate": lambda: cu.cuEventCreate(byref(c_void_p()), DISABLE_TIMING),
        "cuEventDestroy": lambda: cu.cuEventDestroy_v2(spare),
        "cuEventRecord": lambda: cu.cuEventRecord(mark, other),
        "cuStreamQuery": lambda: settled(cu.cuStreamQuery, other),
        "cuStreamSynchronize": lambda: cu.cuStreamSynchronize(other),
        "cuStreamCreate": lambda: cu.cuStreamCreate(byref(c_void_p()), NON_BLOCKING),
    }


def forbidden(mode: int, thread_mode: int, *, here: bool) -> dict[str, list[int]]:
    answers = {}
    for name, call in forbidden_calls().items():
        p = stream()
        begin(p, mode)

        def run(call: Callable[[], int] = call) -> int:
            exchanged = c_uint(thread_mode)
            check(cu.cuThreadExchangeStreamCaptureMode(byref(exchanged)))
            status = call()
            check(cu.cuThreadExchangeStreamCaptureMode(byref(exchanged)))
            return status

        status = run() if here else elsewhere(run)
        answers[name] = [status, end(p)]
    return answers


@case
def calls_in_the_thread_of_a_global_capture() -> dict[str, list[int]]:
    return forbidden(GLOBAL, GLOBAL, here=True)


@case
def calls_in_another_thread_during_a_global_capture() -> dict[str, list[int]]:
    return forbidden(GLOBAL, GLOBAL, here=False)


@case
def calls_in_another_thread_during_a_thread_local_capture() -> dict[str, list[int]]:
    return forbidden(THREAD_LOCAL, GLOBAL, here=False)


@case
def calls_in_a_relaxed_thread_during_a_global_capture() -> dict[str, list[int]]:
    return forbidden(GLOBAL, RELAXED, here=True)


@case
def calls_during_a_relaxed_capture() -> dict[str, list[int]]:
    return forbidden(RELAXED, GLOBAL, here=True)


# --- order and contexts ---


def gate(on: c_void_p) -> c_uint:
    """Hold a stream; storing 1 in the word returned lets it go."""
    address = c_void_p()
    check(cu.cuMemHostAlloc(byref(address), c_size_t(8), 2))
    word = c_uint.from_address(address.value or 0)
    word.value = 0
    check(cu.cuStreamWaitValue32_v2(on, address, 1, 0))
    return word


@case
def gate_holds_its_stream_until_the_host_stores() -> list[int]:
    p, mark = stream(), event()
    word = gate(p)
    check(cu.cuEventRecord(mark, p))
    held = [settled(cu.cuStreamQuery, p), settled(cu.cuEventQuery, mark)]
    held.append(cu.cuStreamQuery(stream()))
    word.value = 1
    return [*held, cu.cuStreamSynchronize(p), cu.cuEventQuery(mark)]


@case
def destroyed_event_still_holds_a_waiting_stream() -> list[int]:
    p, c, mark = stream(), stream(), event()
    word = gate(p)
    check(cu.cuEventRecord(mark, p))
    check(cu.cuStreamWaitEvent(c, mark, 0))
    answers = [cu.cuEventDestroy_v2(mark), settled(cu.cuStreamQuery, c)]
    word.value = 1
    return [*answers, cu.cuStreamSynchronize(c)]


@case
def legacy_waits_for_blocking_streams_only() -> list[int]:
    answers = []
    for flags in (0, NON_BLOCKING):
        p, mark = stream(flags), event()
        word = gate(p)
        check(cu.cuEventRecord(mark, LEGACY))
        answers.append(settled(cu.cuEventQuery, mark))
        word.value = 1
        check(cu.cuStreamSynchronize(p))
    return answers


@case
def legacy_waits_for_the_per_thread_stream_of_another_thread() -> list[int]:
    mark = event()
    word = elsewhere(gate, PER_THREAD)
    check(cu.cuEventRecord(mark, LEGACY))
    answers = [settled(cu.cuEventQuery, mark)]
    word.value = 1
    return [*answers, cu.cuEventSynchronize(mark)]


@case
def event_never_recorded() -> list[int]:
    p, mark = stream(), event()
    return [cu.cuEventQuery(mark), cu.cuEventSynchronize(mark), cu.cuStreamWaitEvent(p, mark, 0)]


@case
def elapsed_time_that_cannot_be_had() -> list[int]:
    p, out = stream(), ctypes.c_float()
    timed, again, untimed = event(0), event(0), event()
    never = cu.cuEventElapsedTime(byref(out), timed, again)
    check(cu.cuEventRecord(timed, p))
    check(cu.cuEventRecord(untimed, p))
    check(cu.cuStreamSynchronize(p))
    without = cu.cuEventElapsedTime(byref(out), timed, untimed)
    word = gate(p)
    check(cu.cuEventRecord(again, p))
    pending = cu.cuEventElapsedTime(byref(out), timed, again)
    word.value = 1
    check(cu.cuStreamSynchronize(p))
    return [never, without, pending, cu.cuEventElapsedTime(byref(out), timed, again)]


@case
def stream_zero_is_the_legacy_stream() -> list[int]:
    p, mark = stream(0), event()
    word = gate(p)
    check(cu.cuEventRecord(mark, c_void_p(0)))
    held = settled(cu.cuEventQuery, mark)
    word.value = 1
    return [held, cu.cuEventSynchronize(mark)]


@case
def driver_call_in_a_host_function() -> list[int]:
    p, answers = stream(), []
    function = HOST_FUNCTION(lambda _user: answers.append(cu.cuStreamQuery(p)))
    check(cu.cuLaunchHostFunc(p, function, None))
    check(cu.cuStreamSynchronize(p))
    return answers


@case
def event_of_another_context() -> list[int]:
    """A second context on the same device: recording is refused, waiting is not."""
    p, mark = stream(), event()
    other, c = c_void_p(), c_void_p()
    check(cu.cuCtxCreate_v2(byref(other), 0, 0))
    check(cu.cuStreamCreate(byref(c), NON_BLOCKING))
    foreign = event()
    answers = [cu.cuEventRecord(mark, c), cu.cuEventRecord(foreign, c)]
    answers += [cu.cuStreamWaitEvent(p, foreign, 0), cu.cuEventRecord(mark, p)]
    check(cu.cuCtxDestroy_v2(other))
    return answers


@case
def calls_without_a_current_context() -> dict[str, int]:
    p, mark, context = stream(), event(), c_void_p()
    check(cu.cuEventRecord(mark, p))
    check(cu.cuCtxPopCurrent_v2(byref(context)))
    out = c_int()
    answers = {
        "cuEventRecord": cu.cuEventRecord(mark, p),
        "cuStreamWaitEvent": cu.cuStreamWaitEvent(p, mark, 0),
        "cuStreamIsCapturing": cu.cuStreamIsCapturing(p, byref(out)),
        "cuEventQuery": cu.cuEventQuery(mark),
        "cuStreamQuery": cu.cuStreamQuery(p),
        "cuEventCreate": cu.cuEventCreate(byref(c_void_p()), DISABLE_TIMING),
        "legacy cuEventRecord": cu.cuEventRecord(mark, LEGACY),
        "cuStreamSynchronize": cu.cuStreamSynchronize(p),
    }
    check(cu.cuCtxPushCurrent_v2(context))
    return answers


def main(path: str) -> None:
    """Print the verdicts of one driver; a case that breaks says so instead."""
    global cu
    cu = ctypes.CDLL(path)
    context, name = c_void_p(), ctypes.create_string_buffer(100)
    check(cu.cuInit(0))
    check(cu.cuDeviceGetName(name, 100, 0))
    check(cu.cuDevicePrimaryCtxRetain(byref(context), 0))
    check(cu.cuCtxSetCurrent(context))
    cu.cuStreamSynchronize(PER_THREAD)  # makes it exist
    verdicts: dict[str, Any] = {}
    for label, function in CASES.items():
        try:
            verdicts[label] = function()
        except RuntimeError as error:
            verdicts[label] = str(error)
    print(json.dumps({"device": name.value.decode(), "verdicts": verdicts}, indent=1))


if __name__ == "__main__":
    main(*sys.argv[1:] or ["libcuda.so.1"])
