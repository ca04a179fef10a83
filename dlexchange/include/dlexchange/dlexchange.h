/* SPDX-License-Identifier: Apache-2.0
 *
 * dlexchange.h: DLPack for the author of an array library, in one include.
 *
 * C11 and C++11, gcc or clang; nothing to link but -ldl on old systems. Include it
 * after Python.h and the Python parts are there too; without Python.h the rest needs no
 * Python at all. The Python package dlexchange need not be installed where the library
 * runs.
 *
 * THE FILES, all included from here
 *
 *   dlexchange.h         this: what every C function does, and the rules
 *   dlexchange_python.h  the functions for Python extensions; read it next
 *   dlexchange_cxx.h     dlx::imported and dlx::exported, for C++
 *   dlpack_abi.h         the structs of DLPack 1.3; skipped where dlpack.h came first,
 *                        as dlpack.h is where this came first
 *   dlexchange_pool.h    what is shared with the Python package, and how it is found
 *   impl_*.h             the functions themselves; nothing there is for authors
 *
 * A PRODUCER IN PYTHON: one method, for host memory
 *
 *     static PyObject *
 *     image_dlpack(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
 *                  PyObject *kwnames)
 *     {
 *         image *im = (image *)self;
 *         DLTensor view = {im->pixels, {kDLCPU, 0}, 2, {kDLUInt, 8, 1},
 *                          im->shape, im->strides, 0};
 *         return dlx_py_dlpack(args, nargs, kwnames, &view, 0, self, NULL, 0);
 *     }
 *
 *   and the same for memory on a device, with work pending on two streams:
 *
 *     static PyObject *
 *     frame_dlpack(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
 *                  PyObject *kwnames)
 *     {
 *         image *im = (image *)self;
 *         uintptr_t pending[2] = {(uintptr_t)im->decoder, (uintptr_t)im->scaler};
 *         DLTensor view = {im->pixels, {kDLCUDA, im->ordinal}, 2, {kDLUInt, 8, 1},
 *                          im->shape, im->strides, 0};
 *         return dlx_py_dlpack(args, nargs, kwnames, &view, 0, self, pending, 2);
 *     }
 *
 *   with, in the method table of the type:
 *
 *     {"__dlpack__", (PyCFunction)(void (*)(void))image_dlpack,
 *      METH_FASTCALL | METH_KEYWORDS, NULL}
 *
 *   __dlpack_device__ returns dlx_py_dlpack_device(view.device). The class now takes
 *   every keyword of the standard, negotiates the version, keeps read-only memory
 *   read-only, orders the consumer's stream after both of its own, copies to the host
 *   when asked, and refuses the rest with the exceptions that consumers expect.
 *
 * A CONSUMER IN PYTHON: read anybody's array, to use it on a stream of ours
 *
 *     static int
 *     image_read(image *im, PyObject *x)
 *     {
 *         if (dlx_py_import(x, (uintptr_t)im->decoder, &im->import) < 0) {
 *             return -1;
 *         }
 *         im->pixels = im->import.tensor.data;
 *         return 0;
 *     }
 *
 *   and in the destructor, after the work on the memory is done (or was pushed into the
 *   stream that the producer's allocator keeps to):
 *
 *     dlx_release(&im->import);
 *
 * WITHOUT PYTHON: hand memory from one C library to another
 *
 *     static int
 *     hand_over(float *values, int64_t n,
 *               void (*use)(struct DLManagedTensorVersioned *))
 *     {
 *         DLTensor view = {values, {kDLCPU, 0}, 1, {kDLFloat, 32, 1}, &n, NULL, 0};
 *         struct DLManagedTensorVersioned *managed;
 *         int error = dlx_export(&view, 0, values, free, &managed);
 *         if (error == DLX_OK) {
 *             use(managed);
 *         }
 *         return error;
 *     }
 *
 *   Here the owner is the memory itself, and its drop is free(). `use` now owns the
 *   managed tensor; it calls managed->deleter(managed) once, when it likes.
 *
 * WORDS
 *
 *   A *managed tensor* describes memory and has a *deleter*. Whoever holds the managed
 *   tensor calls the deleter exactly once; until then shape, strides and memory stand.
 *   A *producer* makes managed tensors, a *consumer* takes them. A *push* makes later
 *   work of one stream wait for the work now on another; the host does not wait.
 *   *Pending* work has been queued on a stream and may not have run yet.
 *
 * WHO OWNS WHAT
 *
 *   Every comment says it under "Owns:". The one rule behind them: on failure nothing
 *   has been taken, and nothing is leaked. What a call has taken on success belongs to
 *   exactly one holder at each moment: the author's object, then the managed tensor,
 *   then the capsule, then the consumer. Shape and strides are always copied; the
 *   memory never is, unless a copy was asked for.
 *
 * ON WHICH STREAM
 *
 *   Every comment says it under "Orders:". A producer names the streams with pending
 *   work; the consumer names the stream it will use; the header puts an event between
 *   them. In the other direction DLPack has no word: when the consumer lets go, its
 *   last work may still run. A consumer that uses this header pushes its stream into
 *   the producer's before dlx_release(), where it knows that stream, and waits on the
 *   host where it does not. A producer whose allocator reuses memory at once should
 *   keep it a while, or be used through the Python package, which orders both ways.
 *   A stream that captures a CUDA graph is never joined to one that does not; see
 *   dlx_push().
 *
 * THREADS AND THE GIL
 *
 *   Nothing here keeps state, but for one pointer that dlx_py_share_pool() sets. Every
 *   function may be called from any thread at any time, as long as no two calls work on
 *   the same struct. The dlx_py_ functions need the GIL, and release it around driver
 *   calls; the others do not need it, and those that drive or block should be called
 *   without it. Deleters made here may run on any thread, with or without the GIL, and
 *   do nothing after the interpreter has ended. Fork: a child must not touch device
 *   memory or streams of its parent; drivers do not survive it.
 *
 * WITH THE PYTHON PACKAGE, AND WITHOUT
 *
 *   Everything works without. With it, dlx_py_share_pool() lets all libraries of a
 *   process take events from one pool, so that a push creates nothing. The package's
 *   dx.to_torch(), dx.convert() and their like read classes made here as they read any
 *   producer, and order the release as well.
 *
 * WHAT IT DOES NOT DO
 *
 *   SYCL queues (describe the memory, synchronise yourself), sub-byte elements, more
 *   than one lane, copies on a device, and memory of two drivers at once.
 */
