/* SPDX-License-Identifier: Apache-2.0
 *
 * A completion: an eventfd that becomes readable once a device's work is done. The
 * driver's callback only stores a status and writes eight bytes; no Python runs in it.
 * Two references own the state, the Python object and the notification, so an await
 * that is cancelled frees nothing early.
 */
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "alloc.h"
#include "raise.h"
#include "stream_type.h"

typedef struct completion {
    atomic_int references;
    atomic_int status; /* a dlx_status, or PENDING */
    int fd;
} completion;

#define PENDING (-1)

typedef struct completion_object {
    PyObject_HEAD
    completion *state;
} completion_object;

static void
completion_release(completion *self)
{
    if (atomic_fetch_sub(&self->references, 1) == 1) {
        dlx_fork_fd_remove(self->fd);
        close(self->fd);
        free(self);
    }
}

/* On a driver's thread: no lock, no Python, no driver. */
static void
completed(void *arg, dlx_status status)
{
    completion *self = arg;
    uint64_t one = 1;
    atomic_store(&self->status, (int)status);
    ssize_t written = write(self->fd, &one, sizeof one);
    (void)written; /* cannot fail on an eventfd that counts at most one */
    completion_release(self);
}

/* GIL: held. NULL with an error set. */
static completion *
completion_new(void)
{
    completion *self = dlx_alloc(sizeof *self);
    if (self == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    self->fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (self->fd < 0) { /* a process has only so many descriptors */
        PyErr_SetFromErrno(PyExc_OSError);
        free(self);
        return NULL;
    }
    atomic_init(&self->references, 2);
    atomic_init(&self->status, PENDING);
    (void)dlx_fork_fd_add(
        self->fd); /* a full table: the child keeps a spare descriptor */
    return self;
}

PyObject *
dlx_completion_start(PyObject *module, PyObject *subject)
{
    dlx_state *state = PyModule_GetState(module);
    dlx_error error;
    dlx_status status;
    completion *made = NULL;
    bool is_event = Py_TYPE(subject) == state->event_type;
    if (!is_event && Py_TYPE(subject) != state->stream_type) {
        return PyErr_Format(PyExc_TypeError, "expected Event or Stream, not %s",
                            Py_TYPE(subject)->tp_name);
    }
    completion_object *self = PyObject_New(completion_object, state->completion_type);
    if (self == NULL) {
        return NULL;
    }
    self->state = made = completion_new();
    if (made == NULL) {
        Py_DECREF(self);
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS
    status = is_event ? dlx_event_notify(((dlx_event_object *)subject)->event,
                                         completed, made, &error)
                      : dlx_stream_notify(((dlx_stream_object *)subject)->stream,
                                          completed, made, &error);
    Py_END_ALLOW_THREADS
    if (status != DLX_OK) {
        completion_release(made); /* the notification's reference */
        Py_DECREF(self);
        return dlx_raise_driver(state, &error);
    }
    return (PyObject *)self;
}

static void
completion_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    completion *state = ((completion_object *)self)->state;
    if (state != NULL) {
        completion_release(state);
    }
    PyObject_Free(self);
    Py_DECREF(type);
}

static PyObject *
completion_fileno(PyObject *self, PyObject *unused)
{
    (void)unused;
    return PyLong_FromLong(((completion_object *)self)->state->fd);
}

/* True when done, False when pending; raises what the device said otherwise. */
static PyObject *
completion_done(PyObject *self, PyObject *unused)
{
    (void)unused;
    int status = atomic_load(&((completion_object *)self)->state->status);
    if (status == PENDING || status == DLX_OK) {
        return PyBool_FromLong(status == DLX_OK);
    }
    dlx_error error = {.status = (dlx_status)status, .call = "dlx_event_notify"};
    PyOS_snprintf(error.text, sizeof error.text,
                  status == DLX_DEVICE_LOST
                      ? "the device's context is in error: the awaited work never ends"
                      : "the awaited work will never be reported complete (%s)",
                  dlx_status_name((dlx_status)status));
    return dlx_raise_driver(dlx_the_state, &error);
}

static PyMethodDef methods[] = {
    {"fileno", completion_fileno, METH_NOARGS,
     PyDoc_STR("A descriptor that is readable once done() answers.")},
    {"done", completion_done, METH_NOARGS,
     PyDoc_STR("True when done, False when pending; raises where it never will be.")},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc, "Tells when a device's work is done. Private."},
    {Py_tp_dealloc, completion_dealloc},
    {Py_tp_methods, methods},
    {0, NULL},
};

PyType_Spec dlx_completion_spec = {
    .name = "dlexchange._core._Completion",
    .basicsize = sizeof(completion_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_IMMUTABLETYPE |
             Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = slots,
};
