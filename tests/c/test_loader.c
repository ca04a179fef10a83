/* SPDX-License-Identifier: Apache-2.0
 *
 * Loading real shared libraries: stubs built beside this program (see stub_driver.c).
 */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"
#include "fake.h"

/* STUB_DIR comes from the build. */
static void
choose(const char *library)
{
    char path[512];
    snprintf(path, sizeof(path), "%s/%s", STUB_DIR, library);
    setenv("DLEXCHANGE_CUDA_DRIVER", path, 1);
}

static int
is_initialised(void)
{
    int (*ask)(void);
    void *address = dlsym(dlopen(getenv("DLEXCHANGE_CUDA_DRIVER"), RTLD_NOW),
                          "stub_is_initialised");
    memcpy(&ask, &address, sizeof(ask));
    return ask();
}

static void
test_a_missing_library_is_named(void)
{
    dlx_error err;
    dlx_driver_info info;
    choose("libnowhere.so");
    CHECK_EQ(dlx_driver_load(kDLCUDA, &err), DLX_NO_DRIVER);
    CHECK(strstr(err.text, "libnowhere.so") != NULL);
    CHECK(strcmp(err.call, "dlopen") == 0);
    dlx_driver_describe(kDLCUDA, &info);
    CHECK(!info.is_loadable && !info.is_loaded);
    CHECK_EQ(info.device_count, 0);
    CHECK_EQ(dlx_push(fake_stream_at(0), fake_stream_at(1), 0, &err), DLX_NO_DRIVER);
    CHECK_EQ(dlx_driver_load(kDLCPU, &err), DLX_NO_DRIVER);
}

static void
test_a_library_without_a_required_call_is_refused_by_name(void)
{
    dlx_error err;
    choose("libstub_lacks_record.so");
    CHECK_EQ(dlx_driver_load(kDLCUDA, &err), DLX_UNSUPPORTED);
    CHECK(strcmp(err.call, "cuEventRecord") == 0);
    CHECK(strstr(err.text, "libstub_lacks_record.so has no cuEventRecord") != NULL);
    CHECK(!is_initialised());
}

static void
test_looking_does_not_initialise_and_loading_does(void)
{
    dlx_driver_info info;
    choose("libstub.so");
    dlx_driver_describe(kDLCUDA, &info);
    CHECK(info.is_loadable && !info.is_loaded);
    CHECK_EQ(info.device_count, -1);
    CHECK(!is_initialised());
    CHECK_EQ(dlx_driver_load(kDLCUDA, NULL), DLX_OK);
    CHECK(is_initialised());
    dlx_driver_describe(kDLCUDA, &info);
    CHECK(info.is_loaded && info.is_simulated);
    CHECK_EQ(info.device_count, 3);
    CHECK_EQ(info.version, 12040);
    CHECK(strstr(info.library, "libstub.so") != NULL);
}

static void
test_a_missing_optional_call_is_unsupported_when_it_is_needed(void)
{
    dlx_error err;
    dlx_stream ours;
    choose("libstub.so");
    CHECK_EQ(dlx_stream_acquire(kDLCUDA, 0, &ours, NULL), DLX_OK);
    dlx_gpu *gpu = dlx_gpu_peek(kDLCUDA);
    CHECK_EQ(gpu->call.stream_add_callback(NULL, NULL, NULL, 0), DLX_GPU_NOT_SUPPORTED);
    CHECK_EQ(
        dlx_gpu_fail(gpu, DLX_CALL_stream_add_callback, DLX_GPU_NOT_SUPPORTED, &err),
        DLX_UNSUPPORTED);
    CHECK(strstr(err.text, "has no cuStreamAddCallback") != NULL);
    CHECK(strstr(err.text, "libstub.so") != NULL);
}

static void
test_calls_are_asked_for_by_name_and_version_of_their_signature(void)
{
    choose("libstub_has_table.so");
    CHECK_EQ(dlx_driver_load(kDLCUDA, NULL), DLX_OK);
    CHECK_EQ(dlx_push(fake_legacy(0), fake_per_thread(0), 0, NULL), DLX_OK);
}

static void
test_a_reset_lets_another_library_be_loaded(void)
{
    dlx_driver_info info;
    choose("libstub.so");
    CHECK_EQ(dlx_driver_load(kDLCUDA, NULL), DLX_OK);
    dlx_driver_reset();
    dlx_driver_describe(kDLCUDA, &info);
    CHECK(!info.is_loaded);
    choose("libstub_has_table.so");
    CHECK_EQ(dlx_driver_load(kDLCUDA, NULL), DLX_OK);
    dlx_driver_describe(kDLCUDA, &info);
    CHECK(strstr(info.library, "has_table") != NULL);
}

const check_test loader_tests[] = {
#define T(name) {#name, name}
    T(test_a_missing_library_is_named),
    T(test_a_library_without_a_required_call_is_refused_by_name),
    T(test_looking_does_not_initialise_and_loading_does),
    T(test_a_missing_optional_call_is_unsupported_when_it_is_needed),
    T(test_calls_are_asked_for_by_name_and_version_of_their_signature),
    T(test_a_reset_lets_another_library_be_loaded),
    {0},
};
