/* SPDX-License-Identifier: Apache-2.0
 *
 * Implementation of layout.h. No Python.h, no GIL, any thread.
 */
#include "layout.h"

#include "driver.h"

#include <string.h>

const char *
dlx_fault_text(dlx_fault fault)
{
    switch (fault) {
        case DLX_FAULT_NONE:
            return "nothing is wrong";
        case DLX_FAULT_NDIM:
            return "ndim must be between 0 and 64: reshape it to fewer dimensions";
        case DLX_FAULT_SHAPE_NULL:
            return "shape is NULL although ndim is not 0: a fault of the producer";
        case DLX_FAULT_SHAPE_NEGATIVE:
            return "shape has a negative extent: a fault of the producer";
        case DLX_FAULT_OVERFLOW:
            return "shape and strides describe more bytes than an address can count: a fault "
                   "of the producer, or a view of overlapping elements to be made smaller";
        case DLX_FAULT_DTYPE_CODE:
            return "dtype.code is not one that DLPack 1.3 defines for exchangeable values: "
                   "convert it to another dtype first";
        case DLX_FAULT_DTYPE_BITS:
            return "dtype.bits does not fit dtype.code: convert it to another dtype first";
        case DLX_FAULT_DTYPE_LANES:
            return "dtype.lanes must be 1 (2 for packed float4): show the lanes as one more "
                   "dimension";
        case DLX_FAULT_DEVICE:
            return "device_type or device_id is not one that DLPack 1.3 defines: copy it to "
                   "another device first";
        case DLX_FAULT_DATA_NULL:
            return "data is NULL although the tensor has elements: a fault of the producer, or "
                   "memory that has been freed";
    }
    return "unknown fault";
}

/* Sets of widths: a bit for each power of two, and one for 6. */
#define WIDTH(bits) (1U << __builtin_ctz(bits))
#define WIDTH_6 (1U << 31)
#define WIDTHS_INT \
    (WIDTH(1) | WIDTH(2) | WIDTH(4) | WIDTH(8) | WIDTH(16) | WIDTH(32) | WIDTH(64))

static const uint32_t widths[] = {
    [kDLInt] = WIDTHS_INT,
    [kDLUInt] = WIDTHS_INT,
    [kDLFloat] = WIDTH(16) | WIDTH(32) | WIDTH(64),
    [kDLOpaqueHandle] = 0,
    [kDLBfloat] = WIDTH(16),
    [kDLComplex] = WIDTH(32) | WIDTH(64) | WIDTH(128),
    [kDLBool] = WIDTH(8),
    [kDLFloat8_e3m4] = WIDTH(8),
    [kDLFloat8_e4m3] = WIDTH(8),
    [kDLFloat8_e4m3b11fnuz] = WIDTH(8),
    [kDLFloat8_e4m3fn] = WIDTH(8),
    [kDLFloat8_e4m3fnuz] = WIDTH(8),
    [kDLFloat8_e5m2] = WIDTH(8),
    [kDLFloat8_e5m2fnuz] = WIDTH(8),
    [kDLFloat8_e8m0fnu] = WIDTH(8),
    [kDLFloat6_e2m3fn] = WIDTH_6,
    [kDLFloat6_e3m2fn] = WIDTH_6,
    [kDLFloat4_e2m1fn] = WIDTH(4),
};

static uint32_t
width_of(uint8_t bits)
{
    bool is_power_of_two = bits != 0 && (bits & (bits - 1)) == 0;
    return is_power_of_two ? WIDTH(bits) : bits == 6 ? WIDTH_6 : 0;
}

dlx_fault
dlx_dtype_check(DLDataType dtype)
{
    if (dtype.code >= sizeof widths / sizeof *widths || dtype.code == kDLOpaqueHandle) {
        return DLX_FAULT_DTYPE_CODE;
    }
    if ((widths[dtype.code] & width_of(dtype.bits)) == 0) {
        return DLX_FAULT_DTYPE_BITS;
    }
    if (dtype.lanes != 1 && !(dtype.lanes == 2 && dtype.code == kDLFloat4_e2m1fn)) {
        return DLX_FAULT_DTYPE_LANES;
    }
    return DLX_FAULT_NONE;
}

/* A bit for each device type that DLPack defines; kDLExtDev has no fixed meaning, but
 * where a backend gives it one. */
#define DEVICES (((1U << (kDLTrn + 1)) - 2) & ~(1U << 5 | 1U << 6 | 1U << kDLExtDev))

static dlx_fault
device_check(DLDevice device)
{
    uint32_t type = (uint32_t)device.device_type;
    bool known = (type <= kDLTrn && (DEVICES >> type & 1) != 0) ||
                 dlx_backend_is_installed((int32_t)type);
    return known && device.device_id >= 0 ? DLX_FAULT_NONE : DLX_FAULT_DEVICE;
}

/* True for what most tensors are: memory, few dimensions, small extents and steps. Four
 * factors of 14 bits and the largest element fit an int64_t; a negative one is not
 * small.
 */
static bool
is_small(const DLTensor *tensor)
{
    const int64_t *strides = tensor->strides;
    int64_t all = 0;
    if (tensor->ndim > 4 || tensor->data == NULL) {
        return false;
    }
    for (int32_t i = 0; i < tensor->ndim; i++) {
        all |= tensor->shape[i] | (strides != NULL ? strides[i] : 0);
    }
    return (uint64_t)all >> 14 == 0;
}

/* The farthest element from element zero, in either direction, must be countable. One
 * pass: elements and reach grow together. */
