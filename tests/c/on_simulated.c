/* SPDX-License-Identifier: Apache-2.0 */
#include <stddef.h>

#include "check.h"

extern const check_test simulated_order_tests[], simulated_capture_tests[],
    simulated_places_tests[];

const check_test *const check_files[] = {simulated_order_tests, simulated_capture_tests,
                                         simulated_places_tests, NULL};
