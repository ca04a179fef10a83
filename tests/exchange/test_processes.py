"""The end of the interpreter, forked children, several interpreters: nothing crashes."""

from __future__ import annotations

import sys
from importlib.util import find_spec

import pytest
from support import child

pytestmark = pytest.mark.slow

PRELUDE = """
import atexit, ctypes, gc, os, sys, threading, weakref
import numpy as np
import dlexchange as dx
from support import dlpack, native
from support.dlpack import Fake

def exported(x, **keywords):
    managed = dlpack.claim(dx.from_dlpack(x).__dlpack__(**keywords))
    return ctypes.addressof(managed), int(isinstance(managed, dlpack.ManagedVersioned))
"""


def run(code, **keywords):
    return child.run(PRELUDE + child.dedent(code), **keywords)


# ---- the end of the interpreter -----------------------------------------------------------------


@pytest.mark.parametrize("keywords", ["", "max_version=(1, 0)"], ids=["legacy", "versioned"])
@pytest.mark.parametrize(
    "source",
    ["np.arange(6.0)", "Fake()", "Fake(legacy=True)", "dx.from_dlpack(np.arange(6.0), copy=True)"],
)
def test_deleter_after_finalisation_leaks_and_does_not_crash(source, keywords):
    output = run(
        f"""
        address, versioned = exported({source}, {keywords})
        assert native.held.delete_after_finalisation(address, versioned) == 0
        """
    )
    assert output == "deleted late\n"


def test_foreign_deleter_after_finalisation_never_runs():
    output = run(
        """
        fake = Fake()
        fake.on_delete(lambda: print("the deleter ran"))
        address, versioned = exported(fake)
        native.held.delete_after_finalisation(address, versioned)
        """
    )
    assert output == "deleted late\n"


@pytest.mark.parametrize(
    "kept",
    [
        "dx.from_dlpack(fake)",
        "dx.to_numpy(fake)",
        "dx.from_dlpack(fake).__dlpack__()",
        "dx.from_dlpack(fake).__dlpack__(max_version=(1, 0))",
        "memoryview(dx.from_dlpack(fake))",
        "dx.from_dlpack(dx.to_numpy(dx.from_dlpack(fake)))",
        "dx.from_dlpack(np.zeros(3))",
        "dx.from_dlpack(np.zeros(3), copy=True)",
    ],
)
@pytest.mark.parametrize("where", ["main", "builtins", "cycle", "sys", "thread local"])
def test_what_is_alive_at_exit_does_not_crash(kept, where):
    run(
        f"""
        import builtins
        fake = Fake()
        fake.on_delete(lambda: None)
        keep = {kept}
        local = threading.local()
        if "{where}" == "builtins":
            builtins.keep = keep
        elif "{where}" == "cycle":
            cycle = [keep]
            cycle.append(cycle)
        elif "{where}" == "sys":
            sys.keep = keep
        elif "{where}" == "thread local":
            local.keep = keep
        """
    )


@pytest.mark.parametrize("framework", ["torch", "jax", "tvm_ffi"])
def test_arrays_of_frameworks_alive_at_exit_do_not_crash(framework):
    run(
        f"""
        import {framework}
        kept = [dx.convert(Fake(), "{framework}"), dx.convert(np.zeros(16), "{framework}")]
        kept += [dx.from_dlpack(kept[1]), dx.to_numpy(kept[1])]
        sys.keep = kept
        """
    )


def test_deleters_during_atexit_run():
    output = run(
        """
        fake = Fake()
        keep = [dx.from_dlpack(fake)]
        def last():
            keep.clear()
            print("calls", fake.calls, dx.to_numpy(np.arange(2)).tolist())
        atexit.register(last)
        """
    )
    assert output == "calls 1 [0, 1]\n"


def test_objects_that_die_during_finalisation_do_not_crash():
    run(
        """
        class Late:
            def __init__(self):
                self.fake = Fake()
                self.address = exported(Fake(), max_version=(1, 0))
                self.tensor = dx.from_dlpack(np.zeros(3))
                self.library = native.held
            def __del__(self):
                self.library.delete_here(*self.address)
                self.tensor.close()
        import builtins
        builtins.late = Late()
        """
    )


def test_daemon_threads_that_hold_tensors_do_not_crash():
    run(
        """
        started = threading.Event()
        def forever():
            array = np.zeros(1000)
            while True:
                dx.to_numpy(dx.from_dlpack(array))
                started.set()
        for _ in range(3):
            threading.Thread(target=forever, daemon=True).start()
        started.wait()
        """
    )


def test_deleters_left_by_foreign_threads_at_exit_do_not_crash():
    run(
        """
        for _ in range(100):
            native.held.delete_in_raw_thread(*exported(Fake(), max_version=(1, 0)))
        os.sched_yield()
        """
    )


