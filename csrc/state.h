/* SPDX-License-Identifier: Apache-2.0
 *
 * What one process of the extension knows: types, interned names, the type cache,
 * freelists, counters. Upper half only; everything here is guarded by the GIL unless
 * it says atomic. One interpreter a process: the module refuses sub-interpreters.
 */
#ifndef DLX_STATE_H_
#define DLX_STATE_H_

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdatomic.h>
#include <stdbool.h>

#include "dlexchange/dlpack_abi.h"
#include "ownership.h"

/* Where a producer's memory is read from; the first field of a type's entry. */
typedef enum dlx_route {
    DLX_ROUTE_UNKNOWN = 0, /* not looked at yet */
    DLX_ROUTE_TENSOR,      /* our own Tensor */
    DLX_ROUTE_NUMPY,       /* the fields of PyArrayObject */
    DLX_ROUTE_TORCH,       /* torch's C exchange API, behind the value guards */
    DLX_ROUTE_EXCHANGE,    /* anybody else's C exchange API */
    DLX_ROUTE_JAX,         /* jaxlib's buffer_to_dlpack_managed_tensor */
    DLX_ROUTE_DLPACK,      /* __dlpack__, versioned or legacy */
    DLX_ROUTE_CAPSULE,     /* a bare PyCapsule */
    DLX_ROUTE_CAI,         /* only __cuda_array_interface__ */
    DLX_ROUTE_PRODUCER,    /* a dlexchange.Producer: its description */
    DLX_ROUTE_PREPARE,     /* a Python adapter turns it into a producer first */
    DLX_ROUTE_REFUSE,      /* an adapter says why not */
    DLX_ROUTE_NONE,        /* nothing that can be exchanged */
} dlx_route;

/* What is known of a producer's type. Valid while the type's version tag stands: the
 * interpreter changes the tag whenever the type or one of its bases changes. */
typedef struct dlx_entry {
    PyTypeObject *type; /* borrowed; compared only together with the tag */
    unsigned int tag;
    dlx_route route;
    bool immutable;           /* the framework's arrays must not be written to */
    bool ignores_stream;      /* a producer known to order nothing */
    bool no_max_version;      /* its __dlpack__ does not know the keyword */
    bool torch_guards;        /* a torch subclass: ask is_conj and is_neg */
    bool minus_one_is_handle; /* a producer that takes stream=-1 for a handle (jax) */
    const DLPackExchangeAPI *api;
    PyObject *dlpack; /* __dlpack__ of the type, borrowed from it, where no instance can
                       * have another; else NULL */
    const char *framework; /* static storage */
    PyObject *prepare; /* NULL, or a callable: makes a producer of x (ROUTE_PREPARE), or
                        * raises where its memory is not its values (other routes) */
    PyObject *allocation_stream; /* NULL, or a callable: the stream that x was allocated
                                  * on, owned by x; an edge needs it */
    PyObject *work_stream; /* NULL, or a callable that tells the stream x is used on */
} dlx_entry;

#define DLX_CACHE_SIZE 256 /* the slot is eight bits of a hash */
#define DLX_FREELIST 64

struct dlx_block;
struct dlx_tensor;

/* Names that calls need; interned once. */
#define DLX_NAMES(X)             \
    X(__dlpack__)                \
    X(__dlpack_device__)         \
    X(__dlpack_c_exchange_api__) \
    X(stream)                    \
    X(max_version)               \
    X(dl_device)                 \
    X(copy)                      \
    X(device)                    \
    X(data_ptr)                  \
    X(ptr)                       \
    X(shape)                     \
    X(dtype)                     \
    X(strides)                   \
    X(readonly)                  \
    X(owner)                     \
    X(allocation_stream)         \
    X(__dlexchange__)            \
    X(_dlexchange_fixed)

typedef struct dlx_names {
#define DLX_NAME(name) PyObject *name;
    DLX_NAMES(DLX_NAME)
#undef DLX_NAME
} dlx_names;

/* Counters behind dlexchange.stats(). */
typedef struct dlx_counts {
    long long copies;
    long long host_waits;
    long long leaked;
    Py_ssize_t tensors; /* live Tensor objects */
    Py_ssize_t blocks;  /* live managed tensors handed out, but for blocks_unlocked */
    _Atomic Py_ssize_t blocks_unlocked; /* blocks that died without the GIL */
    _Atomic long long leaked_unlocked;
} dlx_counts;

typedef struct dlx_state {
    PyTypeObject *tensor_type;
    PyTypeObject *description_type;
    PyTypeObject *producer_type;
    PyTypeObject *stream_type;
    PyTypeObject *event_type;
    PyTypeObject *completion_type;
    PyObject *ExchangeError;
    PyObject *CopyError;
    PyObject *StreamError;
    PyObject *CaptureError;
    PyObject *DriverError;
    PyObject *DeviceLost;
    PyObject *ReadOnlyWarning;
    PyObject *NotATensorError;
    PyObject *make_dtype;    /* dlexchange.device.DType */
    PyObject *make_device;   /* dlexchange.device.Device */
    PyObject *known_dtypes;  /* what DType.of said of a spec */
    PyObject *known_devices; /* what Device.of said of a spec */
    PyObject *adapters;      /* the module dlexchange.adapters */
    PyObject *streams;       /* the module dlexchange.adapters.streams */
    PyObject *exchange_api_capsule;
    const DLPackExchangeAPI *torch_api; /* NULL until torch is first needed */
    PyObject *consumers;                /* what convert() was asked for -> its route */
    PyObject *max_version;              /* (1, 3) */
    PyObject *kw_max_version;
    dlx_names names;

    dlx_entry cache[DLX_CACHE_SIZE];
    dlx_entry displaced[DLX_CACHE_SIZE]; /* by another type of the same slot */

    struct dlx_block *free_blocks;
    int free_blocks_count;
    struct dlx_tensor *free_tensors;
    int free_tensors_count;
    struct dlx_tensor *late_tensors; /* at the end of a long chain; see tensor.c */
    int unwinding;

    dlx_counts counts;
    bool strict;
    bool warned_read_only; /* given once a process */
} dlx_state;

/* The state of this process; NULL before the module is made. Set once, never freed, so
 * that a deleter may look at it at any time. */
extern dlx_state *dlx_the_state;

/* Raise `type` with a formatted message, chaining an exception already set as its
 * cause. Always returns NULL. */
PyObject *dlx_raise(PyObject *type, const char *format, ...);

/* Find or make the entry of `type`. NULL with an error set. GIL: held. */
DLX_KEEP dlx_entry *dlx_entry_resolve(dlx_state *state, PyTypeObject *type);

static inline size_t
dlx_entry_slot(const PyTypeObject *type)
{
    return (size_t)(((uintptr_t)type * UINT64_C(0x9E3779B97F4A7C15)) >> 56);
}

/* The entry of an object's type where it is in the cache, else NULL: one compare. */
static inline dlx_entry *
dlx_entry_if_known(dlx_state *state, PyObject *x)
{
    PyTypeObject *type = Py_TYPE(x);
    dlx_entry *entry = &state->cache[dlx_entry_slot(type)];
    bool known =
        entry->type == type && entry->tag == type->tp_version_tag && entry->tag != 0;
    return known ? entry : NULL;
}

/* The entry of an object's type. NULL with an error set. */
static inline dlx_entry *
dlx_entry_of(dlx_state *state, PyObject *x)
{
    dlx_entry *entry = dlx_entry_if_known(state, x);
    return entry != NULL ? entry : dlx_entry_resolve(state, Py_TYPE(x));
}

#endif
