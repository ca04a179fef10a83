/* SPDX-License-Identifier: Apache-2.0
 *
 * dlexchange.Event. GIL: held; released around driver calls.
 */
#include "raise.h"
#include "stream_type.h"

PyObject *
dlx_answer_query(dlx_state *state, dlx_status status, const dlx_error *error)
{
    if (status == DLX_OK || status == DLX_NOT_READY) {
        return PyBool_FromLong(status == DLX_OK);
    }
    return dlx_raise_driver(state, error);
}

PyObject *
dlx_event_object_new(dlx_state *state, dlx_event *event)
{
    dlx_event_object *self = PyObject_New(dlx_event_object, state->event_type);
    if (self != NULL) {
        self->event = event;
    }
    return (PyObject *)self;
}

static void
event_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    dlx_event_release(((dlx_event_object *)self)->event);
    PyObject_Free(self);
    Py_DECREF(type);
}

static PyObject *
event_query(PyObject *self, PyObject *unused)
{
    (void)unused;
    dlx_error error;
    dlx_status status;
    Py_BEGIN_ALLOW_THREADS
    status = dlx_event_query(((dlx_event_object *)self)->event, &error);
    Py_END_ALLOW_THREADS
    return dlx_answer_query(dlx_the_state, status, &error);
}

static PyObject *
event_synchronize(PyObject *self, PyObject *unused)
{
    (void)unused;
    DLX_DRIVE(dlx_the_state,
              dlx_event_synchronize(((dlx_event_object *)self)->event, &error));
    Py_RETURN_NONE;
}

static PyObject *
event_get_stream(PyObject *self, void *closure)
{
    (void)closure;
    dlx_stream stream = dlx_event_stream(((dlx_event_object *)self)->event);
    return dlx_stream_object_new(dlx_the_state, stream, NULL, false);
}

static PyMethodDef event_methods[] = {
    {"query", event_query, METH_NOARGS,
     PyDoc_STR("query($self, /)\n--\n\n"
               "Return True where the marked work is done.\n\n"
               "Synchronization\n---------------\nAsks; the host does not block.")},
    {"synchronize", event_synchronize, METH_NOARGS,
     PyDoc_STR("synchronize($self, /)\n--\n\n"
               "Block the calling thread until the marked work is done.\n\n"
               "Synchronization\n---------------\n"
               "The host blocks, without the GIL; counted in ``stats().host_waits``.")},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef event_getset[] = {
    {"stream", event_get_stream, NULL, "The stream it was recorded on.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot event_slots[] = {
    {Py_tp_doc,
     "A mark in a stream: the work queued before :meth:`Stream.record`.\n\n"
     "Ownership\n---------\nIts driver event goes back to the pool with it."},
    {Py_tp_dealloc, event_dealloc},
    {Py_tp_methods, event_methods},
    {Py_tp_getset, event_getset},
    {0, NULL},
};

PyType_Spec dlx_event_spec = {
    .name = "dlexchange.Event",
    .basicsize = sizeof(dlx_event_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE |
             Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = event_slots,
};
