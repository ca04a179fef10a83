"""A subject: what the suite has to know about a library in order to judge it."""

from __future__ import annotations

import contextlib
import functools
import gc
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, ClassVar

from .cuda import Cuda
from .sycl import Sycl
from .verdict import Untested

__all__ = ["HOST", "Subject"]

HOST = (1, 0)

#: Layouts of an array of shape (2, 3), as expressions every numpy-like library accepts.
LAYOUTS = {
    "transposed": "{a}.T",
    "every-second": "{a}[:, ::2]",
    "from-the-middle": "{a}[1:, 1:]",
    "column": "{a}[:, 1]",
}


class Subject:
    """Describes a library to the suite by a few pieces of code, as its users write them.

    Give the pieces as class attributes; the suite runs them and pastes the same text into
    the snippets that reproduce a failure. A piece left out means that the library does
    not offer it, and the checks that need it say so. Methods may be overridden instead;
    then there are no snippets for what they do.

    Attributes
    ----------
    name : str
        What the subject is called.
    imports : str
        Statements that import the library.
    make_code : str
        Expression for a new array; placeholders ``{values}`` (a flat list), ``{shape}``
        and ``{dtype}``.
    consume_code : str
        Expression that imports ``{x}``; ``{options}`` is empty or ``, copy=True`` and so on.
    values_code : str
        Expression for the values of ``{a}`` as a flat list in C order.
    dtypes : sequence of str
        Names of the dtypes that `make_code` accepts; the first is used where any will do.
    layouts : mapping of str to str
        Expressions for views of an array ``{a}`` of shape (2, 3).
    unexportable : mapping of str to str
        Expressions for arrays that are not raw strided memory. The names "byte-swapped",
        "long-double" and "indivisible-strides" have clauses of their own.
    write_code, read_only_code, is_writable_code, mutate_code : str
        Write ``{value}`` into every element of ``{a}`` in place (a statement); a read-only
        view of ``{a}``; whether ``{a}`` can be written; change its shape in place.
    immutable : bool
        Arrays must never be written once they are made.
    host_only : bool
        The library has host memory alone, so that streams can never matter to it.
    device : pair of int
        The DLPack device of its arrays.
    stream_code, handle_code, using_code : str
        A new stream; the driver's handle of the stream ``{s}``; a context manager in which
        ``{s}`` is the library's current stream (left out where it has none).
    fill_code, touch_code, address_code : str
        Write ``{value}`` into every element of ``{a}`` on the stream ``{s}``, asynchronously
        (a statement); read ``{a}`` on ``{s}`` asynchronously; its device address.
    written_code : str
        An array of shape (2, 3) of float32 with a pending write of ``{value}`` on the stream
        ``{s}``; left out where making and filling one gives that.
    settle_code : str
        Whatever lets the library drop what nobody refers to (a statement).
    queue_code : str
        The SYCL queue on which ``{a}`` is used.
    import_on_code, from_cai_code : str
        Import ``{x}`` for use on the stream ``{s}`` where that is not `consume_code` within
        `using_code`; the same through ``__cuda_array_interface__``.
    speaks_dlpack : bool
        Its arrays have ``__dlpack__``; False where they speak the CUDA Array Interface alone.
    judged : sequence of str
        Clause prefixes that can be judged at all; every clause where empty.
    refuses : mapping of str to str
        Clause prefixes that the library declares it does not offer, with the reason.
    ground : str
        Where it runs: "host", "simulated CUDA", "CUDA" or "SYCL".
    """

    name: ClassVar[str] = ""
    imports: ClassVar[str] = ""
    distribution: ClassVar[str | Sequence[str]] = ""
    make_code: ClassVar[str] = ""
    consume_code: ClassVar[str] = ""
    values_code: ClassVar[str] = ""
    dtypes: ClassVar[Sequence[str]] = ("float32",)
    layouts: ClassVar[Mapping[str, str]] = LAYOUTS
    unexportable: ClassVar[Mapping[str, str]] = {}
    write_code: ClassVar[str] = ""
    read_only_code: ClassVar[str] = ""
    is_writable_code: ClassVar[str] = ""
    mutate_code: ClassVar[str] = ""
    stream_code: ClassVar[str] = ""
    handle_code: ClassVar[str] = ""
    using_code: ClassVar[str] = ""
    fill_code: ClassVar[str] = ""
    touch_code: ClassVar[str] = ""
    written_code: ClassVar[str] = ""
    settle_code: ClassVar[str] = ""
    address_code: ClassVar[str] = ""
    queue_code: ClassVar[str] = ""
    import_on_code: ClassVar[str] = ""
    from_cai_code: ClassVar[str] = ""
    speaks_dlpack: ClassVar[bool] = True
    judged: ClassVar[Sequence[str]] = ()
    immutable: ClassVar[bool] = False
    host_only: ClassVar[bool] = False
    device: ClassVar[tuple[int, int]] = HOST
    refuses: ClassVar[Mapping[str, str]] = {}
    ground: ClassVar[str] = "host"

    def __init__(self) -> None:
        self._namespace: dict[str, Any] | None = None
        self.cuda: Cuda | None = None
        self.simulator: Any = None

    def load(self) -> None:
        """Import the library.

        Raises
        ------
        ModuleNotFoundError
            It is not installed.
        """
        if self._namespace is None:
            namespace: dict[str, Any] = {"sim": self.simulator}
            exec(self.imports, namespace)
            self._namespace = namespace

    @property
    def version(self) -> str:
        """The installed version of the library."""
        from importlib.metadata import PackageNotFoundError

        from ..adapters.info import version_of

        names = self.distribution or self.name
        names = (names,) if isinstance(names, str) else names
        found = version_of(names)
        if found is None:
            raise PackageNotFoundError(" or ".join(names))
        return found

    def enter(self, simulator: Any) -> None:
        """Take note of the simulated driver, before the library is imported."""
        self.simulator = simulator
        self.cuda = Cuda(simulator)

    # --- as a producer

    @property
    def produces(self) -> bool:
        """Whether it makes arrays."""
        return bool(self.make_code) or type(self).make is not Subject.make

    def make(self, values: Sequence[float], shape: tuple[int, ...], dtype: str) -> Any:
        """A new array."""
        return self.evaluate(self.make_text(values, shape, dtype))

    def make_text(self, values: Sequence[float], shape: tuple[int, ...], dtype: str) -> str:
        """The expression for a new array."""
        return self.make_code.format(values=list(values), shape=shape, dtype=dtype)

    def export(self, x: Any, **keywords: Any) -> Any:
        """What ``x.__dlpack__`` returns."""
        return x.__dlpack__(**keywords)

    def device_of(self, x: Any) -> Any:
        """What ``x.__dlpack_device__`` returns."""
        return x.__dlpack_device__()

    def odd_arrays(self) -> dict[str, Callable[[], Any]]:
        """Makers of the arrays of `unexportable`."""
        return {
            name: functools.partial(self.evaluate, code) for name, code in self.unexportable.items()
        }

    # --- as a consumer

    @property
    def consumes(self) -> bool:
        """Whether it imports arrays."""
        return bool(self.consume_code) or type(self).from_dlpack is not Subject.from_dlpack

    def from_dlpack(self, x: Any, **options: Any) -> Any:
        """The library's array over the memory of `x`."""
        if options and "{options}" not in self.consume_code:
            raise Untested(f"its import takes no {', '.join(options)}")
        text = self.consume_code.format(x="x", options=_options(options))
        return self.evaluate(text, x=x, **options)

    def values(self, array: Any) -> list[Any]:
        """The values of an array, flat, in C order."""
        return list(self.evaluate(self._given("values_code"), a=array))

    # --- both

    def layout(self, array: Any, name: str) -> Any:
        """A view of `array` with the layout `name`."""
        if name not in self.layouts:
            raise Untested(f"{self.name} offers no layout {name!r}")
        return self.evaluate(self.layouts[name], a=array)

    def write(self, array: Any, value: float) -> None:
        """Set every element of `array` in place."""
        self.execute(self._given("write_code"), a=array, value=value)

    def read_only(self, array: Any) -> Any:
        """A read-only view of `array`, or `array` where all are."""
        return array if self.immutable else self.evaluate(self._given("read_only_code"), a=array)

    def is_writable(self, array: Any) -> bool:
        """Whether the library lets `array` be written."""
        return bool(self.evaluate(self._given("is_writable_code"), a=array))

    def mutate(self, array: Any) -> None:
        """Change the shape of `array` in place."""
        self.execute(self._given("mutate_code"), a=array)

    def settle(self) -> None:
        """Let the library drop what nobody refers to."""
        gc.collect()
        if self.settle_code:
            self.execute(self.settle_code)

    # --- streams

    def stage(self) -> Cuda:
        """The suite's hands on the driver, with a clean slate.

        Raises
        ------
        Untested
            The subject has no streams.
        """
        if self.cuda is None:
            raise Untested(f"{self.name} is judged without a driver")
        self.cuda.begin()
        return self.cuda

    @property
    def sycl(self) -> Sycl:
        """The suite's hands on SYCL."""
        return Sycl()

    def queue_of(self, array: Any) -> Any:
        """The SYCL queue on which `array` is used."""
        return self.evaluate(self._given("queue_code"), a=array)

    def new_stream(self) -> Any:
        """A new stream of the library."""
        return self.evaluate(self._given("stream_code"))

    def handle(self, stream: Any) -> int:
        """The driver's handle of a stream."""
        return int(self.evaluate(self._given("handle_code"), s=stream))

    def using(self, stream: Any) -> AbstractContextManager[Any]:
        """A context in which `stream` is the library's current stream."""
        if not self.using_code:
            return contextlib.nullcontext()
        manager: AbstractContextManager[Any] = self.evaluate(self.using_code, s=stream)
        return manager

    @property
    def has_current_stream(self) -> bool:
        """Whether the library has a stream that is current."""
        return bool(self.using_code) or type(self).using is not Subject.using

    def fill(self, array: Any, value: float, stream: Any) -> None:
        """Write `value` into every element on `stream`, asynchronously."""
        self.execute(self._given("fill_code"), a=array, value=value, s=stream)

    def written(self, value: float, stream: Any) -> Any:
        """An array of shape (2, 3) with a pending write of `value` on `stream`."""
        if self.written_code:
            with self.using(stream):
                return self.evaluate(self.written_code, value=value, s=stream)
        with self.using(stream):
            array = self.make([1] * 6, (2, 3), "float32")
        stage = self.stage()
        stage.synchronize(self.handle(stream))
        stage.begin()
        self.fill(array, value, stream)
        return array

    def touch(self, array: Any, stream: Any) -> Any:
        """Read `array` on `stream`, asynchronously; something that keeps the work alive."""
        return self.evaluate(self._given("touch_code"), a=array, s=stream)

    def address(self, array: Any) -> int:
        """The device address of element zero."""
        return int(self.evaluate(self._given("address_code"), a=array))

    def import_on(self, x: Any, stream: Any) -> Any:
        """Import `x` for use on `stream`."""
        if self.import_on_code:
            return self.evaluate(self.import_on_code, x=x, s=stream)
        with self.using(stream):
            return self.from_dlpack(x)

    @property
    def imports_cai(self) -> bool:
        """Whether it imports through the CUDA Array Interface."""
        return bool(self.from_cai_code) or type(self).from_cai is not Subject.from_cai

    def from_cai(self, x: Any, stream: Any) -> Any:
        """Import `x` through ``__cuda_array_interface__`` for use on `stream`."""
        with self.using(stream):
            return self.evaluate(self._given("from_cai_code"), x=x, s=stream)

    # --- running the pieces of code

    def _given(self, piece: str) -> str:
        code: str = getattr(self, piece)
        if not code:
            raise Untested(f"{self.name} gives no {piece}")
        return code

    def evaluate(self, code: str, **names: Any) -> Any:
        """The value of a piece of code over the subject's imports."""
        self.load()
        assert self._namespace is not None
        return eval(_filled(code, names), self._namespace, names)

    def execute(self, code: str, **names: Any) -> None:
        """Run a piece of code that is a statement."""
        self.load()
        assert self._namespace is not None
        exec(_filled(code, names), self._namespace, names)

    def __repr__(self) -> str:
        return f"<subject {self.name}>"


def _filled(code: str, names: Mapping[str, Any]) -> str:
    """Placeholders replaced by the variables of the same name."""
    for name in names:
        code = code.replace("{" + name + "}", name)
    return code


def _options(options: Mapping[str, Any]) -> str:
    return "".join(f", {name}={name}" for name in options)
