/* SPDX-License-Identifier: Apache-2.0
 *
 * Implementation of backend.h. An event of the driver layer is a cell that holds what
 * the backend returned for it, a mark; an empty cell is work that is done.
 */
#include "backend.h"

#include "alloc.h"
#include "mutant.h"
#include "raise.h"

typedef struct cell {
    PyObject *mark;
} cell;

static PyObject *table; /* dlexchange.backends.table; set once, never freed */
static _Thread_local char failure[200];

/* ---- Up and down ---- */

/* One call up: takes the GIL, and puts aside an exception that is on its way. */
typedef struct climb {
    PyGILState_STATE gil;
    PyObject *type, *value, *traceback;
} climb;

static bool
go_up(climb *self)
{
    if (dlx_thread_kind() == DLX_THREAD_LATE) {
        PyOS_snprintf(failure, sizeof failure, "the interpreter is exiting");
        return false;
    }
    self->gil = PyGILState_Ensure();
    PyErr_Fetch(&self->type, &self->value, &self->traceback);
    return true;
}

/* The exception that is set, as a status and the calling thread's text. */
static dlx_status
status_of_exception(void)
{
    dlx_state *state = dlx_the_state;
    PyObject *type, *value, *traceback, *text;
    dlx_status status = DLX_DRIVER_ERROR;
    if (PyErr_ExceptionMatches(state->StreamError) ||
        PyErr_ExceptionMatches(PyExc_TypeError)) {
        status = DLX_BAD_STREAM;
    } else if (PyErr_ExceptionMatches(PyExc_MemoryError)) {
        status = DLX_NO_MEMORY;
    } else if (PyErr_ExceptionMatches(PyExc_NotImplementedError)) {
        status = DLX_UNSUPPORTED;
    } else if (PyErr_ExceptionMatches(state->DeviceLost)) {
        status = DLX_DEVICE_LOST;
    } else if (PyErr_ExceptionMatches(PyExc_KeyboardInterrupt)) {
        PyErr_SetInterrupt(); /* raised again once we are back */
    }
    PyErr_Fetch(&type, &value, &traceback);
    text = value != NULL ? PyObject_Str(value) : NULL;
    const char *says = text != NULL ? PyUnicode_AsUTF8(text) : NULL;
    const char *name = ((PyTypeObject *)type)->tp_name;
    PyOS_snprintf(failure, sizeof failure, "%s%s%.150s",
                  status == DLX_BAD_STREAM ? "" : name,
                  status == DLX_BAD_STREAM ? "" : ": ", says != NULL ? says : "");
    PyErr_Clear();
    if (value != NULL && PyExceptionInstance_Check(value)) {
        PyException_SetTraceback(value, Py_None); /* who keeps it keeps no frames */
    }
    Py_XDECREF(text);
    Py_DECREF(type);
    Py_XDECREF(value);
    Py_XDECREF(traceback);
    return status;
}

/* Takes the result. */
static dlx_status
come_down(climb *self, PyObject *result)
{
    dlx_status status = result != NULL ? DLX_OK : status_of_exception();
    Py_XDECREF(result);
    PyErr_Restore(self->type, self->value, self->traceback);
    PyGILState_Release(self->gil);
    return status;
}

/* True is done, False is not yet. */
static dlx_status
answer(climb *self, PyObject *result)
{
    bool pending = result == Py_False;
    dlx_status status = come_down(self, result);
    return status == DLX_OK && pending ? DLX_NOT_READY : status;
}

static const char *
last_error(void)
{
    return failure;
}

/* ---- Events ---- */

static dlx_status
event_create(void **event)
{
    *event = dlx_alloc_zeroed(sizeof(cell));
    return *event != NULL ? DLX_OK : DLX_NO_MEMORY;
}

static void
event_destroy(void *event)
{
    climb self;
    if (go_up(&self)) {
        Py_XDECREF(((cell *)event)->mark);
        come_down(&self, Py_NewRef(Py_None));
    }
    free(event);
}

static dlx_status
record(void *event, uintptr_t stream)
{
    climb self;
    if (DLX_MUTATED(backend_record)) {
        return DLX_OK;
    }
    if (!go_up(&self)) {
        return DLX_STOPPED;
    }
    PyObject *mark =
        PyObject_CallMethod(table, "record", "K", (unsigned long long)stream);
    Py_XSETREF(((cell *)event)->mark, Py_XNewRef(mark));
    return come_down(&self, mark);
}

