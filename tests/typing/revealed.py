"""Types as a checker reveals them; each comment is what `test_typing.py` demands."""

import numpy as np
import torch
from typing_extensions import reveal_type

import dlexchange as dx

x = np.zeros(3)
reveal_type(dx.from_dlpack(x))  # dlexchange._core.Tensor
reveal_type(dx.from_dlpack(x, device="cuda:1", copy=True))  # dlexchange._core.Tensor
reveal_type(dx.to_numpy(x))  # numpy.ndarray[tuple[Any, ...], numpy.dtype[Any]]
reveal_type(dx.to_torch(x))  # torch.Tensor
reveal_type(dx.to_jax(x))  # jax.Array
reveal_type(dx.to_cupy(x))  # Any
reveal_type(dx.convert(x, "numpy"))  # numpy.ndarray[tuple[Any, ...], numpy.dtype[Any]]
reveal_type(dx.convert(x, "torch"))  # torch.Tensor
reveal_type(dx.convert(x, "jax"))  # jax.Array
reveal_type(dx.convert(x, "dlexchange"))  # dlexchange._core.Tensor
reveal_type(dx.convert(x, "paddle"))  # Any
reveal_type(dx.convert(x, np))  # Any
reveal_type(dx.convert(x, torch.Tensor))  # torch.Tensor
reveal_type(dx.convert(x, torch.Tensor()))  # torch.Tensor
reveal_type(dx.from_dlpack(x).shape)  # tuple[int, ...]
reveal_type(dx.from_dlpack(x).strides)  # tuple[int, ...]
reveal_type(dx.from_dlpack(x).dtype.name)  # str
reveal_type(dx.from_dlpack(x).data_ptr)  # int
reveal_type(dx.frameworks()[0].devices)  # tuple[str, ...] | None
reveal_type(dx.stats().live)  # int
reveal_type(dx.current_stream(x))  # dlexchange._core.Stream
reveal_type(dx.current_stream(x).record())  # dlexchange._core.Event
