/* SPDX-License-Identifier: Apache-2.0
 *
 * The rules of stream capture: when a push, a wait or a release would harm one. A wrong
 * wait invalidates the user's whole capture, so they are decided before any of it is
 * made. Pure functions; no driver call.
 */
#include <inttypes.h>
#include <stdio.h>

#include "gpu.h"

bool
dlx_capture_is_idle(dlx_capture capture)
{
    return !capture.is_implicit && capture.status == DLX_CAPTURE_STATUS_NONE;
}

static bool
is_active(dlx_capture capture)
{
    return !capture.is_implicit && capture.status == DLX_CAPTURE_STATUS_ACTIVE;
}

bool
dlx_capture_is_same(dlx_capture a, dlx_capture b)
{
    return is_active(a) && is_active(b) && a.id == b.id;
}

/* What no partner can make good. */
static dlx_capture_cause
judge_alone(dlx_capture capture)
{
    if (capture.is_implicit) {
        return DLX_CAPTURE_IMPLICIT;
    }
    return capture.status == DLX_CAPTURE_STATUS_NONE ||
                   capture.status == DLX_CAPTURE_STATUS_ACTIVE
               ? DLX_CAPTURE_NONE
               : DLX_CAPTURE_INVALIDATED;
}

dlx_capture_cause
dlx_capture_judge_push(dlx_capture producer, dlx_capture consumer, bool may_fork)
{
    dlx_capture_cause cause = judge_alone(producer);
    if (cause == DLX_CAPTURE_NONE) {
        cause = judge_alone(consumer);
    }
    if (cause != DLX_CAPTURE_NONE) {
        return cause;
    }
    if (is_active(producer)) {
        if (is_active(consumer)) {
            return producer.id == consumer.id ? DLX_CAPTURE_NONE
                                              : DLX_CAPTURE_DIFFERENT;
        }
        return may_fork ? DLX_CAPTURE_NONE : DLX_CAPTURE_PRODUCER;
    }
    return is_active(consumer) ? DLX_CAPTURE_CONSUMER : DLX_CAPTURE_NONE;
}

dlx_capture_cause
dlx_capture_judge_wait(uint64_t event_id, dlx_capture consumer)
{
    dlx_capture event = {false, event_id != 0 ? DLX_CAPTURE_STATUS_ACTIVE : 0,
                         event_id};
    return dlx_capture_judge_push(event, consumer, false);
}

static const char *
explain(dlx_capture_cause cause)
{
    switch (cause) {
        case DLX_CAPTURE_PRODUCER:
            return "the work to wait for belongs to a capture that the consumer's "
                   "stream is "
                   "not in: name that stream in stream= to let it join, or exchange "
                   "outside "
                   "the capture";
        case DLX_CAPTURE_CONSUMER:
            return "the consumer's stream captures and the work to wait for is "
                   "outside: "
                   "exchange before the capture begins, once the data is ready";
        case DLX_CAPTURE_DIFFERENT:
            return "the two sides are in two captures, and a push would merge them: "
                   "exchange "
                   "within one";
        case DLX_CAPTURE_IMPLICIT:
            return "the legacy default stream cannot be used while another stream of "
                   "the "
                   "device captures: use streams of your own, or exchange outside the "
                   "capture";
        case DLX_CAPTURE_INVALIDATED:
            return "an earlier call has already invalidated this capture: end it first";
        case DLX_CAPTURE_NONE:
            break;
    }
    return "the driver refused it for a capture";
}

static void
print_stream(char *out, size_t size, dlx_stream s)
{
    const char *device = s.device_type == kDLROCM ? "rocm" : "cuda";
    if (s.device_type == 0) {
        snprintf(out, size, "an event");
    } else {
        snprintf(out, size, "0x%" PRIxPTR " of %s:%d", s.handle, device, s.device_id);
    }
}

dlx_status
dlx_capture_refuse(dlx_capture_cause cause, const char *call, dlx_stream producer,
                   dlx_stream consumer, dlx_error *err)
{
    char from[48], to[48];
    print_stream(from, sizeof(from), producer);
    print_stream(to, sizeof(to), consumer);
    dlx_fail(err, DLX_CAPTURE_REFUSED, call, "%s -> %s: %s", from, to, explain(cause));
    if (err != NULL) {
        err->cause = cause;
        err->producer = producer;
        err->consumer = consumer;
    }
    DLX_COUNT(refused);
    return DLX_CAPTURE_REFUSED;
}
