/* Kernels: a few built in, others registered by the test. Modules and libraries hold no
 * code here; their functions are looked up by name when they are launched.
 * SPDX-License-Identifier: Apache-2.0 */
#include "kernels.h"

#include <stdlib.h>
#include <string.h>

#include "sim.h"

enum { MAX_PARAMS = 32 };

struct sim_kernel {
    const char *name; /* interned */
    simcuda_kernel body;
    void *user;
    unsigned param_count;
    size_t sizes[MAX_PARAMS];
    char modes[MAX_PARAMS + 1];
    bool is_built_in; /* runs on the calling thread, and knows how far it reaches */
    size_t element;   /* of a built-in; its last parameter counts elements */
    struct sim_kernel *next;
};

static struct sim_kernel *kernels;

/* --- built-ins: sim_fill_T(out, value, n) and sim_add_T(out, a, b, n) --- */

static void *
pointer_at(void **params, unsigned i)
{
    return sim_data(*(uint64_t *)params[i]);
}

#define BUILT_IN(suffix, type)                                             \
    static void fill_##suffix(void *user, void **params)                   \
    {                                                                      \
        (void)user;                                                        \
        type *out = pointer_at(params, 0), value = *(type *)params[1];     \
        for (uint64_t i = 0, n = *(uint64_t *)params[2]; i < n; i++) {     \
            out[i] = value;                                                \
        }                                                                  \
    }                                                                      \
    static void add_##suffix(void *user, void **params)                    \
    {                                                                      \
        (void)user;                                                        \
        type *out = pointer_at(params, 0);                                 \
        const type *a = pointer_at(params, 1), *b = pointer_at(params, 2); \
        for (uint64_t i = 0, n = *(uint64_t *)params[3]; i < n; i++) {     \
            out[i] = (type)(a[i] + b[i]);                                  \
        }                                                                  \
    }

BUILT_IN(f32, float)
BUILT_IN(f64, double)
BUILT_IN(i32, int32_t)
BUILT_IN(i64, int64_t)
BUILT_IN(u8, uint8_t)

static const struct built_in {
    const char *fill_name, *add_name;
    simcuda_kernel fill, add;
    size_t element;
} built_ins[] = {
    {"sim_fill_f32", "sim_add_f32", fill_f32, add_f32, 4},
    {"sim_fill_f64", "sim_add_f64", fill_f64, add_f64, 8},
    {"sim_fill_i32", "sim_add_i32", fill_i32, add_i32, 4},
    {"sim_fill_i64", "sim_add_i64", fill_i64, add_i64, 8},
    {"sim_fill_u8", "sim_add_u8", fill_u8, add_u8, 1},
};

/* --- the registry --- */

static struct sim_kernel *
find(const char *name)
{
    for (struct sim_kernel *kernel = kernels; kernel != NULL; kernel = kernel->next) {
        if (strcmp(kernel->name, name) == 0) {
            return kernel;
        }
    }
    return NULL;
}

static struct sim_kernel *
add(const char *name, simcuda_kernel body, void *user, unsigned count,
    const size_t *sizes, const char *modes)
{
    struct sim_kernel *kernel = find(name);
    if (kernel == NULL) {
        kernel = sim_alloc(sizeof(*kernel));
        kernel->name = sim_intern(name);
        kernel->next = kernels;
        kernels = kernel;
    }
    kernel->body = body;
    kernel->user = user;
    kernel->param_count = count;
    memcpy(kernel->sizes, sizes, count * sizeof(*sizes));
    memcpy(kernel->modes, modes, count);
    kernel->modes[count] = '\0';
    kernel->is_built_in = false;
    return kernel;
}

static void
add_built_ins(void)
{
    if (find("sim_fill_f32") != NULL) {
        return;
    }
    for (size_t i = 0; i < sizeof(built_ins) / sizeof(built_ins[0]); i++) {
        const struct built_in *b = &built_ins[i];
        const size_t fill_sizes[] = {8, b->element, 8}, add_sizes[] = {8, 8, 8, 8};
        struct sim_kernel *fill =
            add(b->fill_name, b->fill, NULL, 3, fill_sizes, "w--");
        struct sim_kernel *sum = add(b->add_name, b->add, NULL, 4, add_sizes, "wrr-");
        fill->is_built_in = sum->is_built_in = true;
        fill->element = sum->element = b->element;
    }
}

