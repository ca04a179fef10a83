/* SPDX-License-Identifier: Apache-2.0
 *
 * Consumers whose arrays Python makes: where the memory fits them as it is, nothing but
 * their own function is called; the rest is decided in dlexchange.adapters.fit. GIL:
 * held.
 */
#ifndef DLX_FIT_H_
#define DLX_FIT_H_

#include "source.h"

/* What a consumer needs; the numbers are known to dlexchange.adapters.fit. */
enum {
    DLX_FIT_FORWARD = 1,         /* no negative strides */
    DLX_FIT_COMPACT = 2,         /* row-major without gaps */
    DLX_FIT_KEEPS_READ_ONLY = 4, /* its arrays can be read-only */
    DLX_FIT_KEEPS_PADDING = 8,   /* it knows small elements, one a byte */
};

/* Hand x over to `consumer`: (needs, alignment, make, to, name, otherwise), where
 * make(tensor, to) imports a Tensor that fits, and otherwise(tensor, stream, copy,
 * producer) does what else there is to do. An alignment of 0 is the element's. */
DLX_GIVE PyObject *dlx_fit_hand_off(dlx_state *state, PyObject *x, PyObject *consumer);

#endif
