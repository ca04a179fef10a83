/* SPDX-License-Identifier: Apache-2.0
 *
 * C helpers of the tests: deleters that count and poison, raw threads, exchange-API
 * functions that ask a Python object what to do. Built by native.py, loaded by ctypes.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "dlexchange/dlpack_abi.h"

/* ---- deleters ---------------------------------------------------------------------- */

/* Reached by manager_ctx; lives in Python memory that outlives the managed tensor. */
typedef struct fake_context {
    atomic_long calls;
    long with_gil;       /* calls made while the calling thread held the GIL */
    long with_exception; /* calls made while a Python exception was set */
    long leave_error;    /* behave badly: return with an exception set */
    PyObject *callback;  /* borrowed, or NULL: called with the GIL held */
} fake_context;

static void
poison(DLTensor *tensor)
{
    memset(tensor, 0xDD, sizeof *tensor); /* any use after the deleter crashes */
}

static void
count(fake_context *context)
{
    atomic_fetch_add(&context->calls, 1);
    if (!Py_IsInitialized()) {
        return;
    }
    if (PyGILState_Check()) {
        context->with_gil++;
        context->with_exception += PyErr_Occurred() != NULL;
    }
    if (context->callback != NULL || context->leave_error) {
        PyGILState_STATE gil = PyGILState_Ensure();
        if (context->callback != NULL) {
            PyObject *result = PyObject_CallNoArgs(context->callback);
            if (result == NULL) {
                PyErr_WriteUnraisable(context->callback);
            }
            Py_XDECREF(result);
        }
        if (context->leave_error) {
            PyErr_SetString(PyExc_RuntimeError, "left behind by a deleter");
        }
        PyGILState_Release(gil);
    }
}

void
delete_versioned(DLManagedTensorVersioned *self)
{
    count(self->manager_ctx);
    poison(&self->dl_tensor);
}

void
delete_legacy(DLManagedTensor *self)
{
    count(self->manager_ctx);
    poison(&self->dl_tensor);
}

/* What a producer's capsule does when it dies unconsumed. */
void
destroy_versioned(PyObject *capsule)
{
    if (PyCapsule_IsValid(capsule, "dltensor_versioned")) {
        DLManagedTensorVersioned *self =
            PyCapsule_GetPointer(capsule, "dltensor_versioned");
        if (self->deleter != NULL) {
            self->deleter(self);
        }
    }
}

void
destroy_legacy(PyObject *capsule)
{
    if (PyCapsule_IsValid(capsule, "dltensor")) {
        DLManagedTensor *self = PyCapsule_GetPointer(capsule, "dltensor");
        if (self->deleter != NULL) {
            self->deleter(self);
        }
    }
}

/* ---- taking capsules as a consumer would -------------------------------------------- */

void *
claim(PyObject *capsule)
{
    const char *name = PyCapsule_GetName(capsule);
    bool versioned = name != NULL && strcmp(name, "dltensor_versioned") == 0;
    void *managed = PyCapsule_GetPointer(capsule, name);
    PyCapsule_SetName(capsule,
                      versioned ? "used_dltensor_versioned" : "used_dltensor");
    return managed;
}

typedef struct deletion {
    void *managed;
    int versioned;
} deletion;

static void
run_deletion(const deletion *job)
{
    if (job->versioned) {
        DLManagedTensorVersioned *self = job->managed;
        self->deleter(self);
    } else {
        DLManagedTensor *self = job->managed;
        self->deleter(self);
    }
}

/* Run the deleter in the calling thread; with or without the GIL as the caller loaded
 * this library (ctypes.PyDLL or CDLL). */
void
delete_here(void *managed, int versioned)
{
    deletion job = {managed, versioned};
    run_deletion(&job);
}

static void *
thread_main(void *job)
{
    run_deletion(job);
    return NULL;
}

/* Run the deleter in a thread that Python never saw, and join it. Whoever calls this
 * while holding the GIL shows that the deleter does not wait for it. */
