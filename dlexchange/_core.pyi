"""Types of the C core; stubtest compares them with the extension."""

import sys
from types import ModuleType, TracebackType
from typing import Any, Literal, Protocol, TypeVar, overload

import jax
import numpy.typing
import torch
from typing_extensions import Buffer, CapsuleType, Self, final

from .device import Device, DType

_Array = TypeVar("_Array")

class _HasDevice(Protocol):
    def __dlpack_device__(self) -> tuple[Any, Any]: ...

_DeviceLike = Device | str | tuple[int, int] | _HasDevice | None

@final
class Tensor(Buffer):
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def strides(self) -> tuple[int, ...]: ...
    @property
    def ndim(self) -> int: ...
    @property
    def dtype(self) -> DType: ...
    @property
    def device(self) -> Device: ...
    @property
    def data_ptr(self) -> int: ...
    @property
    def nbytes(self) -> int: ...
    @property
    def readonly(self) -> bool: ...
    @property
    def is_copied(self) -> bool: ...
    @property
    def closed(self) -> bool: ...
    @property
    def __array_interface__(self) -> dict[str, Any]: ...
    __dlpack_c_exchange_api__: CapsuleType
    def close(self, /) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        kind: type[BaseException] | None = ...,
        error: BaseException | None = ...,
        traceback: TracebackType | None = ...,
    ) -> None: ...
    def __dlpack__(
        self,
        /,
        *,
        stream: Any = None,
        max_version: tuple[int, int] | None = None,
        dl_device: tuple[int, int] | None = None,
        copy: bool | None = None,
    ) -> CapsuleType: ...
    def __dlpack_device__(self, /) -> tuple[int, int]: ...
    if sys.version_info >= (3, 12):
        def __buffer__(self, flags: int, /) -> memoryview: ...
        def __release_buffer__(self, buffer: memoryview, /) -> None: ...

def from_dlpack(
    x: Any, /, *, device: _DeviceLike = None, copy: bool | None = None, stream: Any = None
) -> Tensor: ...
def to_numpy(
    x: Any, /, *, stream: Any = None, copy: bool | None = None
) -> numpy.typing.NDArray[Any]: ...
def to_torch(x: Any, /, *, stream: Any = None, copy: bool | None = None) -> torch.Tensor: ...
def to_jax(x: Any, /, *, stream: Any = None, copy: bool | None = None) -> jax.Array: ...
@overload
def convert(
    x: Any,
    to: Literal["dlexchange"],
    /,
    *,
    stream: Any = None,
    device: _DeviceLike = None,
    copy: bool | None = None,
) -> Tensor: ...
@overload
def convert(
    x: Any,
    to: Literal["numpy"],
    /,
    *,
    stream: Any = None,
    device: _DeviceLike = None,
    copy: bool | None = None,
) -> numpy.typing.NDArray[Any]: ...
@overload
def convert(
    x: Any,
    to: Literal["torch"],
    /,
    *,
    stream: Any = None,
    device: _DeviceLike = None,
    copy: bool | None = None,
) -> torch.Tensor: ...
@overload
def convert(
    x: Any,
    to: Literal["jax"],
    /,
    *,
    stream: Any = None,
    device: _DeviceLike = None,
    copy: bool | None = None,
) -> jax.Array: ...
@overload
def convert(
    x: Any,
    to: str | ModuleType,
    /,
    *,
    stream: Any = None,
    device: _DeviceLike = None,
    copy: bool | None = None,
) -> Any: ...
@overload
def convert(
    x: Any,
    to: type[_Array],
    /,
    *,
    stream: Any = None,
    device: _DeviceLike = None,
    copy: bool | None = None,
) -> _Array: ...
@overload
def convert(
    x: Any,
    to: _Array,
    /,
    *,
    stream: Any = None,
    device: _DeviceLike = None,
    copy: bool | None = None,
) -> _Array: ...
def _stats() -> dict[str, int]: ...
def _set_strict(strict: bool, /) -> bool: ...
def _fail_allocation(nth: int, /) -> int: ...
def _forget_types() -> None: ...
def _jax_load() -> bool: ...
def _torch_locate(specimens: list[tuple[Any, int, bool, bool, int]], /) -> bool: ...
def _legacy_capsule(tensor: Tensor, /) -> CapsuleType: ...
def _count_copy() -> None: ...
def _warn_read_only(producer: str, consumer: str, /) -> None: ...