#ifndef DLEXCHANGE_DLEXCHANGE_H_
#define DLEXCHANGE_DLEXCHANGE_H_

#include "dlpack_abi.h"

#if !defined(DLPACK_MAJOR_VERSION) || DLPACK_MAJOR_VERSION != 1
#error \
    "dlexchange.h needs DLPack 1.x: the dlpack.h included before it is another version"
#endif

#include <dlfcn.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "dlexchange_pool.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ==== Errors ========================================================================
 *
 * Functions return DLX_OK (0) or one of these; dlx_error_text() names the field that is
 * wrong and says what to do. The functions whose names begin with dlx_py_ set a Python
 * exception with the same text instead (dlx_py_raise).
 */

enum {
    DLX_OK = 0,
    DLX_BAD_SHAPE = -1,   /* ndim, an extent or the size of it all is impossible */
    DLX_BAD_DTYPE = -2,   /* no element type of DLPack 1.3, or lanes other than 1 */
    DLX_BAD_DATA = -3,    /* data is NULL although there are elements */
    DLX_BAD_DEVICE = -4,  /* no streams that this header drives on that device */
    DLX_BAD_STREAM = -5,  /* CUDA's ambiguous 0, or a handle the driver does not know */
    DLX_BAD_VERSION = -6, /* a managed tensor of another major version */
    DLX_NO_MEMORY = -7,
    DLX_NO_DRIVER = -8, /* no driver library, or one that lacks a function */
    DLX_CAPTURE = -9, /* a push between a stream that captures and one that does not */
    DLX_DRIVER = -10, /* a driver call failed */
};

/* One sentence on an error: what was wrong, and what to do. For any number; static
 * storage, never NULL. GIL: any. */
static inline const char *dlx_error_text(int error);

/* ==== Descriptions ==================================================================
 *
 * A description is a plain DLTensor that the author fills in, mostly on the stack:
 *
 *   data         the allocation, or element zero; NULL only where there are no
 *                elements
 *   byte_offset  added to data. Most consumers handle it, some forgot: prefer 0, and
 *                put the offset into data
 *   device       {kDLCPU, 0} for host memory. device_id is the driver's ordinal, and 0
 *                for pinned and managed memory
 *   dtype        code, bits and lanes: {kDLFloat, 32, 1}. A bool has 8 bits; a complex
 *                number counts both parts
 *   shape        ndim extents. Borrowed for the call: an export copies them
 *   strides      ndim steps in *elements*, not bytes; NULL for row-major memory. They
 *                may be negative, or 0 (a broadcast: then pass the flag
 *                DLPACK_FLAG_BITMASK_READ_ONLY)
 */

/* Count the elements of a tensor.
 *
 * Returns their number, 0 where an extent is 0, 1 for ndim 0; -1 where ndim is not 0 to
 * 64, an extent is negative, or the number of bits would not fit 64 bits. Reads ndim
 * and shape only. GIL: any. */
static inline int64_t dlx_size(const DLTensor *tensor);