static dlx_fault
extent_check(const DLTensor *tensor)
{
    const int64_t *shape = tensor->shape, *strides = tensor->strides;
    int64_t size = (tensor->dtype.bits * tensor->dtype.lanes + 7) / 8;
    int64_t reach = 0, itemsize = size, step;
    bool empty = false, overflow = false, far = false;
    for (int32_t i = 0; i < tensor->ndim; i++) {
        int64_t extent = shape[i];
        if (extent < 0) {
            return DLX_FAULT_SHAPE_NEGATIVE;
        }
        if (extent == 0) {
            empty = true;
            continue;
        }
        overflow |= __builtin_mul_overflow(size, extent, &size);
        if (strides != NULL && extent > 1) {
            int64_t stride = strides[i];
            far |= stride == INT64_MIN;
            stride = stride < 0 ? -(stride + (stride == INT64_MIN)) : stride;
            far |= __builtin_mul_overflow(extent - 1, stride, &step) ||
                   __builtin_mul_overflow(step, itemsize, &step) ||
                   __builtin_add_overflow(reach, step, &reach);
        }
    }
    if (overflow || (far && !empty)) {
        return DLX_FAULT_OVERFLOW;
    }
    return tensor->data == NULL && !empty ? DLX_FAULT_DATA_NULL : DLX_FAULT_NONE;
}

dlx_fault
dlx_layout_check(const DLTensor *tensor)
{
    dlx_fault fault = dlx_dtype_check(tensor->dtype);
    if (fault == DLX_FAULT_NONE) {
        fault = device_check(tensor->device);
    }
    if (fault != DLX_FAULT_NONE) {
        return fault;
    }
    if (tensor->ndim < 0 || tensor->ndim > DLX_MAX_NDIM) {
        return DLX_FAULT_NDIM;
    }
    if (tensor->ndim > 0 && tensor->shape == NULL) {
        return DLX_FAULT_SHAPE_NULL;
    }
    return is_small(tensor) ? DLX_FAULT_NONE : extent_check(tensor);
}

void
dlx_layout_compact_strides(int32_t ndim, const int64_t *shape, int64_t *strides)
{
    int64_t stride = 1;
    for (int32_t i = ndim - 1; i >= 0; i--) {
        strides[i] = stride;
        stride *= shape[i] > 0 ? shape[i] : 1;
    }
}

bool
dlx_layout_is_c_contiguous(const DLTensor *tensor)
{
    if (tensor->strides == NULL) {
        return true;
    }
    int64_t expected = 1;
    bool contiguous = true;
    for (int32_t i = tensor->ndim - 1; i >= 0; i--) {
        int64_t extent = tensor->shape[i];
        if (extent == 0) {
            return true;
        }
        if (extent != 1) {
            contiguous = contiguous && tensor->strides[i] == expected;
            expected *= extent;
        }
    }
    return contiguous;
}

bool
dlx_layout_is_dense(const DLTensor *tensor)
{
    if (dlx_layout_is_c_contiguous(tensor)) {
        return true;
    }
    uint64_t placed = 0;
    int64_t expected = 1;
    for (int32_t round = 0; round < tensor->ndim; round++) {
        for (int32_t i = 0; i < tensor->ndim; i++) {
            bool open = !(placed >> i & 1);
            if (open && tensor->shape[i] == 1) {
                placed |= UINT64_C(1) << i;
            } else if (open && tensor->strides[i] == expected) {
                placed |= UINT64_C(1) << i;
                expected *= tensor->shape[i];
            }
        }
    }
    for (int32_t i = 0; i < tensor->ndim; i++) {
        if (!(placed >> i & 1)) {
            return false;
        }
    }
    return true;
}

bool
dlx_layout_has_negative_stride(const DLTensor *tensor)
{
    bool negative = false;
    for (int32_t i = 0; tensor->strides != NULL && i < tensor->ndim; i++) {
        if (tensor->shape[i] == 0) {
            return false;
        }
        negative = negative || (tensor->strides[i] < 0 && tensor->shape[i] > 1);
    }
    return negative;
}

size_t
dlx_layout_span(const DLTensor *tensor, bool padded, size_t *first)
{
    size_t itemsize = dlx_dtype_itemsize(tensor->dtype, padded);
    int64_t low = 0, high = 0;
    *first = 0;
    if (dlx_layout_size(tensor) == 0) {
        return 0;
    }
    if (itemsize == 0) { /* packed below a byte */
        return dlx_layout_nbytes(tensor, padded);
    }
    for (int32_t i = 0; i < tensor->ndim; i++) {
        int64_t reach = tensor->strides[i] * (tensor->shape[i] - 1);
        low += reach < 0 ? reach : 0;
        high += reach > 0 ? reach : 0;
    }
    *first = (size_t)-low * itemsize;
    return (size_t)(high - low + 1) * itemsize;
}

static char *
gather_dim(const DLTensor *tensor, size_t itemsize, int32_t dim, const char *from,
           char *out)
{
    if (dim == tensor->ndim) {
        memcpy(out, from, itemsize);
        return out + itemsize;
    }
    int64_t step = tensor->strides[dim] * (int64_t)itemsize;
    for (int64_t i = 0; i < tensor->shape[dim]; i++) {
        out = gather_dim(tensor, itemsize, dim + 1, from + i * step, out);
    }
    return out;
}

bool
dlx_layout_gather(const DLTensor *tensor, bool padded, void *out)
{
    if (dlx_layout_is_c_contiguous(tensor)) {
        size_t nbytes = dlx_layout_nbytes(tensor, padded);
        if (nbytes > 0) {
            memcpy(out, dlx_layout_first(tensor), nbytes);
        }
        return true;
    }
    size_t itemsize = dlx_dtype_itemsize(tensor->dtype, padded);
    if (itemsize == 0) {
        return false;
    }
    gather_dim(tensor, itemsize, 0, dlx_layout_first(tensor), out);
    return true;
}
