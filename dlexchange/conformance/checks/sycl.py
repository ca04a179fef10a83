"""SYCL: contexts, queues as streams, and the way to the host."""

from __future__ import annotations

from typing import Any

from ..asking import (
    NEWEST,
    Raised,
    ask,
    device_pair,
    example,
    fake_for,
    imported,
    producer_snippet,
    try_import,
)
from ..engine import ON_SYCL, checks
from ..looking import gather, peek
from ..subject import Subject
from ..verdict import Failed, Untested

ON_SUB_DEVICE = "on a SYCL sub-device"


@checks("sycl.default-context-only", "producer", ON_SYCL)
def default_context_only(subject: Subject) -> None:
    make = subject.odd_arrays().get(ON_SUB_DEVICE)
    if make is None:
        raise Untested("it gives no array on a sub-device")
    try:
        x = make()
    except Exception as error:
        raise Untested(f"the device can not be partitioned: {error!r}") from None
    if not isinstance(ask(subject, x, max_version=NEWEST), Raised):
        raise Failed(
            "a refusal of memory outside the default context",
            "an export",
            producer_snippet(
                subject,
                "try: x.__dlpack__()",
                "except Exception: pass",
                "else: assert False, 'no exception'",
                x=subject.unexportable.get(ON_SUB_DEVICE, ""),
            ),
        )


@checks("sycl.default-context-only", "consumer", ON_SYCL)
def foreign_context_refused(subject: Subject) -> None:
    fake = fake_for(subject, shape=(2, 3), memory=subject.sycl.foreign_memory)
    array = try_import(subject, fake)
    if isinstance(array, Raised):
        return
    try:
        values = subject.values(array)
    except Untested:
        raise
    except Exception:
        return
    raise Failed("an exception for memory outside the default context", f"the values {values}")


@checks("stream.consumer-stream-current", "consumer", ON_SYCL)
def queue_waits(subject: Subject) -> None:
    latch = subject.sycl.latch()
    if latch is None:
        raise Untested("the device has no compute unit to hold a queue with")

    def order(asked: dict[str, Any]) -> None:
        if asked.get("stream") is not None:
            subject.sycl.order(latch, asked["stream"])

    try:
        fake = fake_for(subject, shape=(2, 3), before=order)
        array = imported(subject, fake)
        if fake.asked[-1].get("stream") is None:
            raise Untested("it passes no queue, and what None means is open: see sycl.none")
        is_held = subject.sycl.is_held(subject.queue_of(array))
    finally:
        latch.open()
    if not is_held:
        raise Failed("the consumer's queue behind what the producer ordered", "it runs at once")


@checks("import.same-device", "consumer", ON_SYCL)
def same_device(subject: Subject) -> None:
    array = imported(subject, fake_for(subject, shape=(2, 3)))
    if device_pair(subject, array) != subject.device:
        raise Failed(f"an array on {subject.device}", f"{device_pair(subject, array)}")


@checks("sycl.stream-type", "producer", ON_SYCL)
def stream_type(subject: Subject) -> None:
    answer = ask(subject, example(subject), stream=subject.new_stream())
    if isinstance(answer, Raised):
        raise Failed("a queue to be taken as stream", str(answer))


@checks("copy.to-host", "producer", ON_SYCL)
def to_host(subject: Subject) -> None:
    answer = ask(subject, example(subject), max_version=NEWEST, dl_device=(1, 0))
    if isinstance(answer, Raised):
        raise Failed(
            "an export to the host",
            str(answer),
            producer_snippet(
                subject,
                "try: x.__dlpack__(dl_device=(1, 0))",
                "except Exception as e: raise AssertionError(f'{type(e).__name__}: {e}')",
            ),
        )
    if peek(answer, 2).device[0] != 1:
        raise Failed("host memory", f"device {peek(answer, 2).device}")


@checks("stream.host-copy-complete", "producer", ON_SYCL)
def host_copy_complete(subject: Subject) -> None:
    x = example(subject)
    answer = ask(subject, x, max_version=NEWEST, dl_device=(1, 0))
    if isinstance(answer, Raised) or peek(answer, 2).device[0] != 1:
        raise Untested("see copy.to-host")
    seen = gather(peek(answer, 2), subject.dtypes[0])
    if seen != [float(v) for v in range(6)]:
        raise Failed("the array's values on the host when the call returns", f"{seen}")
