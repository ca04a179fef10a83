/* SPDX-License-Identifier: Apache-2.0
 *
 * dlexchange.Stream. GIL: held; released around driver calls.
 */
#include "stream_type.h"

#include "backend.h"
#include "lease.h"
#include "order.h"
#include "raise.h"

PyObject *
dlx_stream_object_new(dlx_state *state, dlx_stream stream, PyObject *owner,
                      bool is_pooled)
{
    dlx_stream_object *self = PyObject_GC_New(dlx_stream_object, state->stream_type);
    if (self != NULL) {
        self->stream = stream;
        self->owner = Py_XNewRef(owner);
        self->is_pooled = is_pooled;
        PyObject_GC_Track(self);
    }
    return (PyObject *)self;
}

/* An owner tends to keep the view of itself. */
static int
stream_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(((dlx_stream_object *)self)->owner);
    return 0;
}

static int
stream_clear(PyObject *self)
{
    Py_CLEAR(((dlx_stream_object *)self)->owner);
    return 0;
}

static void
stream_dealloc(PyObject *self)
{
    dlx_stream_object *mine = (dlx_stream_object *)self;
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    if (mine->is_pooled) {
        dlx_stream_release(mine->stream);
    }
    (void)stream_clear(self);
    PyObject_GC_Del(self);
    Py_DECREF(type);
}

/* What people write for a device, as DLPack's pair; only devices with streams. */
static int
read_device(dlx_state *state, PyObject *object, DLDevice *out)
{
    int type, id, status = -1;
    PyObject *device = PyObject_CallMethod(state->make_device, "of", "(O)", object);
    if (device != NULL && PyArg_ParseTuple(device, "ii", &type, &id)) {
        *out = dlx_order_device((DLDevice){(DLDeviceType)type, id});
        if (out->device_type != 0) {
            status = 0;
        } else {
            dlx_raise(state->StreamError,
                      "device %S has no streams that dlexchange drives", device);
        }
    }
    Py_XDECREF(device);
    return status;
}

static PyObject *
stream_of_handle(dlx_state *state, PyObject *device, uintptr_t handle, PyObject *owner)
{
    DLDevice on;
    dlx_stream stream;
    dlx_error error;
    if (read_device(state, device, &on) < 0) {
        return NULL;
    }
    if (dlx_stream_init(&stream, (int32_t)on.device_type, on.device_id, handle,
                        &error) != DLX_OK) {
        return dlx_raise_driver(state, &error);
    }
    return dlx_stream_object_new(state, stream, owner, false);
}

/* The streams of device types from outside are objects, not numbers. */
static PyObject *
stream_of_object(dlx_state *state, PyObject *device, PyObject *object)
{
    DLDevice on;
    if (read_device(state, device, &on) < 0) {
        return NULL;
    }
    if (!dlx_backend_is_installed((int32_t)on.device_type)) {
        return dlx_raise(state->StreamError,
                         "a stream handle is an integer from 0 to 2^64 - 1, not %R",
                         object);
    }
    return dlx_backend_stream(state, on, object);
}

static PyObject *
stream_from_handle(PyObject *cls, PyObject *args, PyObject *kwargs)
{
    static char *keywords[] = {"device", "address", "owner", NULL};
    PyObject *device, *address, *owner = Py_None;
    (void)cls;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OO|O", keywords, &device, &address,
                                     &owner)) {
        return NULL;
    }
    if (!PyLong_Check(address)) {
        return stream_of_object(dlx_the_state, device, address);
    }
    unsigned long long handle = PyBool_Check(address)
                                    ? (unsigned long long)-1
                                    : PyLong_AsUnsignedLongLong(address);
    if (PyErr_Occurred() || PyBool_Check(address)) {
        return dlx_raise(dlx_the_state->StreamError,
                         "a stream handle is an integer from 0 to 2^64 - 1, not %R",
                         address);
    }
    return stream_of_handle(dlx_the_state, device, (uintptr_t)handle,
                            owner == Py_None ? NULL : owner);
}

static PyObject *
stream_legacy_default(PyObject *cls, PyObject *device)
{
    (void)cls;
    return stream_of_handle(dlx_the_state, device, 0, NULL);
}

static PyObject *
stream_per_thread_default(PyObject *cls, PyObject *device)
{
    (void)cls;
    return stream_of_handle(dlx_the_state, device, DLX_CUDA_PER_THREAD, NULL);
}

static PyObject *
stream_create(PyObject *cls, PyObject *device)
{
    (void)cls;
    dlx_state *state = dlx_the_state;
    DLDevice on;
    dlx_stream stream;
    if (read_device(state, device, &on) < 0) {
        return NULL;
    }
    DLX_DRIVE(state, dlx_stream_acquire((int32_t)on.device_type, on.device_id, &stream,
                                        &error));
    PyObject *self = dlx_stream_object_new(state, stream, NULL, true);
    if (self == NULL) {
        dlx_stream_release(stream);
    }
    return self;
}

