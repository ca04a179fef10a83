"""torch: read and made in C (torch.c) through its C exchange API."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

from ..device import DeviceType
from . import Route, streams
from .info import Report, has_exchange_api

MODULE = "torch"
DISTRIBUTIONS = ("torch",)

_located: bool | None = None


def classify(cls: type) -> Route | None:
    """Use the C exchange API for plain tensors, ``__dlpack__`` for subclasses.

    A subclass may mean something else than its memory (`__torch_dispatch__`,
    `__torch_function__`); its own ``__dlpack__`` says what.
    """
    torch = sys.modules.get("torch")
    if torch is None or not issubclass(cls, torch.Tensor):
        return None
    api = getattr(torch.Tensor, "__dlpack_c_exchange_api__", None)
    if torch.backends.cuda.is_built():
        watch_pinned(torch)
    if api is None or cls not in (torch.Tensor, torch.nn.Parameter):
        return Route("dlpack", "torch", api, torch_guards=True)
    locate_lazy_bits()
    return Route("torch", "torch", api)


def watch_pinned(torch: Any) -> None:
    """Let the core ask which host tensors are pinned: a stream may still be writing those.

    Pinned memory is of no device, so the current one's current stream is waited for.
    """
    from .._core import _torch_watch_pinned

    cuda = torch.cuda
    kind = int(DeviceType.ROCM_HOST if torch.version.hip else DeviceType.CUDA_HOST)

    def pinned_on(x: Any) -> tuple[int, int] | None:
        return (kind, cuda.current_device()) if cuda.is_initialized() and x.is_pinned() else None

    _torch_watch_pinned(pinned_on)


def current_stream(to: Any, device: Any) -> Any:
    """Return torch's current stream; torch never destroys those of its pool."""
    import torch

    from .._core import Stream, _work_stream

    stream = _work_stream(torch.Tensor, device.type, device.id)
    return Stream.from_handle(device, stream.handle, owner=torch) if stream is not None else None


def report(module: ModuleType) -> Report:
    """Tell of CUDA only where the program has started it."""
    started = module.cuda.is_initialized()
    how = "found in its memory" if locate_lazy_bits() else "asked for by method (slower)"
    return Report(
        devices=devices(module) if started else ("cpu",),
        exchange_api=has_exchange_api(module.Tensor),
        notes=(f"conj, neg and autograd state is {how}",),
        stream=module.cuda.current_stream().cuda_stream if started else None,
    )


def devices(module: ModuleType) -> tuple[str, ...]:
    """List the devices; asks the driver."""
    return ("cpu", *(f"cuda:{i}" for i in range(module.cuda.device_count())))


def locate_lazy_bits() -> bool:
    """Let the core find where this torch keeps conj, neg and autograd state.

    Returns
    -------
    bool
        False where it could not: then the guards call torch's methods, and
        `dlexchange.frameworks()` says so.
    """
    global _located
    if _located is None:
        from .._core import _torch_locate

        _located = _torch_locate(_specimens())
    return _located


def copy(tensor: Any, stream: Any) -> Any:
    """Clone on the stream that the consumer named, or on torch's current one."""
    if stream is None or stream == -1:
        return tensor.clone()
    number = tensor.get_device()
    handle = stream if isinstance(stream, int) else streams.resolve(stream, 2, number).handle
    with _working_on(handle, number):
        return tensor.clone()


def copy_across(tensor: Any, stream: Any) -> Any:
    """Copy memory of whichever device to that of `stream`, which waits for the copy.

    torch copies on its current stream of the source's device: one of ours, and only for that.
    """
    from .._core import Stream, to_torch

    source, target = Stream.create(tensor.device), stream.device.id
    with _working_on(source.handle, tensor.device.id), _working_on(stream.handle, target):
        return to_torch(tensor).to(f"cuda:{target}", non_blocking=True)


def _working_on(handle: int, number: int) -> Any:
    """Make a stream torch's current one of a device, and that device torch's."""
    import torch

    if handle in (0, 1):  # torch's own streams have odd numbers, so 1 is none of CUDA's to it
        named = torch.cuda.default_stream(number)
    else:
        named = torch.cuda.ExternalStream(handle, device=number)
    return torch.cuda.stream(named)


def _specimens() -> list[tuple[Any, int, bool, bool, int]]:
    """Make tensors whose conj, neg and autograd state is known, and varied else."""
    import torch

    plain, grad, unknown = 0, 1, 2
    made: list[tuple[Any, int]] = []
    for dtype in (torch.float32, torch.int64, torch.bool, torch.bfloat16, torch.complex64):
        made += [(torch.zeros(shape, dtype=dtype), plain) for shape in ((), (3,), (2, 0), (4, 5))]
    for dtype in (torch.float32, torch.complex64):
        made.append((torch.zeros(3, dtype=dtype, requires_grad=True), grad))
        made.append((torch.ones(2, 3, dtype=dtype, requires_grad=True) * 2, grad))
    for dtype in (torch.complex64, torch.complex128):
        z = torch.ones(4, 3, dtype=dtype)
        conj = z.conj()
        both = torch._neg_view(conj)
        made += [(t, unknown) for t in (z[1:], conj, conj[1:, 0], z.imag, z.real, both, both.T)]
        made += [(t, unknown) for t in (conj.imag, conj.imag.as_strided((3,), (1,)), conj.real)]
        made.append((conj.resolve_conj(), unknown))
    made.append((torch._neg_view(torch.ones(5)), unknown))
    return [(t, t._cdata, t.is_conj(), t.is_neg(), autograd) for t, autograd in made]
