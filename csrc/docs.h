/* SPDX-License-Identifier: Apache-2.0
 *
 * Docstrings of the functions that the package shows. Included by module.c only.
 */
#ifndef DLX_DOCS_H_
#define DLX_DOCS_H_

#include <Python.h>

#define DLX_DOC_COPY                                                                \
    "copy : bool or None\n"                                                         \
    "    None: share the memory; copy on the same device only where the consumer\n" \
    "    cannot take it as it is (counted in ``stats().copies``). True: always a\n" \
    "    copy. False: never; CopyError where one would be needed.\n"

#define DLX_DOC_RAISES                                                                 \
    "Raises\n"                                                                         \
    "------\n"                                                                         \
    "ExchangeError\n"                                                                  \
    "    The producer cannot describe its values as strided memory, or the consumer\n" \
    "    has no such dtype.\n"                                                         \
    "CopyError\n"                                                                      \
    "    A copy would be needed and is not allowed.\n"                                 \
    "StreamError\n"                                                                    \
    "    The stream is ambiguous or not of that device.\n"                             \
    "TypeError\n"                                                                      \
    "    `x` speaks no protocol that can be read.\n\n"

#define DLX_DOC_TO(name, title, consumer)                                           \
    PyDoc_STRVAR(                                                                   \
        dlx_to_##name##_doc,                                                        \
        "to_" #name "($module, x, /, *, stream=None, copy=None)\n--\n\n" title      \
        "\n\n"                                                                      \
        "One C call: export, order, import. Strides, offset and values are\n"       \
        "kept; nothing is copied unless it has to be.\n\n"                          \
        "Parameters\n----------\n"                                                  \
        "x : producer\n"                                                            \
        "    Tensor of shape (...), any strides (in elements), on one device.\n"    \
        "stream : stream or None\n"                                                 \
        "    Where the consumer will work. None: its current stream in the\n"       \
        "    calling thread. -1: the caller vouches for the order.\n" DLX_DOC_COPY  \
        "\nReturns\n-------\n" consumer                                             \
        "\n    Shape (...), same memory as `x` unless copied.\n\n" DLX_DOC_RAISES   \
        "Synchronization\n---------------\n"                                        \
        "Later work on `stream` waits for the producer's work. The host does\n"     \
        "not block, but for jax arrays on the CPU that are not ready yet, pinned\n" \
        "or managed memory read by the host, and a copy to the host.\n\n"           \
        "Ownership\n---------\n"                                                    \
        "The result keeps the producer's memory alive.\n\n"                         \
        "Source\n------\n"                                                          \
        "import.values-equal, deleter.once-at-the-end")

DLX_DOC_TO(numpy, "Hand a tensor to numpy.", "numpy.ndarray");
DLX_DOC_TO(torch, "Hand a tensor to torch.", "torch.Tensor");
DLX_DOC_TO(
    jax,
    "Hand a tensor to jax; 64-bit values are narrowed where its x64 is off.\n\n"
    "Device memory is copied on its device, for jax does not tell when it is\n"
    "done with it; ``copy=False`` shares it, and keeps it until the process ends.",
    "jax.Array");

PyDoc_STRVAR(
    dlx_from_dlpack_doc,
    "from_dlpack($module, x, /, *, device=None, copy=None, stream=None)\n--\n\n"
    "Make a neutral Tensor of any producer's memory.\n\n"
    "Reads the fastest protocol `x` offers: the C exchange API, ``__dlpack__``\n"
    "(versioned or legacy), or what an adapter knows. A bare capsule is taken\n"
    "too.\n\n"
    "Parameters\n----------\n"
    "x : producer\n"
    "    Tensor of shape (...), any strides, on one device.\n"
    "device : Device, str, tuple or None\n"
    "    Where the result shall be. None: where `x` is. Another device is a\n"
    "    CopyError, but for SYCL's memory to the host.\n" DLX_DOC_COPY
    "stream : stream or None\n"
    "    The stream that produced `x`. None: its framework's current stream in\n"
    "    the calling thread. -1: the caller vouches for the order.\n\n"
    "Returns\n-------\n"
    "Tensor\n    Shape (...), same memory as `x` unless copied.\n\n" DLX_DOC_RAISES
    "Synchronization\n---------------\n"
    "The Tensor remembers the producer's work up to this call; whoever consumes\n"
    "it waits for exactly that. The host does not block.\n\n"
    "Ownership\n---------\n"
    "The Tensor keeps the producer's memory alive until it is closed or\n"
    "collected.\n\n"
    "Source\n------\n"
    "import.values-equal, deleter.once-at-the-end");

PyDoc_STRVAR(
    dlx_convert_doc,
    "convert($module, x, to, /, *, stream=None, device=None, copy=None)\n--\n\n"
    "Hand a tensor to the framework that `to` names.\n\n"
    "Parameters\n----------\n"
    "x : producer\n"
    "    Tensor of shape (...), any strides, on one device.\n"
    "to : str, module, array type or array\n"
    "    \"torch\", ``torch``, ``torch.Tensor`` or any torch tensor, and so on.\n"
    "stream : stream or None\n"
    "    Where the consumer will work. None: its current stream.\n"
    "device : Device, str, tuple or None\n"
    "    Where the result shall be. None: where `x` is. Another device is a\n"
    "    CopyError, but for SYCL's memory to the host.\n" DLX_DOC_COPY
    "\nReturns\n-------\n"
    "array\n    Of that framework, shape (...).\n\n" DLX_DOC_RAISES
    "Synchronization\n---------------\n"
    "As ``to_torch`` and its like.\n\n"
    "Ownership\n---------\n"
    "The result keeps the producer's memory alive.\n\n"
    "Source\n------\n"
    "import.values-equal");

#endif
