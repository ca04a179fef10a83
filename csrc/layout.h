/* SPDX-License-Identifier: Apache-2.0
 *
 * What a DLTensor says about memory: element types, sizes, contiguity, copies.
 * No Python.h, no GIL, no allocation; any thread.
 */
#ifndef DLX_LAYOUT_H_
#define DLX_LAYOUT_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "dlexchange/dlpack_abi.h"

/* numpy's limit, and the largest one in the field. */
#define DLX_MAX_NDIM 64

/* Why a description is refused; DLX_FAULT_NONE where it is not. */
typedef enum dlx_fault {
    DLX_FAULT_NONE = 0,
    DLX_FAULT_NDIM,
    DLX_FAULT_SHAPE_NULL,
    DLX_FAULT_SHAPE_NEGATIVE,
    DLX_FAULT_OVERFLOW,
    DLX_FAULT_DTYPE_CODE,
    DLX_FAULT_DTYPE_BITS,
    DLX_FAULT_DTYPE_LANES,
    DLX_FAULT_DEVICE,
    DLX_FAULT_DATA_NULL,
} dlx_fault;

/* One sentence on a fault, for error messages. Static storage. */
const char *dlx_fault_text(dlx_fault fault);

/* Check that `dtype` is one this library can name. Clauses: T15, T16, T19. */
dlx_fault dlx_dtype_check(DLDataType dtype);

/* Check a whole description, also that no size overflows. Reads shape and strides,
 * never the data. Clauses: T02, T31, R10, T15, T11. */
dlx_fault dlx_layout_check(const DLTensor *tensor);

/* Bits one element takes in memory: a padded sub-byte element takes a whole byte. */
static inline size_t
dlx_dtype_stored_bits(DLDataType dtype, bool padded)
{
    size_t bits = (size_t)dtype.bits * dtype.lanes;
    return padded ? (bits + 7) / 8 * 8 : bits;
}

/* Bytes of one element, or 0 where elements are packed below a byte. */
static inline size_t
dlx_dtype_itemsize(DLDataType dtype, bool padded)
{
    size_t bits = dlx_dtype_stored_bits(dtype, padded);
    return bits % 8 == 0 ? bits / 8 : 0;
}

/* Number of elements. The shape must have been checked. */
static inline int64_t
dlx_layout_size(const DLTensor *tensor)
{
    int64_t size = 1;
    for (int32_t i = 0; i < tensor->ndim; i++) {
        size *= tensor->shape[i];
    }
    return size;
}

/* Bytes the values take when stored without gaps. The layout must have been checked:
 * then the bytes can be counted, but the bits may not. */
static inline size_t
dlx_layout_nbytes(const DLTensor *tensor, bool padded)
{
    size_t bits = dlx_dtype_stored_bits(tensor->dtype, padded);
    size_t size = (size_t)dlx_layout_size(tensor);
    return size / 8 * bits + (size % 8 * bits + 7) / 8;
}

/* Address of element zero. Only for devices whose handles are addresses. */
static inline char *
dlx_layout_first(const DLTensor *tensor)
{
    return (char *)tensor->data + tensor->byte_offset;
}

/* True where `data` may be added to: not for cl_mem, VkBuffer, MTLBuffer and the like.
 */
static inline bool
dlx_device_has_addresses(DLDeviceType type)
{
    return type != kDLOpenCL && type != kDLVulkan && type != kDLMetal &&
           type != kDLWebGPU;
}

/* True where the host may read the memory at its address. */
static inline bool
dlx_device_is_host(DLDeviceType type)
{
    return type == kDLCPU || type == kDLCUDAHost || type == kDLROCMHost ||
           type == kDLCUDAManaged;
}

/* Copy extents or strides; `from` may be NULL where there are none. */
static inline void
dlx_dims_copy(int64_t *to, const int64_t *from, int32_t ndim)
{
    for (int32_t i = 0; i < ndim; i++) {
        to[i] = from[i];
    }
}

/* A field at a time, for what has just been written in parts; see hold.h. */
static inline void
dlx_view_copy(DLTensor *to, const DLTensor *from)
{
    to->data = from->data;
    to->device = from->device;
    to->ndim = from->ndim;
    to->dtype = from->dtype;
    to->shape = from->shape;
    to->strides = from->strides;
    to->byte_offset = from->byte_offset;
}

/* Write compact row-major strides (in elements) for `shape`. */
void dlx_layout_compact_strides(int32_t ndim, const int64_t *shape, int64_t *strides);

/* True where the elements lie row-major without gaps; dimensions of size 1 and empty
 * tensors do not count. Clause: T14. */
bool dlx_layout_is_c_contiguous(const DLTensor *tensor);

/* True where some order of the dimensions has no gaps and no negative stride. */
bool dlx_layout_is_dense(const DLTensor *tensor);

/* True where some dimension of more than one element runs backwards. */
bool dlx_layout_has_negative_stride(const DLTensor *tensor);

/* Bytes from the lowest to the highest element, 0 where there are none; *first: where
 * element zero lies in them. */
size_t dlx_layout_span(const DLTensor *tensor, bool padded, size_t *first);

/* Copy the values of host memory, row-major, to `out` (dlx_layout_nbytes bytes). Packed
 * sub-byte elements must be contiguous: false where they are not. */
bool dlx_layout_gather(const DLTensor *tensor, bool padded, void *out);

#endif
