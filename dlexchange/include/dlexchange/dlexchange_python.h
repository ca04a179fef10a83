/* SPDX-License-Identifier: Apache-2.0
 *
 * dlexchange_python.h: the part of dlexchange.h that makes a Python class a producer
 * and reads any other. Included by it where Python.h came first; do not include it by
 * itself.
 *
 * GIL: held by every caller, unless a comment says otherwise. Errors: NULL or -1 with a
 * Python exception set, and nothing taken. Memory that cannot be exchanged is a
 * BufferError, a wrong argument a TypeError, a driver that fails a RuntimeError.
 */
#ifndef DLEXCHANGE_DLEXCHANGE_PYTHON_H_
#define DLEXCHANGE_DLEXCHANGE_PYTHON_H_

/* Set the exception that belongs to an error number of the other parts: MemoryError,
 * RuntimeError for a driver's failure, else BufferError with dlx_error_text(). Always
 * returns NULL, to be returned. */
static inline PyObject *dlx_py_raise(int error);

/* Share the event pool of the Python package, where it is installed.
 *
 * Call it once, in the module's init function, where pushes are frequent: it imports
 * dlexchange. From then on every dlx_push() of this shared library takes its event from
 * the pool instead of making one. Without the package, or with one of another version,
 * nothing changes, and nothing is raised.
 *
 * Returns 1 where the pool is shared, else 0. Owns: nothing; the table is static. */
static inline int dlx_py_share_pool(void);

/* A dlx_drop for Python objects.
 *
 * Takes the GIL, from whatever thread, and keeps an exception that is on its way there.
 * After the interpreter has begun to end the object is left alone, for good: its type
 * may be gone. GIL: any. Blocks: until the GIL is free; a consumer that calls deleters
 * inside a driver's callback must not hold there what the GIL's holder waits for. */
static inline void dlx_py_drop(void *owner);

/* ---- Capsules ----------------------------------------------------------------------
 *
 * A capsule named "dltensor_versioned" or "dltensor" owns its managed tensor until a
 * consumer renames it ("used_..."): then the tensor is the consumer's. One that dies
 * under its first name deletes the tensor itself.
 */

/* Export `view` in a capsule, for authors who write __dlpack__ themselves.
 *
 * versioned: the consumer passed max_version=(1, 0) or higher. Never 0 for read-only
 * memory.
 * Owns: returns a new capsule, which keeps a reference of its own to `owner` until the
 * export is deleted; the caller's reference stays the caller's. Orders: nothing. */
static inline PyObject *dlx_py_capsule(const DLTensor *view, uint64_t flags,
                                       PyObject *owner, int versioned);

/* ---- __dlpack__ --------------------------------------------------------------------
 *
 * The array API standard gives the method four keywords. What the functions below make
 * of them:
 *
 *   stream       None: on a device, its default stream (CUDA: legacy); pinned and
 *                managed memory is waited for by the host, which may read it at once.
 *                -1: nothing is ordered, the consumer vouches for it. Else an integer:
 *                that stream waits for the pending ones. Host memory takes None alone
 *   max_version  None or (0, x): an unversioned capsule, which read-only memory
 *                refuses. (1, 0) and higher: a versioned one
 *   dl_device    None or the memory's own device: as it is. (1, 0), the host, from a
 *                device: a copy, complete when the call returns; `stream` is not used.
 *                Any other: BufferError
 *   copy         None: as needed. False: BufferError where a copy would be. True: host
 *                memory is copied; device memory is refused, because the consumer has
 *                an allocator for it and this producer may not. dl_device=(1, 0) copies
 *
 * Anything else of the wrong type is a TypeError.
 */

/* The whole of __dlpack__, for a method with METH_FASTCALL | METH_KEYWORDS.
 *
 *   args, nargs, kwnames  as the interpreter passed them
 *   view     the memory as it is now
 *   flags    DLPACK_FLAG_BITMASK_READ_ONLY or 0
 *   owner    kept until the consumer is done; mostly self
 *   pending  n streams of dlx_streams_of(view->device) with work on the memory: every
 *            one, also those that only read it, because the consumer may write
 *
 * Owns: returns a new capsule with a reference of its own to `owner`.
 * Orders: the consumer's stream after every pending one, within the call; as a plain
 * producer it does not touch that stream afterwards.
 * Blocks: the host only for dl_device=(1, 0), and for pinned or managed memory without
 * a stream. GIL: held; released around driver calls. */
static inline PyObject *dlx_py_dlpack(PyObject *const *args, Py_ssize_t nargs,
                                      PyObject *kwnames, const DLTensor *view,
                                      uint64_t flags, PyObject *owner,
                                      const uintptr_t *pending, size_t n);