static PyObject *
stream_record(PyObject *self, PyObject *unused)
{
    (void)unused;
    dlx_state *state = dlx_the_state;
    dlx_event *event;
    DLX_DRIVE(state,
              dlx_event_record(((dlx_stream_object *)self)->stream, &event, &error));
    PyObject *object = dlx_event_object_new(state, event);
    if (object == NULL) {
        dlx_event_release(event);
    }
    return object;
}

static PyObject *
stream_wait(PyObject *self, PyObject *other)
{
    dlx_state *state = dlx_the_state;
    dlx_stream mine = ((dlx_stream_object *)self)->stream;
    if (Py_TYPE(other) == state->event_type) {
        dlx_event *event = ((dlx_event_object *)other)->event;
        DLX_DRIVE(state, dlx_event_wait(event, mine, &error));
        Py_RETURN_NONE;
    }
    dlx_stream_ref source;
    bool vouched;
    DLDevice anywhere = {(DLDeviceType)mine.device_type, mine.device_id};
    if (Py_TYPE(other) == state->stream_type) { /* may be of another device */
        dlx_stream theirs = ((dlx_stream_object *)other)->stream;
        anywhere = (DLDevice){(DLDeviceType)theirs.device_type, theirs.device_id};
    }
    if (dlx_stream_read(state, other, anywhere, &vouched, &source) < 0) {
        return NULL;
    }
    if (vouched) {
        return dlx_raise(state->StreamError, "there is no stream -1 to wait for");
    }
    dlx_error error;
    dlx_status status;
    Py_BEGIN_ALLOW_THREADS
    status = dlx_push(source.stream, mine, DLX_PUSH_CONSUMER_NAMED, &error);
    Py_END_ALLOW_THREADS
    dlx_stream_ref_clear(&source);
    if (status != DLX_OK) {
        return dlx_raise_driver(state, &error);
    }
    Py_RETURN_NONE;
}

static PyObject *
stream_query(PyObject *self, PyObject *unused)
{
    (void)unused;
    dlx_error error;
    dlx_status status;
    Py_BEGIN_ALLOW_THREADS
    status = dlx_stream_query(((dlx_stream_object *)self)->stream, &error);
    Py_END_ALLOW_THREADS
    return dlx_answer_query(dlx_the_state, status, &error);
}

static PyObject *
stream_synchronize(PyObject *self, PyObject *unused)
{
    (void)unused;
    DLX_DRIVE(dlx_the_state,
              dlx_stream_synchronize(((dlx_stream_object *)self)->stream, &error));
    Py_RETURN_NONE;
}

static PyObject *
stream_cuda_stream(PyObject *self, PyObject *unused)
{
    (void)unused;
    dlx_stream stream = ((dlx_stream_object *)self)->stream;
    if (stream.device_type != kDLCUDA) {
        return dlx_raise(dlx_the_state->StreamError, "%R is not a CUDA stream", self);
    }
    return Py_BuildValue("(iK)", 0, (unsigned long long)stream.handle);
}

static PyObject *
stream_get_device(PyObject *self, void *closure)
{
    (void)closure;
    dlx_stream stream = ((dlx_stream_object *)self)->stream;
    return PyObject_CallFunction(dlx_the_state->make_device, "ii",
                                 (int)stream.device_type, (int)stream.device_id);
}

static PyObject *
stream_get_handle(PyObject *self, void *closure)
{
    (void)closure;
    return PyLong_FromUnsignedLongLong(((dlx_stream_object *)self)->stream.handle);
}

static PyObject *
stream_get_owner(PyObject *self, void *closure)
{
    (void)closure;
    PyObject *owner = ((dlx_stream_object *)self)->owner;
    return Py_NewRef(owner != NULL ? owner : Py_None);
}

static PyObject *
stream_repr(PyObject *self)
{
    dlx_stream stream = ((dlx_stream_object *)self)->stream;
    PyObject *device = stream_get_device(self, NULL);
    PyObject *repr = NULL;
    if (device != NULL) {
        const char *name = !dlx_stream_is_default(stream)     ? "handle"
                           : dlx_stream_is_per_thread(stream) ? "per-thread default"
                                                              : "legacy default";
        repr = PyUnicode_FromFormat("<dlexchange.Stream %s %p on %S>", name,
                                    (void *)stream.handle, device);
        Py_DECREF(device);
    }
    return repr;
}

static PyObject *
stream_compare(PyObject *self, PyObject *other, int op)
{
    if (Py_TYPE(other) != Py_TYPE(self) || (op != Py_EQ && op != Py_NE)) {
        Py_RETURN_NOTIMPLEMENTED;
    }
    bool same = dlx_stream_same(((dlx_stream_object *)self)->stream,
                                ((dlx_stream_object *)other)->stream, true);
    return PyBool_FromLong(same == (op == Py_EQ));
}

