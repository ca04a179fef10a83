"""A worked author: the array type of c_extension.c."""

from __future__ import annotations

from .build import HERE, STRICT, extension

module = extension("dlx_author_c", [HERE / "c_extension.c"], ["-std=c11", "-D_GNU_SOURCE", *STRICT])


def made(values, shape, dtype="float32"):
    assert dtype == "float32"
    return module.image(list(values), tuple(shape))


def view(base, offset, shape, strides, *, readonly=False):
    address = base.address + 4 * offset
    return module.over(address, shape, strides, (1, 0), (), base, readonly)