/* The same for binding tools that hand keywords over in a dict (nanobind, pybind11), or
 * NULL where there were none. The dict is only read. */
static inline PyObject *dlx_py_dlpack_dict(PyObject *kwargs, const DLTensor *view,
                                           uint64_t flags, PyObject *owner,
                                           const uintptr_t *pending, size_t n);

/* The whole of __dlpack_device__: a new tuple (device_type, device_id). It must say
 * what an export without dl_device will say. */
static inline PyObject *dlx_py_dlpack_device(DLDevice device);

/* ---- from_dlpack -------------------------------------------------------------------
 */

/* Claim a capsule that was given to us: it is renamed, and *out holds its tensor, in
 * one step between which nothing can fail.
 *
 * For authors who have called __dlpack__ themselves; dlx_py_import() does that too.
 * Owns: on success *out; dlx_release() it. The capsule stays the caller's, empty. On
 * failure the capsule is as it was (BufferError: no DLPack capsule, or consumed), or
 * its tensor could not be read and its deleter has run.
 * Orders: nothing.
 */
static inline int dlx_py_claim(PyObject *capsule, dlx_imported *out);

/* Take the memory of any producer, ordered for use on `stream`.
 *
 *   x       an object with __dlpack__ and __dlpack_device__
 *   stream  where memory of a device, managed memory too, will be used (CUDA: 1, 2 or
 *           a handle; ROCm: 0 or a handle); not looked at for host memory
 *   out     what was taken
 *
 * A producer that does not know max_version is asked again without it, and only then:
 * an older NumPy or CuPy. copy and dl_device are not asked for.
 *
 * Owns: on success *out; dlx_release() it after use. On failure *out is not written.
 * Orders: `stream` after the producer's work, by the producer. Blocks: as the producer
 * does. Errors: whatever the producer raises, and those of dlx_py_claim(). */
static inline int dlx_py_import(PyObject *x, uintptr_t stream, dlx_imported *out);

/* ---- The C exchange API ------------------------------------------------------------
 *
 * A table of C functions on the *type*, found once a type by consumers that exchange
 * without capsules. None of its functions orders streams: the consumer asks for
 * work_stream, and orders that. So a type whose arrays carry streams of their own must
 * refuse to export one with pending work (BufferError): the consumer then uses
 * __dlpack__, which can order.
 *
 * DLPack 1.3 has the table; with an older dlpack.h included first, this part is absent.
 */

#if DLPACK_MINOR_VERSION >= 3

/* A managed_tensor_allocator for libraries without one of their own: host memory, and
 * an error through set_error() for any other.
 *
 * Owns: *out is the caller's, who calls its deleter. GIL: not needed. */
static inline int dlx_allocate_host(
    DLTensor *prototype, struct DLManagedTensorVersioned **out, void *error_ctx,
    void (*set_error)(void *error_ctx, const char *kind, const char *message));

/* A current_work_stream for libraries whose exports never have work pending. */
static inline int dlx_no_work_stream(DLDeviceType device_type, int32_t device_id,
                                     void **out);

/* The from_object of most libraries, once it has looked at the type and the streams:
 * export `view`, kept alive by `owner`.
 *
 * Owns: *out is the caller's (a consumer's, mostly), and holds a reference of its own
 * to `owner`. Orders: nothing. 0, or -1 with an exception set. */
static inline int dlx_py_managed(const DLTensor *view, uint64_t flags, PyObject *owner,
                                 struct DLManagedTensorVersioned **out);

/* Fill in `table`, and put it on the type as __dlpack_c_exchange_api__.
 *
 *   table        static storage: consumers keep its address until the process ends
 *   from_object  makes a managed tensor of an object of the type, and raises for any
 *                other. It may not order, copy or wait
 *   to_object    makes an object of a managed tensor. It takes the tensor only on
 *                success, and orders nothing
 *   work_stream  the library's current stream in the calling thread; NULL here where
 *                exports never have work pending: host memory, or refused as said above
 *
 * The allocator is dlx_allocate_host; set table->managed_tensor_allocator afterwards to
 * have another. dltensor_from_py_object_no_sync is left out (NULL): it lends shape and
 * strides that nobody keeps.
 * Owns: nothing of the caller's. 0, or -1 with an exception set. */
static inline int dlx_py_add_exchange_api(
    PyTypeObject *type, DLPackExchangeAPI *table,
    DLPackManagedTensorFromPyObjectNoSync from_object,
    DLPackManagedTensorToPyObjectNoSync to_object, DLPackCurrentWorkStream work_stream);

#endif

#endif /* DLEXCHANGE_DLEXCHANGE_PYTHON_H_ */