def test_hard_exit_with_everything_alive():
    with pytest.raises(AssertionError, match="exit status 7"):
        run("keep = dx.from_dlpack(np.zeros(3)); os._exit(7)")


# ---- fork ----------------------------------------------------------------------------------------

FORK = """
def in_child(function):
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            function()
            status = 0
        except BaseException:
            import traceback
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0
"""


@pytest.mark.parametrize(
    "kept",
    {
        "Tensor": "dx.from_dlpack(fake)",
        "legacy": "dx.from_dlpack(Fake(fake.array, legacy=True))",
        "array": "dx.to_numpy(fake)",
        "capsule": "dx.from_dlpack(fake).__dlpack__()",
        "memoryview": "memoryview(dx.from_dlpack(fake))",
        "chain": "dx.from_dlpack(dx.to_numpy(dx.from_dlpack(fake)))",
    }.values(),
)
def test_memory_from_before_the_fork_is_never_released_in_the_child(kept):
    run(
        FORK
        + child.dedent(
            f"""
            fake = Fake()
            keep = [{kept}]
            watched = Fake.kept[:]
            def forked():
                keep.clear()
                gc.collect()
                assert [f.calls for f in watched] == [0] * len(watched)
                assert dx.stats().leaked >= 1
            in_child(forked)
            assert [f.calls for f in watched] == [0] * len(watched)
            keep.clear()
            gc.collect()
            assert watched[-1].calls == 1
            assert dx.stats().live == 0, dx.stats()
            assert dx.stats().leaked == 0
            """
        )
    )


def test_close_in_the_child_does_not_release_the_parents_memory():
    run(
        FORK
        + child.dedent(
            """
            fake = Fake()
            tensor = dx.from_dlpack(fake)
            def forked():
                tensor.close()
                assert fake.calls == 0
            in_child(forked)
            tensor.close()
            assert fake.calls == 1
            """
        )
    )


def test_managed_tensors_from_before_the_fork_are_not_released_by_their_deleter():
    run(
        FORK
        + child.dedent(
            """
            fakes = [Fake() for _ in range(4)]
            exports = [exported(fake, **keywords) for fake, keywords in zip(
                fakes, [{}, {"max_version": (1, 0)}] * 2)]
            def forked():
                native.held.delete_here(*exports[0])
                native.released.delete_here(*exports[1])
                native.held.delete_in_raw_thread(*exports[2])
                native.held.delete_in_raw_thread(*exports[3])
                dx.to_numpy(np.zeros(1))
                assert [fake.calls for fake in fakes] == [0] * 4
                assert dx.stats().leaked >= 4
            in_child(forked)
            for export in exports:
                native.held.delete_here(*export)
            assert [fake.calls for fake in fakes] == [1] * 4
            """
        )
    )


def test_what_a_child_makes_is_released_in_the_child():
    run(
        FORK
        + child.dedent(
            """
            before = dx.from_dlpack(np.zeros(3))
            dx.from_dlpack(Fake())
            def forked():
                for _ in range(200):
                    fake = Fake()
                    for consumer in (dx.from_dlpack, dx.to_numpy):
                        fake = Fake()
                        result = consumer(fake)
                        assert fake.calls == 0
                        del result
                        assert fake.calls == 1
                    fake = Fake()
                    native.held.delete_here(*exported(fake, max_version=(1, 0)))
                    assert fake.calls == 1
                assert dx.stats().leaked == 0
                assert dx.stats().live == 1
            in_child(forked)
            """
        )
    )


def test_what_foreign_threads_left_before_the_fork_is_not_released_in_the_child():
    run(
        FORK
        + child.dedent(
            """
            fakes = [Fake() for _ in range(50)]
            exports = [exported(fake, max_version=(1, 0)) for fake in fakes]
            counts = []
            def forked():
                before = [fake.calls for fake in fakes]
                dx.to_numpy(np.zeros(1))
                gc.collect()
                assert [fake.calls for fake in fakes] == before
            for export in exports:
                native.held.delete_in_raw_thread(*export)
            in_child(forked)
            dx.to_numpy(np.zeros(1))
            from dlexchange.testing import drain
            drain()
            assert [fake.calls for fake in fakes] == [1] * 50
            """
        )
    )


def test_a_child_of_a_child():
    run(
        FORK
        + child.dedent(
            """
            first = Fake()
            keep = dx.from_dlpack(first)
            def forked():
                second = Fake()
                mine = dx.from_dlpack(second)
                def forked_again():
                    third = Fake()
                    dx.from_dlpack(third)
                    assert third.calls == 1
                    mine.close()
                    keep.close()
                    assert (first.calls, second.calls) == (0, 0)
                in_child(forked_again)
                mine.close()
                keep.close()
                assert (first.calls, second.calls) == (0, 1)
            in_child(forked)
            keep.close()
            assert first.calls == 1
            """
        )
    )


