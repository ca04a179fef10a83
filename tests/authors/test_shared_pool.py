"""dlexchange.h beside the Python package: one event pool, and the same rules."""

from __future__ import annotations

import subprocess
import sys

import pytest

import dlexchange as dx
from dlexchange.testing import simulated_cuda

from .build import HERE, STRICT, extension

FLAGS = ["-std=c11", "-D_GNU_SOURCE", *STRICT]
SOURCE = HERE / "c_extension.c"


@pytest.fixture(scope="module")
def pooled():
    """Return the C author in a library of its own, which has taken the package's pool."""
    module = extension("dlx_author_c", [SOURCE], [*FLAGS, "-DPOOLED"])
    assert module.share_pool() is True
    return module


@pytest.fixture
def sim():
    with simulated_cuda(devices=2) as sim:
        sim.set_device(0)
        yield sim


def shown(module, memory, streams):
    handles = tuple(stream.handle for stream in streams)
    return module.over(memory.data_ptr, (6,), (1,), (2, 0), handles, memory, False)


def test_push_takes_its_event_from_the_pool(pooled, sim):
    streams, consumer = [sim.stream(), sim.stream()], sim.stream()
    array = shown(pooled, sim.array((6,), stream=streams[0], fill=1), streams)
    array.__dlpack__(stream=consumer.handle)
    pushes = dx.stats().pushes
    sim.reset_calls()
    array.__dlpack__(stream=consumer.handle)
    calls = sim.calls
    assert (calls["cuEventRecord"], calls["cuStreamWaitEvent"]) == (2, 2)
    assert (calls["cuEventCreate"], calls["cuEventDestroy"]) == (0, 0)
    assert dx.stats().pushes == pushes + 2


def test_consumer_reads_what_was_written_through_the_pool(pooled, sim):
    producer, consumer = sim.stream(), sim.stream()
    memory = sim.array((6,), stream=producer, fill=1)
    latch = sim.latch(producer)
    memory.fill(7, stream=producer)
    shown(pooled, memory, [producer]).__dlpack__(stream=consumer.handle)
    latch.open()
    assert memory.tolist(stream=consumer) == [7.0] * 6
    assert sim.findings == []


@pytest.mark.parametrize("captures", ["producer", "consumer", "both, apart"])
@pytest.mark.parametrize("shares", [False, True])
def test_push_that_would_spoil_a_capture_is_refused_before_any_record(
    pooled, sim, shares, captures
):
    module = pooled if shares else extension("dlx_author_c", [SOURCE], FLAGS)
    producer, consumer = sim.stream(), sim.stream()
    array = shown(module, sim.array((6,), stream=producer, fill=1), [producer])
    first, second = (consumer, producer) if captures == "consumer" else (producer, consumer)
    with first.capture():
        if captures == "both, apart":
            with second.capture():
                _refuses(sim, array, consumer)
        else:
            _refuses(sim, array, consumer)


def _refuses(sim, array, consumer):
    sim.reset_calls()
    with pytest.raises(BufferError, match="capturing"):
        array.__dlpack__(stream=consumer.handle)
    assert sim.calls["cuEventRecord"] == 0


@pytest.mark.parametrize("shares", [False, True])
def test_push_within_one_capture_becomes_part_of_it(pooled, sim, shares):
    module = pooled if shares else extension("dlx_author_c", [SOURCE], FLAGS)
    producer, consumer = sim.stream(), sim.stream()
    array = shown(module, sim.array((6,), stream=producer, fill=1), [producer])
    producer.synchronize()
    with producer.capture():
        consumer.wait(producer.record())
        array.__dlpack__(stream=consumer.handle)
        producer.wait(consumer.record())
    assert sim.findings == []


@pytest.mark.parametrize("shares", [False, True])
@pytest.mark.parametrize(
    ("call", "error"),
    [("cuEventRecord", RuntimeError), ("cuStreamWaitEvent", RuntimeError)],
)
def test_failing_driver_raises_the_same_with_and_without(pooled, sim, shares, call, error):
    module = pooled if shares else extension("dlx_author_c", [SOURCE], FLAGS)
    producer, consumer = sim.stream(), sim.stream()
    array = shown(module, sim.array((6,), stream=producer, fill=1), [producer])
    sim.fail(call)
    with pytest.raises(error, match="driver call failed"):
        array.__dlpack__(stream=consumer.handle)
    array.__dlpack__(stream=consumer.handle)


@pytest.mark.parametrize("shares", [False, True])
def test_unknown_handle_is_named_with_and_without(pooled, sim, shares):
    module = pooled if shares else extension("dlx_author_c", [SOURCE], FLAGS)
    producer = sim.stream()
    array = shown(module, sim.array((6,), stream=producer, fill=1), [producer])
    with pytest.raises(BufferError, match="stream:"):
        array.__dlpack__(stream=0xFFFF_8000_0000_0000)


def test_without_the_package_nothing_is_shared_and_nothing_raised():
    code = (
        "import importlib.machinery as m, importlib.util as u, sys\n"
        "sys.modules['dlexchange'] = None\n"
        f"name, path = 'dlx_author_c', {extension('dlx_author_c', [SOURCE], FLAGS).__file__!r}\n"
        "loader = m.ExtensionFileLoader(name, path)\n"
        "module = u.module_from_spec(u.spec_from_file_location(name, path, loader=loader))\n"
        "loader.exec_module(module)\n"
        "print(module.share_pool())\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "False\n", done.stderr
