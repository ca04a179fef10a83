// SPDX-License-Identifier: Apache-2.0
// What a nanobind module can say about DLPack: it takes an array and hands it out again.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

namespace nb = nanobind;
using Array = nb::ndarray<nb::ro, nb::device::cpu>;

NB_MODULE(nb_probe, m)
{
    m.def("take", [](Array a) {
        nb::capsule owner(new Array(a), [](void *p) noexcept { delete (Array *)p; });
        return nb::ndarray<nb::ro, nb::array_api>(a.data(), a.ndim(),
                                                  (const size_t *)a.shape_ptr(), owner,
                                                  a.stride_ptr(), a.dtype(), 1, 0);
    });
}
