"""Where deleters run: each in a child process that must end by itself."""

from __future__ import annotations

import textwrap
from collections.abc import Callable

import pytest
from support import child

pytestmark = pytest.mark.slow

BEGIN = """
import ctypes, gc, os, threading
import dlexchange as dx
from dlexchange.testing import drain, simulated_cuda
from support import native
from support.dlpack import claim, delete
def export(sim, c):
    # memory that c has used: an edge where its producer's stream is known, else a park
    p = sim.stream()
    x = sim.array(16, "int32", stream=p, fill=7, speaks=speaks)
    with x.framework.use_stream(p):
        t = dx.from_dlpack(x)
    t.record_stream(c)
    managed = claim(t.__dlpack__(stream=-1, max_version=(1, 3)))
    t.close()
    return managed
def all_is_released():
    drain()
    assert dx.stats().live == 0, dx.stats()
    assert (dx.stats().edges > 0) == (speaks == "exchange_api"), dx.stats()
"""


Run = Callable[[str], str]


@pytest.fixture(params=["exchange_api", "dlpack"], ids=["edge", "park"])
def run(request: pytest.FixtureRequest) -> Run:
    begin = f"speaks = {request.param!r}{BEGIN}"
    return lambda code: child.run(begin + textwrap.dedent(code), timeout=60)


def test_in_a_raw_thread_while_the_gil_is_held(run: Run) -> None:
    done = run(
        """
        with simulated_cuda() as sim:
            managed = export(sim, sim.stream())
            native.held.delete_in_raw_thread(ctypes.addressof(managed), 1)  # waits, GIL held
            for _ in range(100):
                pass
            all_is_released()
            assert not sim.findings
        print("ended")
        """
    )
    assert "ended" in done


def test_inside_a_callback_of_the_driver(run: Run) -> None:
    done = run(
        """
        with simulated_cuda() as sim:
            q = sim.stream()
            managed = export(sim, sim.stream())
            q.host_function(lambda: delete(managed))
            q.synchronize()
            all_is_released()
            assert {f.kind for f in sim.findings} <= {"call-in-host-function"}, sim.findings
        print("ended")
        """
    )
    assert "ended" in done


def test_while_another_thread_holds_the_gil_and_the_driver_blocks(run: Run) -> None:
    done = run(
        """
        with simulated_cuda() as sim:
            q = sim.stream()
            latch = sim.latch(q)
            managed = export(sim, q)
            waiter = threading.Thread(target=dx.Stream.from_handle("cuda:0", q.handle).synchronize)
            waiter.start()
            native.released.delete_here(ctypes.addressof(managed), 1)  # a thread without the GIL
            latch.open()
            waiter.join()
            all_is_released()
        print("ended")
        """
    )
    assert "ended" in done


def test_after_the_interpreter_has_ended(run: Run) -> None:
    done = run(
        """
        context = simulated_cuda()
        sim = context.__enter__()
        managed = export(sim, sim.stream())
        native.held.delete_after_finalisation(ctypes.addressof(managed), 1)
        kept = dx.from_dlpack(sim.array(4, stream=sim.stream(), fill=1))  # and one left alive
        kept.record_stream(sim.stream())
        print("ending", flush=True)
        """
    )
    assert "ending" in done
    assert "deleted late" in done


def test_in_a_forked_child(run: Run) -> None:
    done = run(
        """
        import warnings
        warnings.simplefilter("ignore")
        with simulated_cuda() as sim:
            managed = export(sim, sim.stream())
            t = dx.from_dlpack(sim.array(4, stream=sim.stream(), fill=1))
            t.record_stream(sim.stream())
            leaked = dx.stats().leaked
            pid = os.fork()
            if pid == 0:
                delete(managed)
                del t
                os._exit(dx.stats().leaked - leaked)
            _, status = os.waitpid(pid, 0)
            print("leaked", os.waitstatus_to_exitcode(status))
            delete(managed)
            del t
            all_is_released()
        """
    )
    assert "leaked 2" in done


def test_of_a_host_copy_that_outlives_the_simulated_driver() -> None:
    done = child.run(
        """
        import asyncio
        import dlexchange as dx
        from dlexchange.testing import simulated_cuda
        with simulated_cuda() as sim:
            copy = asyncio.run(dx.host(sim.array(4, fill=3)))
            assert copy.tolist() == [3] * 4
        assert copy.tolist() == [0] * 4  # as simulated_cuda says
        del copy
        print("ended")
        """
    )
    assert "ended" in done