static dlx_status
wait(uintptr_t stream, void *event)
{
    climb self;
    PyObject *result;
    if (DLX_MUTATED(backend_wait)) {
        return DLX_OK;
    }
    if (!go_up(&self)) {
        return DLX_STOPPED;
    }
    /* With the GIL, and kept: another thread that sees it done clears it. */
    PyObject *mark = Py_XNewRef(((cell *)event)->mark);
    result = mark != NULL ? PyObject_CallMethod(table, "wait", "KO",
                                                (unsigned long long)stream, mark)
                          : Py_NewRef(Py_None);
    Py_XDECREF(mark);
    return come_down(&self, result);
}

/* Ask something of a mark. What is done needs no mark: it may keep much alive. */
static dlx_status
ask(void *event, const char *method)
{
    climb self;
    cell *mine = event;
    if (!go_up(&self)) {
        return DLX_STOPPED;
    }
    PyObject *mark = Py_XNewRef(mine->mark), *result = Py_NewRef(Py_True);
    if (mark != NULL) {
        Py_SETREF(result, PyObject_CallMethod(table, method, "(O)", mark));
    }
    if (result == Py_True && mine->mark == mark) {
        Py_CLEAR(mine->mark);
    }
    Py_XDECREF(mark);
    return answer(&self, result);
}

static dlx_status
query(void *event)
{
    return DLX_MUTATED(backend_query) ? DLX_OK : ask(event, "query");
}

static dlx_status
synchronize(void *event)
{
    return DLX_MUTATED(backend_synchronize) ? DLX_OK : ask(event, "synchronize");
}

/* ---- Completion ---- */

/* What a backend calls when an event has fired: `fn` runs once, whatever it does. */
typedef struct notifier {
    void (*fn)(void *, int, void *);
    void *arg;
} notifier;

static const char *const NOTIFIER = "dlexchange.notifier";

static void
tell(PyObject *capsule, int code)
{
    notifier *self = PyCapsule_GetPointer(capsule, NOTIFIER);
    if (self != NULL && self->fn != NULL) {
        void (*fn)(void *, int, void *) = self->fn;
        self->fn = NULL;
        fn(NULL, code, self->arg);
    }
}

/* A backend that lets go of the callable without a call never will call it. */
static void
notifier_destroy(PyObject *capsule)
{
    if (!DLX_MUTATED(backend_forgotten)) {
        tell(capsule, 999);
    }
    free(PyCapsule_GetPointer(capsule, NOTIFIER));
}

static PyObject *
call_notifier(PyObject *capsule, PyObject *error)
{
    tell(capsule, error == NULL || error == Py_None ? 0 : 999);
    Py_RETURN_NONE;
}

static PyObject *
py_done(PyObject *capsule, PyObject *args)
{
    PyObject *error = NULL;
    if (!PyArg_ParseTuple(args, "|O", &error)) {
        return NULL;
    }
    return call_notifier(capsule, error);
}

static PyMethodDef done_def = {
    "done", py_done, METH_VARARGS,
    PyDoc_STR("done(error=None): the event has fired, or never will.")};

static dlx_status
notify(void *event, void (*fn)(void *, int, void *), void *arg)
{
    climb self;
    PyObject *capsule = NULL, *done = NULL, *result = NULL;
    if (!go_up(&self)) {
        return DLX_STOPPED;
    }
    PyObject *mark = Py_XNewRef(((cell *)event)->mark); /* as in `wait` */
    notifier *told = dlx_alloc_zeroed(sizeof *told);
    if (told == NULL) {
        PyErr_NoMemory();
        goto fail;
    }
    capsule = PyCapsule_New(told, NOTIFIER, notifier_destroy);
    if (capsule == NULL) {
        free(told);
        goto fail;
    }
    done = PyCFunction_New(&done_def, capsule);
    if (done == NULL) {
        goto fail;
    }
    *told = (notifier){fn, arg};
    result = mark != NULL && !DLX_MUTATED(backend_notify)
                 ? PyObject_CallMethod(table, "notify", "OO", mark, done)
                 : PyObject_CallNoArgs(done);
    if (result == NULL && told->fn != NULL) {
        told->fn = NULL; /* refused: it must not be called later */
    } else if (result == NULL) {
        PyErr_WriteUnraisable(done); /* it was called: that counts */
        result = Py_NewRef(Py_None);
    }
fail:
    Py_XDECREF(done);
    Py_XDECREF(capsule);
    Py_XDECREF(mark);
    return come_down(&self, result);
}

/* ---- Streams and copies ---- */

