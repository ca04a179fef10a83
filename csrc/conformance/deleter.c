/* SPDX-License-Identifier: Apache-2.0
 *
 * Calling deleters where a library seldom expects them (a thread without a Python
 * thread state, after the interpreter is gone), and counting the calls that a subject's
 * own capsule destructor makes, by a counter put before the subject's deleter.
 */
#include "probe.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

typedef void (*deleter_fn)(void *);

static deleter_fn *
deleter_field(void *managed, int versioned)
{
    return versioned
               ? (deleter_fn *)(void *)&((DLManagedTensorVersioned *)managed)->deleter
               : (deleter_fn *)(void *)&((DLManagedTensor *)managed)->deleter;
}

typedef struct {
    void *managed;
    deleter_fn deleter;
} call;

static void *
call_on_thread(void *argument)
{
    call *todo = argument;
    todo->deleter(todo->managed);
    return NULL;
}

/* call_deleter(address, versioned, where) -> the exception it left set, or None.
 * where: "here" with the GIL, "released" without, "thread" on a raw pthread that has no
 * Python thread state (the caller waits for it with the GIL released). */
static PyObject *
call_deleter(PyObject *Py_UNUSED(module), PyObject *args)
{
    void *managed;
    int versioned;
    const char *where;
    if (!PyArg_ParseTuple(args, "O&ps", probe_address, &managed, &versioned, &where)) {
        return NULL;
    }
    call todo = {managed, *deleter_field(managed, versioned)};
    int failed = 0;
    if (todo.deleter == NULL) {
        PyErr_SetString(PyExc_ValueError, "the deleter is NULL");
        return NULL;
    }
    if (where[0] == 'h') {
        todo.deleter(managed);
    } else if (where[0] == 'r') {
        PyThreadState *state = PyEval_SaveThread();
        todo.deleter(managed);
        PyEval_RestoreThread(state);
    } else {
        PyThreadState *state = PyEval_SaveThread();
        pthread_t thread;
        failed = pthread_create(&thread, NULL, call_on_thread, &todo);
        if (!failed) {
            pthread_join(thread, NULL);
        }
        PyEval_RestoreThread(state);
    }
    if (failed) {
        PyErr_SetString(PyExc_RuntimeError, "no thread could be started");
        return NULL;
    }
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    PyErr_NormalizeException(&type, &value, &traceback);
    Py_XDECREF(type);
    Py_XDECREF(traceback);
    return value != NULL ? value : Py_NewRef(Py_None);
}

/* --- after the interpreter is gone */

enum { EXIT_SLOTS = 16 };
static call exit_calls[EXIT_SLOTS];
static int exit_count;
static int exit_fd = -1;

static void
run_exit_calls(void)
{
    for (int i = 0; i < exit_count; i++) {
        exit_calls[i].deleter(exit_calls[i].managed);
    }
    if (exit_fd >= 0) {
        (void)!write(exit_fd, "survived\n", 9);
    }
}

/* at_exit_delete(address, versioned, fd): the deleter runs when the C library exits, as
 * from a static destructor, which is after Python was finalised; "survived" is written
 * to fd when it has returned. */
static PyObject *
at_exit_delete(PyObject *Py_UNUSED(module), PyObject *args)
{
    void *managed;
    int versioned, fd;
    if (!PyArg_ParseTuple(args, "O&pi", probe_address, &managed, &versioned, &fd)) {
        return NULL;
    }
    if (exit_count == EXIT_SLOTS) {
        PyErr_SetString(PyExc_RuntimeError, "too many deleters are held for the exit");
        return NULL;
    }
    if (exit_count == 0 && atexit(run_exit_calls) != 0) {
        PyErr_SetString(PyExc_RuntimeError, "atexit has no room");
        return NULL;
    }
    exit_calls[exit_count++] = (call){managed, *deleter_field(managed, versioned)};
    exit_fd = fd;
    Py_RETURN_NONE;
}

/* --- counting the subject's own calls */

typedef struct watch {
    struct watch *next;
    call original;
    atomic_int calls;
} watch;

static pthread_mutex_t watches_lock = PTHREAD_MUTEX_INITIALIZER;
static watch *watches; /* newest first: an address may come back */

/* Any thread, no GIL: counts, and lets the first call of each watch through. */
static void
counted(void *managed)
{
    pthread_mutex_lock(&watches_lock);
    watch *found = watches;
    while (found != NULL && found->original.managed != managed) {
        found = found->next;
    }
    pthread_mutex_unlock(&watches_lock);
    if (found != NULL && atomic_fetch_add(&found->calls, 1) == 0) {
        found->original.deleter(managed);
    }
}

static PyObject *
watch_deleter(PyObject *Py_UNUSED(module), PyObject *args)
{
    void *managed;
    int versioned;
    if (!PyArg_ParseTuple(args, "O&p", probe_address, &managed, &versioned)) {
        return NULL;
    }
    deleter_fn *field = deleter_field(managed, versioned);
    if (*field == NULL) {
        PyErr_SetString(PyExc_ValueError, "the deleter is NULL");
        return NULL;
    }
    watch *made = calloc(1, sizeof(watch)); /* never freed: a late call must find it */
    if (made == NULL) {
        return PyErr_NoMemory();
    }
    made->original = (call){managed, *field};
    pthread_mutex_lock(&watches_lock);
    made->next = watches;
    watches = made;
    pthread_mutex_unlock(&watches_lock);
    *field = counted;
    return PyLong_FromVoidPtr(made);
}

static PyObject *
watched_calls(PyObject *Py_UNUSED(module), PyObject *token)
{
    watch *which = PyLong_AsVoidPtr(token);
    if (which == NULL) {
        return NULL;
    }
    return PyLong_FromLong(atomic_load(&which->calls));
}

static PyMethodDef methods[] = {
    {"call_deleter", call_deleter, METH_VARARGS, NULL},
    {"at_exit_delete", at_exit_delete, METH_VARARGS, NULL},
    {"watch_deleter", watch_deleter, METH_VARARGS, NULL},
    {"watched_calls", watched_calls, METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

int
probe_add_deleter(PyObject *module)
{
    return PyModule_AddFunctions(module, methods);
}
