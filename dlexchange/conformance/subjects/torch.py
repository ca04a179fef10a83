"""PyTorch."""

from ..subject import Subject


class Torch(Subject):
    name = "torch"
    imports = "import torch"
    make_code = "torch.tensor({values}, dtype=torch.{dtype}).reshape({shape})"
    consume_code = "torch.from_dlpack({x}{options})"
    values_code = "{a}.flatten().tolist()"
    dtypes = (
        "float32", "float64", "float16", "bfloat16", "int8", "int16", "int32", "int64",
        "uint8", "uint16", "uint32", "uint64", "bool", "complex64", "complex128",
        "float8_e4m3fn", "float8_e5m2",
    )  # fmt: skip
    unexportable = {  # noqa: RUF012
        "with a lazy conjugate": "torch.tensor([1 + 2j]).conj()",
        "with a lazy negative": "torch.tensor([1 + 2j]).conj().imag",
        "with requires_grad": "torch.zeros(3, requires_grad=True)",
        "sparse": "torch.eye(3).to_sparse()",
        "without memory": "torch.zeros(3, device='meta')",
        "quantised": "torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8)",
    }
    write_code = "{a}.fill_({value})"
    mutate_code = "{a}.t_()"


subject = Torch()
