"""torch makes an image on a GPU, CuPy blurs it, each on its own stream.

Run: python tests/examples/gpu.py (needs a GPU, torch and CuPy)
"""

from __future__ import annotations

import asyncio
from typing import Any

import dlexchange as dx
from dlexchange.pipeline import Pipeline

pipe = Pipeline("on a GPU", inflight=4)


@pipe.stage(device="cuda:0")
def make(ctx: Any, seed: int) -> Any:
    """Multiply with torch."""
    import torch

    generator = torch.Generator("cuda").manual_seed(seed)
    x = torch.rand(1024, 1024, device="cuda", generator=generator)
    return x @ x / 1024


@pipe.stage(device="cuda:0", framework="cupy")
def blur(ctx: Any, image: Any) -> Any:
    """Average neighbours with CuPy."""
    return (image[:-1] + image[1:]) / 2


make >> blur


async def main() -> None:
    """Compare with torch alone."""
    import torch

    waits = dx.stats().host_waits
    async with pipe:
        results = [await dx.host(image) async for image in pipe.map(range(8))]
    for seed, got in enumerate(results):
        generator = torch.Generator("cuda").manual_seed(seed)
        x = torch.rand(1024, 1024, device="cuda", generator=generator)
        image = x @ x / 1024
        wanted = ((image[:-1] + image[1:]) / 2).cpu().numpy()
        assert abs(got - wanted).max() < 1e-5
    waits = dx.stats().host_waits - waits  # of a stage two steps ahead of its stream, for that
    print("images", len(results), "as torch alone; host waits", waits)


if __name__ == "__main__":
    asyncio.run(main())
