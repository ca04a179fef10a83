/* SPDX-License-Identifier: Apache-2.0 */
#include <stddef.h>

#include "check.h"

extern const check_test push_tests[], capture_tests[], event_tests[], release_tests[],
    notify_tests[], loader_tests[], process_tests[], failure_tests[], thread_tests[];

const check_test *const check_files[] = {
    push_tests,   capture_tests, event_tests,   release_tests, notify_tests,
    loader_tests, process_tests, failure_tests, thread_tests,  NULL,
};
