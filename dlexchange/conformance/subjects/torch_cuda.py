"""PyTorch, on a real GPU."""

from ..subject import Subject


class TorchCuda(Subject):
    name = "torch-cuda"
    distribution = "torch"
    ground = "CUDA"
    imports = "import torch"
    make_code = "torch.tensor({values}, dtype=torch.{dtype}, device='cuda').reshape({shape})"
    consume_code = "torch.from_dlpack({x}{options})"
    values_code = "{a}.flatten().tolist()"
    stream_code = "torch.cuda.Stream()"
    handle_code = "{s}.cuda_stream"
    using_code = "torch.cuda.stream({s})"
    fill_code = "with torch.cuda.stream({s}): {a}.fill_({value})"
    address_code = "{a}.data_ptr()"
    device = (2, 0)


subject = TorchCuda()
