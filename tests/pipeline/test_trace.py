"""What is seen of a pipeline: the trace, the drawing, the live view."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import dlexchange as dx
from dlexchange.pipeline import Pipeline
from dlexchange.pipeline.view import table
from dlexchange.testing import Simulation

from .support import Gate, spin

ROOT = Path(__file__).parent.parent.parent


def trace_of(pipe: Pipeline, tmp_path: Path) -> list[dict[str, Any]]:
    path = tmp_path / "t.json"
    pipe.trace(path)
    return json.loads(path.read_text())["traceEvents"]


def three(**options: Any) -> Pipeline:
    pipe = Pipeline("three", **options)
    a = pipe.stage(lambda ctx, x: x, name="a")

    @pipe.stage
    def b(ctx: Any, x: Any) -> Any:
        for i in range(3):
            yield ctx.partial(i, step=i)
        return x

    c = pipe.stage(lambda ctx, x, y: (x, y), name="c")
    a >> b >> c
    a >> c
    return pipe


@pytest.mark.parametrize("parallel", [True, False], ids=["parallel", "inline"])
def test_the_trace_has_a_row_a_stage_and_an_arrow_a_hand_off_and_release(
    tmp_path: Path, parallel: bool
) -> None:
    pipe = three(parallel=parallel)
    with pipe.sync() as p:
        for i in range(5):
            p(i)
    events = trace_of(pipe, tmp_path)
    rows = {e["args"]["name"] for e in events if e["ph"] == "M" and e["name"] == "thread_name"}
    assert rows == {"thread of a", "thread of b", "thread of c"}
    runs = Counter(e["name"].split()[0] for e in events if e["ph"] == "X" and e["cat"] == "run")
    assert runs == {"a": 5, "b": 20, "c": 5}
    arrows = Counter((e["ph"], e["cat"]) for e in events if e["ph"] in "sf")
    assert arrows == {(ph, what): 15 for ph in "sf" for what in ("hand-off", "release")}
    at = {(e["id"], e["ph"]): e["ts"] for e in events if e["ph"] in "sf" and e["cat"] == "hand-off"}
    assert all(at[number, "s"] <= at[number, "f"] for number, ph in at if ph == "s")
    requests = Counter(e["ph"] for e in events if e.get("cat") == "request")
    assert requests == {"b": 5, "n": 5, "e": 5}
    assert all(e["ts"] >= 0 and e.get("dur", 0) >= 0 for e in events if "ts" in e)


def test_cancellations_and_waits_are_marked(tmp_path: Path) -> None:
    gate = Gate()
    pipe = Pipeline()

    @pipe.stage
    def work(ctx: Any, x: Any) -> Any:
        for i in range(10):
            yield ctx.partial(i, step=i)
        gate.wait()
        ctx.checkpoint()

    with pipe.sync() as p:
        parts = p.stream(0, buffer=1)
        next(parts)
        next(parts)
        parts.close()
        spin(lambda: not pipe._engine.flow.unfinished)
    events = trace_of(pipe, tmp_path)
    assert [e["name"] for e in events if e["ph"] == "i"] == ["work cancelled"]
    assert {e["name"] for e in events if e.get("cat") == "wait"} == {"for its consumer"}
    (ended,) = (e for e in events if e["ph"] == "e")
    assert ended["args"] == {"outcome": "cancelled"}


def test_streams_have_rows_apart_and_waits_for_the_device_are_counted(
    sim: Simulation, tmp_path: Path
) -> None:
    framework = sim.framework()
    stream = sim.stream()
    pipe = Pipeline("on a device")
    pipe.stage(lambda ctx, x: x + x, name="double", device="cuda:0", lookahead=1)
    with pipe.sync() as p, framework.use_stream(stream):
        for _ in range(3):
            p(framework.array(4, "int32", fill=1))
        waits = dx.stats().host_waits
        text = pipe.draw(tmp_path / "p.svg")
    path = tmp_path / "t.json"
    pipe.trace(path)
    written = json.loads(path.read_text())
    device = [e for e in written["traceEvents"] if e.get("cat") == "device"]
    host = [e for e in written["traceEvents"] if e.get("cat") == "run"]
    assert len(device) == len(host) == 3
    assert {e["pid"] for e in device} != {e["pid"] for e in host}
    waited = [e for e in written["traceEvents"] if e.get("cat") == "wait"]
    counters = written["otherData"]
    assert counters == {"device synchronisations": 0, "host waits": len(waited)}
    assert len(waited) >= 1
    assert f"device synchronisations: 0, host waits: {counters['host waits']}" in text
    assert dx.stats().host_waits == waits
    sim.driver("cuCtxSetCurrent", sim.context())
    sim.driver("cuCtxSynchronize")
    assert "device synchronisations: 1" in pipe.draw(), "the counter counts"


def test_the_core_has_no_call_that_synchronises_a_device() -> None:
    calls = re.findall(r'"(cu[A-Z]\w+)"', (ROOT / "csrc" / "gpu.h").read_text())
    assert "cuEventSynchronize" in calls
    assert not {call for call in calls if re.match("cu(Ctx|Device)Sync", call)}


def test_the_drawing_is_an_svg_of_stages_joins_and_spans(tmp_path: Path) -> None:
    pipe = three()
    pipe.filter(lambda ctx, x: x, name="<safe>")
    before = ET.fromstring(pipe.draw())
    with pipe.sync() as p:
        p(1)
        list(p.stream(1))
    text = pipe.draw(tmp_path / "p.svg")
    assert (tmp_path / "p.svg").read_text() == text
    after = ET.fromstring(text)
    svg = "{http://www.w3.org/2000/svg}"
    joins = [line for line in after.iter(f"{svg}line") if line.get("marker-end")]
    assert len(joins) == 3
    labels = [t.text for t in after.iter(f"{svg}text")]
    assert {"a", "b", "c", "<safe>", "a: thread"} <= set(labels)
    spans = [title.text for title in after.iter(f"{svg}title")]
    assert len([span for span in spans if re.match(r"request [1-9]\d*: b", span)]) == 4 * 2
    assert not list(before.iter(f"{svg}title"))


def test_events_are_bounded_and_can_be_switched_off(tmp_path: Path) -> None:
    for keep in (10, 0):
        pipe = three(keep=keep)
        with pipe.sync() as p:
            for i in range(20):
                p(i)
        assert len(pipe._recorder.spans) == keep
        trace_of(pipe, tmp_path)
        pipe.draw()
    with pytest.raises(RuntimeError, match="nothing has happened"):
        three().trace(tmp_path / "no.json")


def test_the_live_view_shows_what_waits_and_what_works() -> None:
    rich = pytest.importorskip("rich.console")
    gate = Gate()
    pipe = Pipeline("long run", inflight=2)

    @pipe.stage
    def work(ctx: Any, x: Any) -> Any:
        yield
        gate.wait()
        return x

    def shown() -> str:
        console = rich.Console(width=100, file=None, record=True, quiet=False)
        with console.capture() as capture:
            console.print(table(pipe.name, pipe._engine.flow))
        return capture.get()

    with pipe.sync() as p:
        futures = [p.submit(i) for i in range(4)]
        assert gate.arrived.acquire(timeout=60)
        text = shown()
        number = futures[0]._request.number
        assert re.search(rf"work\s+│ host\s+│ 1\s+│ {number}\s+│ 1", text), text
        assert "2 wait for a ticket, 0 are free" in text.replace("\n", " ")
        console = rich.Console(file=open("/dev/null", "w"))
        with pipe.live(console=console, auto_refresh=False) as view:
            view.refresh()
        console.file.close()
        gate.open()
        for future in futures:
            future.result()
        spin(lambda: not pipe._engine.flow.working)
        assert "4 finished" in shown()
