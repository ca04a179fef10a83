/* SPDX-License-Identifier: Apache-2.0
 *
 * Between the two halves of the fake: its calls, and what each of them does first.
 */
#ifndef FAKE_CALLS_H_
#define FAKE_CALLS_H_

#include "fake.h"

#define FAKE_DECLARE(field, arguments, ...) int fake_##field arguments;
DLX_GPU_CALLS(FAKE_DECLARE)
#undef FAKE_DECLARE

/* Count and log the call; the status it must answer, if not success. */
int fake_begin(dlx_gpu_call call);
int fake_begin_on(dlx_gpu_call call, void *stream, void *event);

/* For calls that another thread's capture forbids in any mode but the relaxed one. */
void fake_want_relaxed(void);

void fake_clear_callbacks(void);

#endif