/* Check a description, as far as that goes without reading the memory.
 *
 * dlx_export() and dlx_import() do so themselves; call it where the author wants to
 * know earlier. What is refused, and the field that dlx_error_text() names:
 *
 *   DLX_BAD_SHAPE  ndim, an extent, or sizes and strides that overflow 64 bits
 *   DLX_BAD_DTYPE  a code that DLPack 1.3 does not have, bits that the code does not
 *                  come in, lanes other than 1; also elements below a byte, whose
 *                  flags must say whether they are padded: describe those by hand
 *   DLX_BAD_DATA   NULL although there are elements
 *
 * The device is not checked: memory of any device may be described. GIL: any. */
static inline int dlx_check(const DLTensor *tensor);

/* ==== Export ========================================================================
 *
 * An export is a managed tensor that somebody else will delete, at a time and on a
 * thread that nobody knows. So it owns what it needs: copies of shape and strides, and
 * a reference (`owner`) to whatever keeps the memory alive. The author says how that is
 * given back (`drop`), and must make sure that the memory neither moves nor goes while
 * an export lives: a resize must be refused, or must allocate anew.
 *
 * An export orders nothing. Where work is pending on the memory, push the streams it
 * runs on into the consumer's (dlx_push) before the export is handed over; for Python,
 * dlx_py_dlpack() does both.
 */

/* What becomes of the owner when an export ends.
 *
 * Runs exactly once, on any thread, with or without the GIL, perhaps inside a driver's
 * callback or after the interpreter has ended: it must not block, make driver calls,
 * throw or raise. Dropping a count is fine; dlx_py_drop does it for Python objects. */
typedef void (*dlx_drop)(void *owner);

/* Make a versioned managed tensor of `view`.
 *
 *   view    checked (dlx_check) and copied, with its shape and strides
 *   flags   DLPACK_FLAG_BITMASK_READ_ONLY where consumers must not write, else 0
 *   owner   what keeps the memory alive; given back by drop(owner), once
 *   drop    NULL where there is nothing to give back
 *   out     the managed tensor
 *
 * Owns: on success *out belongs to the caller, who hands it to one consumer, or calls
 * (*out)->deleter(*out); `owner` belongs to *out. On failure *out is not written, and
 * `owner` is still the caller's.
 * Orders: nothing. Blocks: never. GIL: any. Errors: those of dlx_check, DLX_NO_MEMORY.
 */
static inline int dlx_export(const DLTensor *view, uint64_t flags, void *owner,
                             dlx_drop drop, struct DLManagedTensorVersioned **out);

/* Make an unversioned ("legacy") managed tensor of `view`, for consumers from before
 * DLPack 1.0. It has no flags: never make one of read-only memory, whose consumer would
 * write to it.
 *
 * Owns, orders, blocks, GIL, errors: as dlx_export(). */
static inline int dlx_export_legacy(const DLTensor *view, void *owner, dlx_drop drop,
                                    DLManagedTensor **out);

/* Copy the values of host memory to `out`, row-major.
 *
 *   tensor  checked, in memory that the host can read, with nothing pending on it
 *   out     room for dlx_size(tensor) elements
 *
 * Owns: nothing. Orders: nothing. Blocks: while it copies. GIL: any; release it where
 * the tensor is large. */
static inline void dlx_gather(const DLTensor *tensor, void *out);

/* ==== Import ========================================================================
 *
 * An import holds somebody else's managed tensor until it is released. Look at .tensor
 * and .flags; do not write where DLPACK_FLAG_BITMASK_READ_ONLY is set; do not touch the
 * memory after dlx_release(), also not with work that is still queued on a device.
 */

/* Memory of somebody else's that we hold. Zero it to have an empty one; release it
 * once, however often it was copied. */
typedef struct dlx_imported {
    DLTensor tensor; /* shape and strides are the producer's, and stand until release;
                        strides may be NULL only in what is older than DLPack 1.2
                        (row-major then); data + byte_offset is element zero */
    uint64_t flags;  /* of the versioned form; 0 for the legacy one */
    struct DLManagedTensorVersioned
        *versioned; /* one of these two, or neither: private */
    DLManagedTensor *legacy;
} dlx_imported;

/* Take a managed tensor, and check what it says.
 *
 * Owns: on success `managed` belongs to *out: dlx_release() it. On failure it is still
 * the caller's, who calls its deleter (which may be NULL); after DLX_BAD_VERSION
 * nothing but its version and deleter may be touched. *out need not be initialised, and
 * is not written on failure.
 * Orders: nothing; whoever asked the producer for it named a stream. GIL: any.
 * Errors: DLX_BAD_VERSION, and those of dlx_check.
 */
