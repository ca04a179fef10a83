/* SPDX-License-Identifier: Apache-2.0
 *
 * Implementation of order.h.
 */
#include "order.h"

int
dlx_order_stream_for(dlx_state *state, DLDevice device, const dlx_request *request,
                     PyObject **stream)
{
    (void)request;
    *stream = NULL;
    dlx_raise(state->StreamError, "memory of device %d:%d cannot be ordered yet",
              (int)device.device_type, (int)device.device_id);
    return -1;
}

int
dlx_order_source(dlx_state *state, PyObject *x, const dlx_request *request,
                 dlx_source *source)
{
    (void)x;
    DLDevice device = source->view.device;
    if (device.device_type == kDLCPU) {
        if (request->stream != NULL && request->stream != Py_None &&
            !(PyLong_Check(request->stream) && PyLong_AsLong(request->stream) == -1)) {
            dlx_raise(state->StreamError,
                      "host memory has no stream: leave stream out (got %R)",
                      request->stream);
            return -1;
        }
        return 0;
    }
    dlx_raise(state->StreamError, "memory of device %d:%d cannot be ordered yet",
              (int)device.device_type, (int)device.device_id);
    return -1;
}
