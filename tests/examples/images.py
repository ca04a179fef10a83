"""Denoise images with torch, colour them with jax, pack them with numpy; on the host.

Run: python tests/examples/images.py [folder for the trace and the drawing]
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any

import numpy as np

import dlexchange as dx
from dlexchange.pipeline import Pipeline

pipe = Pipeline("images", inflight=4)


def make_kernel() -> Any:
    """Make what the first stage keeps: here a blur, in real life a model."""
    import torch

    return torch.full((1, 1, 3, 3), 1 / 9)


@pipe.stage(load=make_kernel, framework="torch")
def denoise(ctx: Any, noisy: Any) -> Any:
    """Blur a few times; show what there is after each."""
    import torch

    image = noisy[None, None]
    for step in range(ctx.param("steps", 4)):
        image = torch.nn.functional.conv2d(image, ctx.model, padding=1)
        yield ctx.partial(image[0, 0], step=step)
    return image[0, 0]


@pipe.stage(framework="jax")
def colour(ctx: Any, image: Any) -> Any:
    """Map brightness to three channels."""
    import jax.numpy as jnp

    return jnp.stack([image, image**2, 1 - image])


@pipe.stage(framework="numpy")
def pack(ctx: Any, channels: Any) -> Any:
    """Make bytes of it."""
    return np.clip(channels * 255, 0, 255).astype(np.uint8)


@pipe.filter(framework="numpy")
def preview(ctx: Any, image: Any) -> Any:
    """Show every second step, four times smaller."""
    return None if ctx.part.step % 2 else image[::4, ::4]


denoise >> colour >> pack


def sequential(noisy: np.ndarray, steps: int = 4) -> np.ndarray:
    """Do the same with numpy alone, one thing after another."""
    image = noisy
    for _ in range(steps):
        padded = np.pad(image, 1)
        image = sum(
            padded[i : i + image.shape[0], j : j + image.shape[1]]
            for i in range(3)
            for j in range(3)
        ) / np.float32(9)
    channels = np.stack([image, image**2, 1 - image])
    return np.clip(channels * 255, 0, 255).astype(np.uint8)


def photographs(n: int) -> list[np.ndarray]:
    """Return noise."""
    rng = np.random.default_rng(0)
    return [rng.random((32, 32), dtype=np.float32) for _ in range(n)]


async def main(folder: str | None = None) -> None:
    """Ask for one image, for the steps of another, and for many."""
    images = photographs(8)
    async with pipe:
        packed = await pipe(images[0])
        print("one image", packed.shape, packed.dtype)
        async for part in pipe.stream(images[1], steps=6):
            if part.is_result:
                print("the result", (await dx.host(part.value)).shape)
            else:
                print("preview", part.step, part.value.shape)
        results = [image async for image in pipe.map(images)]
        worst = max(
            int(np.abs(ours.astype(int) - sequential(image)).max())
            for ours, image in zip(results, images, strict=True)
        )
        print("many images", len(results), "as numpy alone, but for rounding:", worst <= 1)
    if folder:
        pipe.trace(Path(folder) / "trace.json")
        pipe.draw(Path(folder) / "pipeline.svg")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
