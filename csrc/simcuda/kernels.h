/* Kernels of the simulated device: functions of the host under a name.
 * SPDX-License-Identifier: Apache-2.0 */
#ifndef SIMCUDA_KERNELS_H
#define SIMCUDA_KERNELS_H

#include "sim.h"

struct sim_kernel;

/* Values of the parameters are copied at the call, as on a device. */
CUresult sim_kernel_launch(struct sim_caller *by, const char *name, CUstream stream,
                           void **values);
bool sim_kernel_param(const char *name, size_t index, size_t *offset, size_t *size);

void sim_kernel_run(const struct sim_kernel *kernel, void **params);
void sim_kernels_reset(void);
void sim_library_free(void *library);

#endif
