/* SPDX-License-Identifier: Apache-2.0
 *
 * Implementation of jax.h.
 */
#include "jax.h"

#include <time.h>

#include "arguments.h"
#include "capsule.h"
#include "produce.h"
#include "tensor.h"

/* XLA's CPU client takes memory as it is only at this alignment, else it copies. */
#define JAX_ALIGNMENT 64
#define WAIT_NS 50000
/* Fewer than WAIT_NS has anywhere (x86's counter runs at the clock of the base). */
#if defined(__x86_64__)
#define LONG_TICKS 20000
#else
#define LONG_TICKS 1000
#endif

static struct {
    int usable;      /* -1: not asked yet */
    PyObject *whole; /* the one buffer of an array, as one that outlives its delete() */
    PyObject *buffer_to_managed;
    vectorcallfunc call_whole, call_buffer_to_managed; /* what calls them, asked once */
    PyObject *managed_to_buffer;
    PyObject *cpu_device;
    PyObject *device_type_cpu; /* the number 1 */
    PyObject *public_make;     /* from_tensor(tensor, copy) */
    PyObject *finish;          /* finish(array, copy): narrows 64-bit results */
    bool takes_device_type;
    uint64_t loaded_ticks;
    long long loaded_ns;
} jax = {.usable = -1};

/* A counter that costs a few nanoseconds to read, of a rate nobody needs to know. */
static inline uint64_t
ticks(void)
{
#if defined(__x86_64__)
    return __builtin_ia32_rdtsc();
#elif defined(__aarch64__)
    uint64_t value;
    __asm__ volatile("mrs %0, cntvct_el0" : "=r"(value));
    return value;
#else
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
#endif
}

static long long
now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (long long)t.tv_sec * 1000000000 + t.tv_nsec;
}

static vectorcallfunc
call_of(PyObject *callable)
{
    vectorcallfunc call = PyVectorcall_Function(callable);
    return call != NULL ? call : PyObject_Vectorcall;
}

int
dlx_jax_load(dlx_state *state)
{
    (void)state;
    int takes_device_type, usable;
    PyObject *module = NULL, *route = NULL;
    if (jax.usable >= 0) {
        return jax.usable;
    }
    module = PyImport_ImportModule("dlexchange.adapters.jax");
    route = module != NULL ? PyObject_CallMethod(module, "fast_route", NULL) : NULL;
    if (route == NULL ||
        !PyArg_ParseTuple(route, "pOOOOOOp", &usable, &jax.whole,
                          &jax.buffer_to_managed, &jax.managed_to_buffer,
                          &jax.cpu_device, &jax.public_make, &jax.finish,
                          &takes_device_type)) {
        goto fail;
    }
    jax.device_type_cpu = PyLong_FromLong(kDLCPU);
    if (jax.device_type_cpu == NULL) {
        goto fail;
    }
    jax.call_whole = call_of(jax.whole);
    jax.call_buffer_to_managed = call_of(jax.buffer_to_managed);
    jax.takes_device_type = takes_device_type != 0;
    jax.loaded_ticks = ticks();
    jax.loaded_ns = now_ns();
    Py_DECREF(module);
    jax.usable = usable; /* the tuple stays: it owns what was found */
    return usable;
fail:
    Py_XDECREF(module);
    Py_XDECREF(route);
    return -1;
}

/* The rate is learned from the time since jax was loaded. */
static bool
was_wait(uint64_t taken)
{
    uint64_t ticks_since = ticks() - jax.loaded_ticks;
    long long ns_since = now_ns() - jax.loaded_ns;
    return (double)taken * (double)ns_since > (double)WAIT_NS * (double)ticks_since;
}

/* jaxlib aborts the process where an array is deleted whose own export is in use. */
static PyObject *
export_timed(dlx_state *state, PyObject *x)
{
    PyObject *whole = jax.call_whole(jax.whole, &x, 1, NULL);
    if (whole == NULL) {
        return NULL;
    }
    uint64_t start = ticks();
    PyObject *capsule =
        jax.call_buffer_to_managed(jax.buffer_to_managed, &whole, 1, NULL);
    uint64_t taken = ticks() - start;
    Py_DECREF(whole);
    if (taken > LONG_TICKS && was_wait(taken)) {
        state->counts.host_waits++;
    }
    return capsule;
}

