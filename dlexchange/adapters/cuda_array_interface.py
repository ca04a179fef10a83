"""The CUDA Array Interface, version 3: read for the core, and shown by Tensor."""

from __future__ import annotations

from operator import index
from typing import Any

from ..errors import ExchangeError, StreamError

_KINDS = {"i": 0, "u": 1, "f": 2, "c": 5, "b": 6}
_LETTERS = {code: kind for kind, code in _KINDS.items()}


def read(x: Any) -> tuple[Any, ...]:
    """Read an object's interface.

    Returns
    -------
    tuple
        (address, shape, strides in elements or None, (code, bits), read-only, device or -1,
        stream or None)

    Raises
    ------
    ExchangeError
        A mask, a dtype that DLPack cannot name, strides between elements, or no interface.
    StreamError
        The stream is 0, which the interface forbids.
    """
    try:
        return _read(x, type(x).__name__)
    except (AttributeError, IndexError, KeyError, OverflowError, TypeError, ValueError) as error:
        if isinstance(error, ExchangeError):
            raise
        raise ExchangeError(
            f"{type(x).__name__}: its __cuda_array_interface__ is malformed; see the cause above"
        ) from error


def _read(x: Any, name: str) -> tuple[Any, ...]:
    interface = x.__cuda_array_interface__
    if interface.get("mask") is not None:
        raise ExchangeError(f"{name}: a masked __cuda_array_interface__ cannot be exchanged")
    typestr = interface["typestr"]
    order, kind, itemsize = typestr[0], typestr[1], int(typestr[2:])
    is_named = kind in _KINDS and itemsize in (1, 2, 4, 8, 16)
    if not is_named or (order == ">" and itemsize > 1):
        raise ExchangeError(f"{name}: DLPack has no name for typestr {typestr!r}")
    address, read_only = interface["data"]
    if not 0 <= index(address or 0) < 2**64:
        raise ValueError(f"address {address!r}")
    shape = tuple(index(extent) for extent in interface["shape"])
    strides = interface.get("strides")
    if strides is not None:
        if len(strides) != len(shape):
            raise ValueError(f"strides {strides!r} for shape {shape!r}")
        if any(step % itemsize for step in strides):
            raise ExchangeError(f"{name}: strides {strides} are not multiples of {itemsize} bytes")
        strides = tuple(step // itemsize for step in strides)
    stream = interface.get("stream")
    if stream == 0:
        raise StreamError(
            f"{name}: __cuda_array_interface__ names stream 0, which is forbidden because it "
            "is ambiguous (1 is the legacy, 2 the per-thread default stream)"
        )
    dtype = (_KINDS[kind], 8 * itemsize)
    return (
        address or 0,
        shape,
        strides,
        dtype,
        bool(read_only),
        device_of(x),
        stream,
    )


def device_of(x: Any) -> int:
    """Number of the CUDA device of an object, by what its library tells; else -1."""
    device = getattr(x, "device", None)
    if isinstance(device, int):
        return device
    for name in ("id", "index", "device_id"):
        number = getattr(device, name, None)
        if isinstance(number, int):
            return number
    context = getattr(getattr(x, "gpu_data", None), "context", None)  # numba
    number = getattr(getattr(context, "device", None), "id", None)
    return number if isinstance(number, int) else -1


def show(tensor: Any, stream: int | None) -> dict[str, Any]:
    """Make the dict of a Tensor; the stream is one the core keeps."""
    code, bits, lanes = tensor.dtype
    if code not in _LETTERS or lanes != 1 or bits % 8:
        raise AttributeError(f"__cuda_array_interface__ cannot name dtype {tensor.dtype}")
    itemsize = bits // 8
    strides: tuple[int, ...] | None = tuple(step * itemsize for step in tensor.strides)
    compact = itemsize
    for extent, step in zip(reversed(tensor.shape), reversed(strides or ()), strict=True):
        if step != compact:
            break
        compact *= extent
    else:
        strides = None  # row-major; some consumers read nothing else
    return {
        "shape": tensor.shape,
        "typestr": f"{'|' if itemsize == 1 else '<'}{_LETTERS[code]}{itemsize}",
        "data": (tensor.data_ptr, tensor.readonly),
        "strides": strides,
        "stream": stream,
        "version": 3,
    }