int
delete_in_raw_thread(void *managed, int versioned)
{
    pthread_t thread;
    deletion job = {managed, versioned};
    int status = pthread_create(&thread, NULL, thread_main, &job);
    return status != 0 ? status : pthread_join(thread, NULL);
}

/* Many raw threads, each deleting its part of `managed`, started together. */
typedef struct share {
    pthread_t thread;
    pthread_barrier_t *start;
    void **managed;
    int n;
} share;

static void *
share_main(void *argument)
{
    share *mine = argument;
    pthread_barrier_wait(mine->start);
    for (int i = 0; i < mine->n; i++) {
        deletion job = {mine->managed[i], 1};
        run_deletion(&job);
    }
    return NULL;
}

#define MAX_THREADS 16

int
delete_in_raw_threads(void **managed, int n_each, int n_threads)
{
    share shares[MAX_THREADS];
    pthread_barrier_t start;
    if (n_threads > MAX_THREADS ||
        pthread_barrier_init(&start, NULL, (unsigned)n_threads) != 0) {
        return -1;
    }
    for (int i = 0; i < n_threads; i++) {
        shares[i] = (share){.start = &start, .managed = managed + i * n_each, .n = n_each};
        if (pthread_create(&shares[i].thread, NULL, share_main, &shares[i]) != 0) {
            abort();
        }
    }
    for (int i = 0; i < n_threads; i++) {
        pthread_join(shares[i].thread, NULL);
    }
    return pthread_barrier_destroy(&start);
}

/* ---- after finalisation -------------------------------------------------------------- */

static deletion late_job;

static void
late(void)
{
    run_deletion(&late_job);
    static const char text[] = "deleted late\n";
    (void)!write(STDOUT_FILENO, text, sizeof text - 1);
}

/* Run the deleter when the C library shuts down: the interpreter is gone by then. */
int
delete_after_finalisation(void *managed, int versioned)
{
    late_job = (deletion){managed, versioned};
    return atexit(late);
}

/* ---- exchange-API functions that ask the object --------------------------------------- */

int
scripted_from_object(void *object, DLManagedTensorVersioned **out)
{
    PyObject *answer = PyObject_CallMethod(object, "managed", NULL);
    if (answer == NULL) {
        return -1;
    }
    *out = PyLong_AsVoidPtr(answer);
    Py_DECREF(answer);
    return PyErr_Occurred() ? -1 : 0;
}

/* Fails and does not say why. */
int
silent_from_object(void *object, DLManagedTensorVersioned **out)
{
    (void)object;
    (void)out;
    return -1;
}

int
scripted_to_object(DLManagedTensorVersioned *tensor, void **out)
{
    (void)tensor;
    (void)out;
    PyErr_SetString(PyExc_BufferError, "the fake table imports nothing");
    return -1;
}

int
scripted_work_stream(DLDeviceType type, int32_t id, void **out)
{
    (void)type;
    (void)id;
    *out = NULL;
    return 0;
}

int
scripted_allocate(DLTensor *prototype, DLManagedTensorVersioned **out, void *context,
                  void (*set_error)(void *, const char *, const char *))
{
    (void)prototype;
    (void)out;
    set_error(context, "BufferError", "the fake table allocates nothing");
    return -1;
}

/* ---- calling our exchange API ---------------------------------------------------------- */

typedef struct reported {
    long calls;
    char kind[64];
    char message[256];
} reported;

static void
report(void *context, const char *kind, const char *message)
{
    reported *said = context;
    said->calls++;
    snprintf(said->kind, sizeof said->kind, "%s", kind);
    snprintf(said->message, sizeof said->message, "%s", message);
}

int
call_allocator(const DLPackExchangeAPI *api, DLTensor *prototype,
               DLManagedTensorVersioned **out, reported *said)
{
    return api->managed_tensor_allocator(prototype, out, said, report);
}