static dlx_status
stream_create(int32_t device_type, int32_t device_id, uintptr_t *stream)
{
    climb self;
    if (!go_up(&self)) {
        return DLX_STOPPED;
    }
    PyObject *number =
        PyObject_CallMethod(table, "create", "ii", (int)device_type, (int)device_id);
    if (number != NULL) {
        *stream = (uintptr_t)PyLong_AsUnsignedLongLong(number);
        if (PyErr_Occurred()) {
            Py_CLEAR(number);
        }
    }
    return come_down(&self, number);
}

static dlx_status
stream_query(uintptr_t stream)
{
    climb self;
    if (DLX_MUTATED(backend_stream_query)) {
        return DLX_OK;
    }
    if (!go_up(&self)) {
        return DLX_STOPPED;
    }
    return answer(&self, PyObject_CallMethod(table, "stream_query", "K",
                                             (unsigned long long)stream));
}

static dlx_status
stream_synchronize(uintptr_t stream)
{
    climb self;
    if (DLX_MUTATED(backend_stream_synchronize)) {
        return DLX_OK;
    }
    if (!go_up(&self)) {
        return DLX_STOPPED;
    }
    return come_down(&self, PyObject_CallMethod(table, "stream_synchronize", "K",
                                                (unsigned long long)stream));
}

static dlx_status
copy_to_host(void *dst, uintptr_t src, size_t nbytes, uintptr_t stream)
{
    climb self;
    PyObject *result = NULL, *view;
    if (!go_up(&self)) {
        return DLX_STOPPED;
    }
    view = PyMemoryView_FromMemory(dst, (Py_ssize_t)nbytes, PyBUF_WRITE);
    if (view != NULL) {
        result = PyObject_CallMethod(table, "copy_to_host", "KKO",
                                     (unsigned long long)stream,
                                     (unsigned long long)src, view);
        Py_DECREF(view);
    }
    return come_down(&self, result);
}

static const dlx_backend_calls functions = {
    .event_create = event_create,
    .event_destroy = event_destroy,
    .record = record,
    .wait = wait,
    .query = query,
    .synchronize = synchronize,
    .notify = notify,
    .stream_create = stream_create,
    .stream_query = stream_query,
    .stream_synchronize = stream_synchronize,
    .copy_to_host = copy_to_host,
    .last_error = last_error,
};

PyObject *
dlx_py_backend_install(PyObject *module, PyObject *args)
{
    dlx_state *state = PyModule_GetState(module);
    int device_type;
    const char *name;
    PyObject *by;
    dlx_error error;
    if (!PyArg_ParseTuple(args, "isO", &device_type, &name, &by)) {
        return NULL;
    }
    if (table == NULL) {
        table = Py_NewRef(by);
    }
    if (dlx_backend_install(device_type, name, &functions, &error) != DLX_OK) {
        return dlx_raise_driver(state, &error);
    }
    Py_RETURN_NONE;
}

/* ---- What the upper half asks ---- */

bool
dlx_backend_drives(dlx_state *state, int32_t device_type)
{
    if (device_type <= kDLCUDAHost || device_type == kDLROCM ||
        device_type == kDLROCMHost || device_type == kDLCUDAManaged) {
        return false;
    }
    PyObject *found =
        PyObject_CallMethod(state->streams, "is_registered", "i", (int)device_type);
    if (found == NULL) {
        PyErr_WriteUnraisable(state->streams);
    }
    Py_XDECREF(found);
    return found == Py_True;
}

PyObject *
dlx_backend_stream(dlx_state *state, DLDevice on, PyObject *object)
{
    return PyObject_CallMethod(state->streams, "resolve", "Oii",
                               object != NULL ? object : Py_None, (int)on.device_type,
                               (int)on.device_id);
}

int
dlx_backend_argument(dlx_stream stream, PyObject **out)
{
    *out = NULL;
    if (stream.device_type == 0 || DLX_MUTATED(backend_argument)) {
        return 0;
    }
    *out = PyObject_CallMethod(table, "native", "K", (unsigned long long)stream.handle);
    return *out != NULL ? 0 : -1;
}

int
dlx_backend_is_host(DLDevice device, uintptr_t address)
{
    PyObject *found =
        PyObject_CallMethod(table, "is_host_accessible", "iiK", (int)device.device_type,
                            (int)device.device_id, (unsigned long long)address);
    int is_host = found != NULL ? PyObject_IsTrue(found) : -1;
    Py_XDECREF(found);
    return is_host;
}