def test_a_view_of_the_parents_memory_works_in_the_child():
    run(
        FORK
        + child.dedent(
            """
            tensor = dx.from_dlpack(np.arange(4.0))
            def forked():
                array = dx.to_numpy(tensor)
                assert array.tolist() == [0, 1, 2, 3]
                array[0] = 9
                assert dx.to_numpy(dx.from_dlpack(array)).tolist() == [9, 1, 2, 3]
            in_child(forked)
            assert dx.to_numpy(tensor).tolist() == [0, 1, 2, 3]
            """
        )
    )


def test_a_child_forked_while_other_threads_hand_off():
    run(
        FORK
        + child.dedent(
            """
            stop = threading.Event()
            def busy():
                array = np.zeros(100_000)
                while not stop.is_set():
                    dx.to_numpy(dx.from_dlpack(array, copy=True))
            # once before: a child forked during another thread's import waits for ever in Python
            dx.to_numpy(dx.from_dlpack(np.zeros(3), copy=True))
            workers = [threading.Thread(target=busy) for _ in range(3)]
            for worker in workers:
                worker.start()
            def forked():
                for _ in range(50):
                    assert dx.to_numpy(np.arange(3), copy=True).tolist() == [0, 1, 2]
            for _ in range(10):
                in_child(forked)
            stop.set()
            for worker in workers:
                worker.join()
            """
        )
    )


# ---- interpreters and imports ---------------------------------------------------------------


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="the private module has gone")
def test_a_second_interpreter_is_refused():
    run(
        """
        import _xxsubinterpreters as interpreters
        try:
            interpreters.run_string(
                interpreters.create(),
                "import sys; sys.path[:] = %r; import dlexchange" % sys.path,
            )
        except interpreters.RunFailedError as error:
            assert "ImportError" in str(error), error
        else:
            raise SystemExit("imported")
        assert dx.to_numpy(np.arange(3)).tolist() == [0, 1, 2]
        """
    )


def test_importing_anew_does_not_lose_what_there_was():
    run(
        """
        tensor = dx.from_dlpack(np.arange(3))
        for name in [name for name in sys.modules if name.startswith("dlexchange")]:
            del sys.modules[name]
        try:
            import dlexchange
        except ImportError:
            pass
        assert dx.to_numpy(tensor).tolist() == [0, 1, 2]
        """
    )


def test_import_that_failed_can_be_repeated():
    child.run(
        """
        import sys
        name = "dlexchange.adapters.streams"
        sys.modules[name] = None
        try:
            import dlexchange
        except ImportError as error:
            assert name in str(error), error
        else:
            raise SystemExit("imported without a part of it")
        for name in [name for name in sys.modules if name.startswith("dlexchange")]:
            del sys.modules[name]
        import numpy as np
        import dlexchange as dx
        assert dx.to_numpy(dx.from_dlpack(np.arange(3))).tolist() == [0, 1, 2]
        """
    )


def test_importing_loads_no_framework():
    child.run(
        """
        import sys
        import dlexchange
        loaded = {"numpy", "torch", "jax", "cupy", "tvm_ffi", "ml_dtypes"} & set(sys.modules)
        assert not loaded, loaded
        try:
            dlexchange.from_dlpack(3)
        except TypeError:
            pass
        loaded = {"numpy", "torch", "jax", "cupy", "tvm_ffi", "ml_dtypes"} & set(sys.modules)
        assert not loaded, loaded
        """
    )


@pytest.mark.skipif(find_spec("cupy") is None, reason="absent: cupy is not installed")
def test_cupy_without_a_gpu_can_be_imported_beside_us():
    child.run(
        """
        import cupy, numpy as np
        import dlexchange as dx
        assert dx.to_numpy(np.arange(3)).tolist() == [0, 1, 2]
        try:
            dx.to_cupy(np.arange(3.0))
        except dx.CopyError as error:
            assert "copy=True" in str(error) or "device" in str(error), error
        else:
            raise SystemExit("not refused")
        try:
            dx.from_dlpack(cupy.ndarray)
        except (TypeError, dx.ExchangeError):
            pass
        """
    )


def test_strict_mode_can_be_set_by_the_environment():
    for value, strict in (("1", True), ("0", False), ("", False)):
        child.run(
            f"""
            import warnings
            import numpy as np, torch
            import dlexchange as dx
            array = np.zeros(3)
            array.flags.writeable = False
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    dx.to_torch(array)
            except dx.ExchangeError:
                assert {strict}
            else:
                assert not {strict}
            """,
            env={"DLEXCHANGE_STRICT": value},
        )
