"""JAX, on the host."""

from ..subject import Subject


class Jax(Subject):
    name = "jax"
    imports = "import jax.numpy as jnp, numpy as np"
    make_code = "jnp.array(np.array({values}).reshape({shape}), dtype='{dtype}')"
    consume_code = "jnp.from_dlpack({x}{options})"
    values_code = "np.asarray({a}).ravel().tolist()"
    dtypes = (
        "float32", "float16", "bfloat16", "int8", "int16", "int32",
        "uint8", "uint16", "uint32", "bool", "complex64", "float8_e4m3fn", "float8_e5m2",
    )  # fmt: skip
    immutable = True


subject = Jax()
