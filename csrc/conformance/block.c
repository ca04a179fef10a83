/* SPDX-License-Identifier: Apache-2.0
 *
 * What happens to a fake managed tensor: released, deleted, its capsule destroyed. The
 * deleters run on any thread, with or without the GIL.
 */
#include "block.h"

#include <stdlib.h>
#include <string.h>

/* Shape and strides start one element into their allocation, so that a consumer that
 * frees them aborts at once. */
void
probe_dims_free(int64_t *dims)
{
    if (dims != NULL) {
        free(dims - 1);
    }
}

/* The last blocks that were released stay readable for a while: who writes to a struct
 * after its deleter shall be found out and not corrupt the heap. */
enum { QUARANTINE = 16 };
static block *quarantine[QUARANTINE];
static atomic_uint quarantined;

void
probe_block_release(block *self)
{
    if (atomic_fetch_sub(&self->holders, 1) == 1) {
        unsigned slot = atomic_fetch_add(&quarantined, 1) % QUARANTINE;
        block *oldest = quarantine[slot];
        quarantine[slot] = self;
        if (oldest != NULL) {
            probe_dims_free(oldest->shape);
            probe_dims_free(oldest->strides);
            free(oldest);
        }
    }
}

static void
owner_drop(block *self)
{
    if (self->owner == NULL) {
        return;
    }
    if (self->deleter != DELETER_NEEDS_INTERPRETER && !Py_IsInitialized()) {
        return; /* leak: nobody is left to take it */
    }
    PyGILState_STATE gil = PyGILState_Ensure();
    Py_CLEAR(self->owner);
    PyGILState_Release(gil);
}

/* The deleter: any thread, with or without the GIL. */
static void
block_delete(block *self)
{
    int first = atomic_fetch_add(&self->deleted, 1) == 0;
    int gil = Py_IsInitialized() && PyGILState_Check();
    atomic_store(&self->with_gil, gil);
    if (self->deleter == DELETER_REFUSES_GIL && gil && !self->in_destructor) {
        abort();
    }
    if (self->deleter == DELETER_NEEDS_GIL) {
        PyErr_Clear();
    }
    self->at_deletion = self->managed;
    if (!first || self->deleter == DELETER_LEAKY) {
        return;
    }
    owner_drop(self);
    if (self->deleter == DELETER_RAISES && gil) {
        PyErr_SetString(PyExc_RuntimeError, "left by a deleter");
    }
    probe_block_release(self);
}

void
probe_legacy_delete(DLManagedTensor *managed)
{
    block_delete(managed->manager_ctx);
}

void
probe_versioned_delete(DLManagedTensorVersioned *managed)
{
    block_delete(managed->manager_ctx);
}

static void
managed_delete(block *self)
{
    if (self->is_versioned) {
        self->managed.versioned.deleter(&self->managed.versioned);
    } else {
        self->managed.legacy.deleter(&self->managed.legacy);
    }
}

void
probe_capsule_destroy(PyObject *capsule)
{
    const char *name = PyCapsule_GetName(capsule);
    block *self = PyCapsule_GetContext(capsule);
    self->dropped++;
    if (self->destructor == DESTRUCTOR_EATS) {
        PyErr_Clear();
    }
    int consumed = name == NULL || strncmp(name, "dltensor", 8) != 0;
    if (self->destructor == DESTRUCTOR_NEVER ||
        (consumed && self->destructor != DESTRUCTOR_ALWAYS)) {
        goto finish;
    }
    int has_deleter = self->is_versioned ? self->managed.versioned.deleter != NULL
                                         : self->managed.legacy.deleter != NULL;
    if (!has_deleter && self->destructor != DESTRUCTOR_ALWAYS) {
        goto finish;
    }
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    self->in_destructor = 1;
    managed_delete(self);
    if (self->destructor == DESTRUCTOR_TWICE) {
        managed_delete(self);
    }
    self->in_destructor = 0;
    PyErr_Restore(type, value, traceback);
finish:
    probe_block_release(self);
}
