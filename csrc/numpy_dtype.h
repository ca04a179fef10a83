/* SPDX-License-Identifier: Apache-2.0
 *
 * numpy's dtypes in DLPack's terms, and back: its own by tables, those of ml_dtypes by
 * asking. Only numpy.c and numpy_dtype.c include this, and numpy's headers. GIL: held.
 */
#ifndef DLX_NUMPY_DTYPE_H_
#define DLX_NUMPY_DTYPE_H_

#include "source.h"

#define NPY_NO_DEPRECATED_API NPY_1_22_API_VERSION
#define NPY_TARGET_VERSION NPY_1_22_API_VERSION
#define PY_ARRAY_UNIQUE_SYMBOL dlx_numpy_api
#include <numpy/arrayobject.h>

#define DLX_NUMPY_BUILTIN (NPY_HALF + 1)

/* By type number; no lanes where DLPack has no word for it. */
extern const DLDataType dlx_numpy_plain_dtypes[DLX_NUMPY_BUILTIN];

/* Whether the table answers for a type number. */
static inline bool
dlx_numpy_is_plain(int num)
{
    return (unsigned)num < DLX_NUMPY_BUILTIN && dlx_numpy_plain_dtypes[num].lanes != 0;
}

/* Look up numpy's descriptors, once its C API is there. 0, or -1 with an error set. */
int dlx_numpy_dtypes_load(void);

/* Fill in dtype and flags of what the table does not answer. 0, or -1 with
 * ExchangeError set. */
int dlx_numpy_read_rare_dtype(dlx_state *state, PyArray_Descr *descr,
                              dlx_source *source);

/* A descriptor for the dtype of a source, or NULL with ExchangeError set. */
DLX_GIVE PyArray_Descr *dlx_numpy_descr(dlx_state *state, const dlx_source *source);

#endif