static inline int dlx_import(struct DLManagedTensorVersioned *managed,
                             dlx_imported *out);

/* The same for the unversioned form; `flags` is 0, so that whether the memory may be
 * written to is not known. */
static inline int dlx_import_legacy(DLManagedTensor *managed, dlx_imported *out);

/* Give the memory back, now: the producer's deleter runs in this call.
 *
 * A DLPack deleter knows no streams. Where a device may still use the memory, either
 * wait for that, or make the stream that the producer's allocator keeps to wait for it
 * (dlx_push from the stream that used the memory) before this call; a producer that is
 * not known leaves only the first.
 *
 * Owns: *self is empty afterwards; releasing an empty one does nothing.
 * Orders: nothing. Blocks: as the producer's deleter does. GIL: any; the deleter of a
 * Python producer takes it where it needs it.
 */
static inline void dlx_release(dlx_imported *self);

/* ==== Streams =======================================================================
 *
 * A stream is the driver's handle as an integer, beside the device it belongs to:
 *
 *   CUDA   1 the legacy default stream; 2 the per-thread default stream *of the
 *          thread that makes the call*; else a CUstream or cudaStream_t. 0 is refused:
 *          it could mean 1 or 2
 *   ROCm   0 the default stream; else a hipStream_t
 *
 * Handles are used during the call and not kept. A stream that was destroyed is the
 * caller's mistake; drivers do not always notice.
 *
 * Events: with the Python package installed and dlx_py_share_pool() called, pushes take
 * their events from the package's pool, and the pool's context and capture rules hold.
 * Without it, an event is made and destroyed in the call: a few microseconds more, and
 * nothing else is different.
 */

/* The device whose streams work on memory of `device`: the device itself, device 0 of
 * the driver for its pinned and managed memory, and device_type 0 (no device) for
 * memory that no stream driven here can have work on. GIL: any. */
static inline DLDevice dlx_streams_of(DLDevice device);

/* True (1) where the host can read the memory by its address. GIL: any. */
static inline int dlx_is_host(DLDevice device);

/* Make later work of `to` wait for all work that is now on `from`.
 *
 *   device    whose streams both are: kDLCUDA or kDLROCM with its ordinal
 *   from, to  where the work was queued, and where it will be used
 *
 * One and the same stream: nothing, no driver call. Otherwise at most two questions
 * about captures, one record, one wait. Work queued on `from` after the call is not
 * waited for.
 *
 * Captures (CUDA graphs): two streams of one capture may be pushed, and the edge
 * becomes part of the graph. Where only one of them captures, or each another graph,
 * the answer is DLX_CAPTURE, before anything was recorded: a wrong wait would spoil the
 * capture.
 *
 * Owns: nothing. Orders: `to` after `from`. Blocks: never the host. GIL: not needed;
 * release it, drivers take locks.
 * Errors: DLX_BAD_DEVICE, DLX_BAD_STREAM, DLX_CAPTURE, DLX_NO_DRIVER, DLX_DRIVER;
 * nothing has been ordered then.
 */
static inline int dlx_push(DLDevice device, uintptr_t from, uintptr_t to);

/* Wait on the host until the pending work on memory of `device` is done: what is owed
 * to a consumer who reads pinned or managed memory and names no stream.
 *
 * Orders: the calling thread after `pending`, n streams of dlx_streams_of(device).
 * Blocks: the host. GIL: not needed; release it. Errors: those of dlx_push. */
static inline int dlx_wait(DLDevice device, const uintptr_t *pending, size_t n);

/* Copy the values of memory on any device with streams, or of the host, to `out`,
 * row-major.
 *
 *   view     what is copied; checked
 *   pending  n streams of dlx_streams_of(view->device) with work on it: waited for
 *   out      host memory with room for dlx_size(view) elements
 *
 * The bytes between the lowest and the highest element come over in one copy on a
 * stream of its own, also those that lie between the elements of a strided view.
 *
 * Owns: nothing; `out` is the caller's. Orders: the copy after `pending`. Blocks: the
 * host, until the values are there. GIL: not needed; release it.
 * Errors: those of dlx_check and dlx_push, DLX_NO_MEMORY; `out` is undefined then. */
static inline int dlx_copy_to_host(const DLTensor *view, const uintptr_t *pending,
                                   size_t n, void *out);

/* ==== The rest ======================================================================
 */

#ifdef Py_PYTHON_H
#include "dlexchange_python.h"
#endif

#include "impl_tensor.h"

#include "impl_stream.h"

#ifdef Py_PYTHON_H
#include "impl_python.h"

#include "impl_python_import.h"
#endif

#ifdef __cplusplus
} /* extern "C" */

#include "dlexchange_cxx.h"
#endif

#endif /* DLEXCHANGE_DLEXCHANGE_H_ */