int
simcuda_register_kernel(const char *name, simcuda_kernel body, void *user,
                        unsigned nparams, const size_t *sizes, const char *modes)
{
    if (nparams > MAX_PARAMS || strlen(modes) != nparams) {
        return -1;
    }
    pthread_mutex_lock(&sim.lock);
    add(name, body, user, nparams, sizes, modes);
    pthread_mutex_unlock(&sim.lock);
    return 0;
}

void
sim_kernels_reset(void)
{
    while (kernels != NULL) {
        struct sim_kernel *next = kernels->next;
        free(kernels);
        kernels = next;
    }
}

struct body_call {
    const struct sim_kernel *kernel;
    void **params;
};

static void
call_body(void *argument)
{
    const struct body_call *call = argument;
    call->kernel->body(call->kernel->user, call->params);
}

void
sim_kernel_run(const struct sim_kernel *kernel, void **params)
{
    if (kernel->is_built_in) {
        kernel->body(kernel->user, params);
    } else {
        struct body_call call = {kernel, params};
        sim_call_on_driver_thread(call_body, &call);
    }
}

/* --- launching --- */

static CUresult
touch_params(struct sim_work *work, const struct sim_kernel *kernel)
{
    CUresult status = CUDA_SUCCESS;
    void **params = work->u.kernel.params;
    for (unsigned i = 0; i < kernel->param_count && status == CUDA_SUCCESS; i++) {
        char mode = kernel->modes[i];
        uint64_t address;
        if (mode == '-' || kernel->sizes[i] != sizeof(address)) {
            continue;
        }
        memcpy(&address, params[i], sizeof(address));
        struct sim_block *block = sim_block_at(address);
        size_t nbytes =
            block == NULL ? 1 : block->nbytes - (size_t)(address - block->begin);
        if (kernel->is_built_in) {
            nbytes = kernel->element * *(uint64_t *)params[kernel->param_count - 1];
        }
        if (mode != 'w') {
            status = sim_work_touch(work, address, nbytes, false, false);
        }
        if (status == CUDA_SUCCESS && mode != 'r') {
            status = sim_work_touch(work, address, nbytes, true, false);
        }
    }
    return status;
}

CUresult
sim_kernel_launch(struct sim_caller *by, const char *name, CUstream handle,
                  void **values)
{
    struct sim_stream *stream;
    CUresult status = sim_stream_get(by, handle, &stream);
    add_built_ins();
    const struct sim_kernel *kernel = find(name);
    if (status != CUDA_SUCCESS) {
        return status;
    }
    if (kernel == NULL) {
        struct sim_site site = sim_site_of(by);
        sim_finding("unknown-kernel", &site, NULL,
                    "kernel %s has no body here: register one, or use a built-in",
                    name);
        return CUDA_ERROR_NOT_SUPPORTED;
    }
    if (values == NULL && kernel->param_count > 0) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    size_t total = 0;
    for (unsigned i = 0; i < kernel->param_count; i++) {
        total += (kernel->sizes[i] + 15) & ~(size_t)15;
    }
    struct sim_work *work = sim_work_new(by, SIM_KERNEL);
    work->u.kernel.kernel = kernel;
    char *at = work->u.kernel.values = sim_alloc(total);
    work->u.kernel.params = sim_alloc((kernel->param_count + 1) * sizeof(void *));
    for (unsigned i = 0; i < kernel->param_count; i++) {
        memcpy(at, values[i], kernel->sizes[i]);
        work->u.kernel.params[i] = at;
        at += (kernel->sizes[i] + 15) & ~(size_t)15;
    }
    status = touch_params(work, kernel);
    if (status == CUDA_SUCCESS) {
        status = sim_submit(stream, work);
    }
    sim_work_release(work);
    return status;
}

bool
sim_kernel_param(const char *name, size_t index, size_t *offset, size_t *size)
{
    add_built_ins();
    const struct sim_kernel *kernel = find(name);
    if (kernel == NULL || index >= kernel->param_count) {
        return false;
    }
    *offset = 0;
    for (size_t i = 0; i <= index; i++) {
        size_t alignment = kernel->sizes[i] < 8 ? kernel->sizes[i] : 8;
        alignment = alignment == 0 ? 1 : alignment;
        *offset = (*offset + alignment - 1) / alignment * alignment;
        *offset += i < index ? kernel->sizes[i] : 0;
    }
    *size = kernel->sizes[index];
    return true;
}