int
dlx_jax_open(dlx_state *state, PyObject *x, const dlx_request *request,
             dlx_source *source)
{
    (void)request;
    source->framework = "jax";
    PyObject *capsule = export_timed(state, x);
    if (capsule == NULL) {
        if (PyErr_ExceptionMatches(PyExc_Exception)) {
            dlx_raise(state->ExchangeError,
                      "jax cannot export this array (deleted, donated?); see the cause "
                      "above");
        }
        return -1;
    }
    int status = dlx_capsule_claim_legacy(state, capsule, source);
    Py_DECREF(capsule);
    if (status == 0) {
        source->flags |= DLPACK_FLAG_BITMASK_READ_ONLY;
    }
    return status;
}

/* Through a Tensor, by a function of Python: make(tensor, copy). */
static PyObject *
make_in_python(dlx_state *state, PyObject *make, const dlx_request *request,
               dlx_source *source)
{
    PyObject *result = NULL;
    PyObject *tensor = dlx_tensor_new(state, source);
    if (tensor != NULL) {
        result = PyObject_CallFunctionObjArgs(make, tensor,
                                              dlx_copy_object(request->copy), NULL);
        Py_DECREF(tensor);
    }
    return result;
}

static PyObject *
make_fast(dlx_state *state, const dlx_request *request, dlx_source *source)
{
    PyObject *result = NULL, *capsule = NULL;
    if (dlx_capsule_legacy_check(state, source) < 0) {
        return NULL;
    }
    dlx_block *block = dlx_block_new(state, &source->view, 0, &source->hold, false);
    if (block == NULL) {
        return NULL;
    }
    capsule = dlx_capsule_new(block, false);
    if (capsule == NULL) {
        dlx_block_undo(state, block, &source->hold);
        return NULL;
    }
    bool copied = (source->flags & DLPACK_FLAG_BITMASK_IS_COPIED) != 0;
    PyObject *copy = dlx_copy_object(copied ? -1 : request->copy);
    PyObject *args[5] = {capsule, jax.cpu_device, Py_None, copy, jax.device_type_cpu};
    result = PyObject_Vectorcall(jax.managed_to_buffer, args,
                                 jax.takes_device_type ? 5 : 4, NULL);
    Py_DECREF(capsule);
    if (result != NULL && source->view.dtype.bits >= 64) {
        Py_SETREF(result, PyObject_CallFunctionObjArgs(jax.finish, result, copy, NULL));
    }
    return result;
}

/* jax orders itself behind a Tensor; whether its deleter waits for its own use of the
 * memory is not known, so the adapter copies unless that is forbidden. */
static PyObject *
make_on_device(dlx_state *state, const dlx_request *request, dlx_source *source)
{
    PyObject *result = NULL;
    PyObject *make = PyObject_GetAttrString(state->adapters, "jax_of_device_tensor");
    if (make != NULL) {
        result = make_in_python(state, make, request, source);
        Py_DECREF(make);
    }
    if (result == NULL) {
        dlx_consumer_refused(state, "jax", source);
    }
    return result;
}

PyObject *
dlx_jax_make(dlx_state *state, const dlx_request *request, dlx_source *source)
{
    PyObject *result;
    if (dlx_jax_load(state) < 0) {
        return NULL;
    }
    if (source->view.device.device_type != kDLCPU) {
        return make_on_device(state, request, source);
    }
    if (!dlx_layout_is_dense(&source->view) &&
        dlx_source_copy_because(state, source, request,
                                "jax takes only memory without gaps or steps") < 0) {
        return NULL;
    }
    bool misaligned = dlx_layout_size(&source->view) != 0 &&
                      (uintptr_t)dlx_layout_first(&source->view) % JAX_ALIGNMENT != 0;
    if (misaligned && request->copy == 0) {
        dlx_raise(state->CopyError,
                  "jax needs host memory aligned to %d bytes and would copy this; pass "
                  "copy=None to allow it",
                  JAX_ALIGNMENT);
        return NULL;
    }
    bool copies = misaligned || (request->copy == 1 &&
                                 !(source->flags & DLPACK_FLAG_BITMASK_IS_COPIED));
    result = jax.usable ? make_fast(state, request, source)
                        : make_in_python(state, jax.public_make, request, source);
    if (result == NULL) {
        dlx_consumer_refused(state, "jax", source);
    } else if (copies) {
        state->counts.copies++;
    }
    return result;
}
