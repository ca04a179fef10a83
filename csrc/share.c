/* SPDX-License-Identifier: Apache-2.0
 *
 * What dlexchange.h takes from here where this package is installed: the push of the
 * event pool, in a capsule (dlexchange_pool.h). The table's function needs no GIL.
 */
#include "dlexchange/dlexchange_pool.h"
#include "driver.h"
#include "producer.h"

static int
answer(dlx_status status)
{
    switch (status) {
        case DLX_OK:
            return DLX_POOL_OK;
        case DLX_NO_DRIVER:
        case DLX_UNSUPPORTED:
            return DLX_POOL_NO_DRIVER;
        case DLX_BAD_STREAM:
            return DLX_POOL_BAD_STREAM;
        case DLX_CAPTURE_REFUSED:
            return DLX_POOL_CAPTURE;
        case DLX_NO_MEMORY:
            return DLX_POOL_NO_MEMORY;
        default:
            return DLX_POOL_FAILED;
    }
}

/* The consumer's stream counts as not named: dlexchange.h promises to refuse a push out
 * of a capture, with the package as without. */
static int
pool_push(int32_t device_type, int32_t device_id, uintptr_t from, uintptr_t to)
{
    dlx_stream producer, consumer;
    dlx_status status = dlx_stream_init(&producer, device_type, device_id, from, NULL);
    if (status == DLX_OK) {
        status = dlx_stream_init(&consumer, device_type, device_id, to, NULL);
    }
    if (status == DLX_OK) {
        status = dlx_push(producer, consumer, 0, NULL);
    }
    return answer(status);
}

static const dlx_pool pool = {.version = DLX_POOL_VERSION, .push = pool_push};

PyObject *
dlx_pool_capsule(void)
{
    return PyCapsule_New((void *)&pool, DLX_POOL_CAPSULE, NULL);
}
