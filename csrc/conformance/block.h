/* SPDX-License-Identifier: Apache-2.0
 *
 * The block behind a Fake: the managed tensor itself, its deleter and the destructor of
 * its capsules, in every way right and wrong. Private to _probe.
 */
#ifndef DLX_CONFORMANCE_BLOCK_H_
#define DLX_CONFORMANCE_BLOCK_H_

#include <stdatomic.h>

#include "probe.h"

typedef enum {
    DELETER_RIGHT,
    DELETER_NULL,
    DELETER_LEAKY,       /* counts, and releases nothing */
    DELETER_RAISES,      /* leaves an exception set */
    DELETER_NEEDS_GIL,   /* touches Python without attaching */
    DELETER_REFUSES_GIL, /* aborts when called with the GIL, but for its capsule */
    DELETER_NEEDS_INTERPRETER, /* attaches without asking whether there is one */
} deleter_kind;

typedef enum {
    DESTRUCTOR_RIGHT,
    DESTRUCTOR_NEVER,  /* leaks what was not consumed */
    DESTRUCTOR_ALWAYS, /* looks at no name */
    DESTRUCTOR_TWICE,
    DESTRUCTOR_EATS, /* clears the exception in flight */
    DESTRUCTOR_NONE, /* the capsule has no destructor */
} destructor_kind;

typedef union {
    DLManagedTensor legacy;
    DLManagedTensorVersioned versioned;
} any_managed;

typedef struct {
    int is_versioned;
    any_managed managed;     /* not first: free() of it aborts at once */
    any_managed at_deletion; /* what it was when the deleter returned */
    atomic_int holders; /* the Python object, capsules, the deleter still to come */
    atomic_int deleted;
    atomic_int with_gil;
    int in_destructor;
    int dropped;
    deleter_kind deleter;
    destructor_kind destructor;
    PyObject *owner; /* let go by the deleter */
    int64_t *shape;
    int64_t *strides;
} block;

/* Frees what dims in fake.c allocated. */
void probe_dims_free(int64_t *dims);

/* Lets one holder go. Any thread, no GIL. */
void probe_block_release(block *self);

/* The deleters, and the destructor of the capsules. */
void probe_legacy_delete(DLManagedTensor *managed);
void probe_versioned_delete(DLManagedTensorVersioned *managed);
void probe_capsule_destroy(PyObject *capsule);

#endif /* DLX_CONFORMANCE_BLOCK_H_ */