static Py_hash_t
stream_hash(PyObject *self)
{
    dlx_stream stream = ((dlx_stream_object *)self)->stream;
    uintptr_t mixed = stream.handle ^ ((uintptr_t)stream.device_id << 8) ^
                      ((uintptr_t)stream.device_type << 16);
    Py_hash_t hash = (Py_hash_t)(mixed >> 4 | mixed << 60);
    return hash == -1 ? -2 : hash;
}

static PyMethodDef stream_methods[] = {
    {"from_handle", (PyCFunction)(void (*)(void))stream_from_handle,
     METH_CLASS | METH_VARARGS | METH_KEYWORDS,
     PyDoc_STR(
         "from_handle($type, /, device, address, owner=None)\n--\n\n"
         "View a driver's stream handle.\n\n"
         "Parameters\n----------\n"
         "device : Device, str or tuple\n    The stream's device.\n"
         "address : int\n    The driver's handle; CUDA's 0 means the legacy stream. For a\n"
         "    device type of dlexchange.backends: the stream object itself.\n"
         "owner : object or None\n"
         "    Kept alive as long as the handle is needed. None: the handle must\n"
         "    outlive every use, also the release of memory used on it.\n\n"
         "Synchronization\n---------------\nNone; no driver call.")},
    {"legacy_default", stream_legacy_default, METH_CLASS | METH_O,
     PyDoc_STR("legacy_default($type, device, /)\n--\n\n"
               "Return the legacy default stream of a device.\n\n"
               "Synchronization\n---------------\nNone; no driver call.")},
    {"per_thread_default", stream_per_thread_default, METH_CLASS | METH_O,
     PyDoc_STR("per_thread_default($type, device, /)\n--\n\n"
               "Return the default stream of whichever thread uses it.\n\n"
               "Synchronization\n---------------\nNone; no driver call.")},
    {"create", stream_create, METH_CLASS | METH_O,
     PyDoc_STR("create($type, device, /)\n--\n\n"
               "Take a non-blocking stream out of the device's pool.\n\n"
               "It goes back when the object dies, and is never destroyed.\n\n"
               "Synchronization\n---------------\nNone.")},
    {"record", stream_record, METH_NOARGS,
     PyDoc_STR("record($self, /)\n--\n\n"
               "Mark the work queued so far.\n\n"
               "Returns\n-------\nEvent\n\n"
               "Synchronization\n---------------\nThe host does not block.")},
    {"wait", stream_wait, METH_O,
     PyDoc_STR("wait($self, stream_or_event, /)\n--\n\n"
               "Make later work wait for a stream's work so far, or for an event.\n\n"
               "Synchronization\n---------------\n"
               "Device-side; the host does not block.")},
    {"query", stream_query, METH_NOARGS,
     PyDoc_STR("query($self, /)\n--\n\n"
               "Return True where all work queued so far is done.\n\n"
               "Synchronization\n---------------\nAsks; the host does not block.")},
    {"synchronize", stream_synchronize, METH_NOARGS,
     PyDoc_STR("synchronize($self, /)\n--\n\n"
               "Block the calling thread until all work queued so far is done.\n\n"
               "Synchronization\n---------------\n"
               "The host blocks, without the GIL; counted in ``stats().host_waits``.")},
    {"__cuda_stream__", stream_cuda_stream, METH_NOARGS,
     PyDoc_STR("__cuda_stream__($self, /)\n--\n\nReturn (version, handle).")},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef stream_getset[] = {
    {"device", stream_get_device, NULL, "The stream's device, a Device.", NULL},
    {"handle", stream_get_handle, NULL, "The driver's handle, an integer.", NULL},
    {"owner", stream_get_owner, NULL, "What keeps the handle valid, or None.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot stream_slots[] = {
    {Py_tp_doc,
     "A stream of a device: where work is queued.\n\n"
     "Made by its class methods, or by :func:`current_stream`.\n\n"
     "Ownership\n---------\nKeeps its owner alive; never destroys a stream."},
    {Py_tp_dealloc, stream_dealloc},
    {Py_tp_traverse, stream_traverse},
    {Py_tp_clear, stream_clear},
    {Py_tp_repr, stream_repr},
    {Py_tp_richcompare, stream_compare},
    {Py_tp_hash, stream_hash},
    {Py_tp_methods, stream_methods},
    {Py_tp_getset, stream_getset},
    {0, NULL},
};

PyType_Spec dlx_stream_spec = {
    .name = "dlexchange.Stream",
    .basicsize = sizeof(dlx_stream_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_IMMUTABLETYPE |
             Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = stream_slots,
};
