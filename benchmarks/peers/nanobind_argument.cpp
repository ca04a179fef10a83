// SPDX-License-Identifier: Apache-2.0
//
// The cheapest function that a nanobind user can write over one array, or over eight.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

namespace nb = nanobind;
using array = nb::ndarray<>;

NB_MODULE(_nanobind_peer, module) {
    module.def("nothing", [](const array &) {});
    module.def("nothing_of_eight",
               [](const array &, const array &, const array &, const array &, const array &,
                  const array &, const array &, const array &) {});
}
