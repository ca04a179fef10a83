/* SPDX-License-Identifier: Apache-2.0
 *
 * dlexchange.Stream and dlexchange.Event: the streams and events of the driver layer as
 * Python objects. GIL: held; released around driver calls.
 */
#ifndef DLX_STREAM_TYPE_H_
#define DLX_STREAM_TYPE_H_

#include "driver.h"
#include "state.h"

typedef struct dlx_stream_object {
    PyObject_HEAD
    dlx_stream stream;
    PyObject *owner; /* what keeps the handle valid, or NULL */
    bool is_pooled;  /* taken from our pool; put back when this object dies */
} dlx_stream_object;

typedef struct dlx_event_object {
    PyObject_HEAD
    dlx_event *event;
} dlx_event_object;

extern PyType_Spec dlx_stream_spec;
extern PyType_Spec dlx_event_spec;
extern PyType_Spec dlx_completion_spec;

/* Make a Stream; `owner` may be NULL. Keeps a reference of its own to the owner. */
DLX_GIVE PyObject *dlx_stream_object_new(dlx_state *state, dlx_stream stream,
                                         DLX_KEEP DLX_NULL PyObject *owner,
                                         bool is_pooled);

/* Make an Event. On failure nothing is taken. */
DLX_GIVE PyObject *dlx_event_object_new(dlx_state *state, DLX_TAKE dlx_event *event);

/* True: done, False: pending; raises (NULL) whatever else a query came to. */
DLX_GIVE PyObject *dlx_answer_query(dlx_state *state, dlx_status status,
                                    const dlx_error *error);

/* Run one call of the driver layer without the GIL; on failure raise and return NULL.
 */
#define DLX_DRIVE(state, call)                      \
    do {                                            \
        dlx_error error;                            \
        dlx_status status;                          \
        Py_BEGIN_ALLOW_THREADS                      \
        status = (call);                            \
        Py_END_ALLOW_THREADS                        \
        if (status != DLX_OK) {                     \
            return dlx_raise_driver(state, &error); \
        }                                           \
    } while (0)

/* Ask for a completion: _core._notify(stream_or_event) -> Completion. */
DLX_GIVE PyObject *dlx_completion_start(PyObject *module, PyObject *subject);

#endif
