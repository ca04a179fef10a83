/* Modules, libraries and their functions: names and attributes, no code. Any image
 * loads. SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>
#include <string.h>

#include "kernels.h"
#include "entry.h"

/* A loaded image; its functions live as long as it does. */
struct library {
    uint64_t handle;
    struct function *functions;
};

struct function {
    uint64_t handle; /* both a CUfunction and a CUkernel */
    const char *name;
    struct library *library;
    struct function *next;
};

static CUresult
load(void **out)
{
    if (out == NULL) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    struct library *library = sim_alloc(sizeof(*library));
    library->handle = sim_handle_new(SIM_KIND_LIBRARY, library);
    *out = SIM_HANDLE(void *, library->handle);
    return CUDA_SUCCESS;
}

static CUresult
unload(void *handle)
{
    struct library *library = sim_handle_get(SIM_KIND_LIBRARY, handle);
    if (library == NULL) {
        return CUDA_ERROR_INVALID_HANDLE;
    }
    sim_handle_drop(SIM_KIND_LIBRARY, library->handle);
    sim_library_free(library);
    return CUDA_SUCCESS;
}

void
sim_library_free(void *object)
{
    struct library *library = object;
    while (library->functions != NULL) {
        struct function *next = library->functions->next;
        sim_handle_drop(SIM_KIND_KERNEL, library->functions->handle);
        free(library->functions);
        library->functions = next;
    }
    free(library);
}

static CUresult
get_function(void **out, void *handle, const char *name)
{
    struct library *library = sim_handle_get(SIM_KIND_LIBRARY, handle);
    if (library == NULL || out == NULL || name == NULL) {
        return library == NULL ? CUDA_ERROR_INVALID_HANDLE : CUDA_ERROR_INVALID_VALUE;
    }
    struct function *function = library->functions;
    while (function != NULL && strcmp(function->name, name) != 0) {
        function = function->next;
    }
    if (function == NULL) {
        function = sim_alloc(sizeof(*function));
        function->name = sim_intern(name);
        function->library = library;
        function->handle = sim_handle_new(SIM_KIND_KERNEL, function);
        function->next = library->functions;
        library->functions = function;
    }
    *out = SIM_HANDLE(void *, function->handle);
    return CUDA_SUCCESS;
}

SIM_API(cuModuleLoad, , SIM_CONTEXT | SIM_UNSAFE, (CUmodule * out, const char *file),
        (out, file))
{
    return load((void **)out);
}

SIM_API(cuModuleLoadData, , SIM_CONTEXT | SIM_UNSAFE,
        (CUmodule * out, const void *image), (out, image))
{
    return load((void **)out);
}

SIM_API(cuModuleLoadDataEx, , SIM_CONTEXT | SIM_UNSAFE,
        (CUmodule * out, const void *image, unsigned int n, int *options,
         void **values),
        (out, image, n, options, values))
{
    return load((void **)out);
}

SIM_API(cuModuleUnload, , SIM_CONTEXT, (CUmodule module), (module))
{
    return unload(module);
}

SIM_API(cuModuleGetFunction, , SIM_CONTEXT,
        (CUfunction * out, CUmodule module, const char *name), (out, module, name))
{
    return get_function((void **)out, module, name);
}

SIM_API(cuLibraryLoadData, , SIM_INIT,
        (CUlibrary * out, const void *image, int *jit, void **jit_values,
         unsigned int n_jit, int *options, void **values, unsigned int n),
        (out, image, jit, jit_values, n_jit, options, values, n))
{
    return load((void **)out);
}

SIM_API(cuLibraryLoadFromFile, , SIM_INIT,
        (CUlibrary * out, const char *file, int *jit, void **jit_values,
         unsigned int n_jit, int *options, void **values, unsigned int n),
        (out, file, jit, jit_values, n_jit, options, values, n))
{
    return load((void **)out);
}

SIM_API(cuLibraryUnload, , SIM_INIT, (CUlibrary library), (library))
{
    return unload(library);
}

SIM_API(cuLibraryGetKernel, , SIM_INIT,
        (CUkernel * out, CUlibrary library, const char *name), (out, library, name))
{
    return get_function((void **)out, library, name);
}

/* One object per library serves as its module, one per kernel as its function. */
SIM_API(cuLibraryGetModule, , SIM_CONTEXT, (CUmodule * out, CUlibrary library),
        (out, library))
{
    *out = (CUmodule)(void *)library;
    return sim_handle_get(SIM_KIND_LIBRARY, library) == NULL ? CUDA_ERROR_INVALID_HANDLE
                                                             : CUDA_SUCCESS;
}

SIM_API(cuKernelGetFunction, , SIM_CONTEXT, (CUfunction * out, CUkernel kernel),
        (out, kernel))
{
    *out = (CUfunction)(void *)kernel;
    return sim_handle_get(SIM_KIND_KERNEL, kernel) == NULL ? CUDA_ERROR_INVALID_HANDLE
                                                           : CUDA_SUCCESS;
}

SIM_API(cuKernelGetLibrary, , SIM_INIT, (CUlibrary * out, CUkernel kernel),
        (out, kernel))
{
    struct function *function = sim_handle_get(SIM_KIND_KERNEL, kernel);
    if (function == NULL) {
        return CUDA_ERROR_INVALID_HANDLE;
    }
    *out = SIM_HANDLE(CUlibrary, function->library->handle);
    return CUDA_SUCCESS;
}

static CUresult
get_name(const char **out, void *handle)
{
    struct function *function = sim_handle_get(SIM_KIND_KERNEL, handle);
    if (function == NULL) {
        return CUDA_ERROR_INVALID_HANDLE;
    }
    *out = function->name;
    return CUDA_SUCCESS;
}

SIM_API(cuKernelGetName, , SIM_INIT, (const char **out, CUkernel kernel), (out, kernel))
{
    return get_name(out, kernel);
}

SIM_API(cuFuncGetName, , SIM_INIT, (const char **out, CUfunction function),
        (out, function))
{
    return get_name(out, function);
}

static CUresult
get_param(void *handle, size_t index, size_t *offset, size_t *size)
{
    struct function *function = sim_handle_get(SIM_KIND_KERNEL, handle);
    size_t ignored;
    return function != NULL && sim_kernel_param(function->name, index, offset,
                                                size == NULL ? &ignored : size)
               ? CUDA_SUCCESS
               : CUDA_ERROR_INVALID_VALUE;
}

SIM_API(cuKernelGetParamInfo, , SIM_INIT,
        (CUkernel kernel, size_t index, size_t *offset, size_t *size),
        (kernel, index, offset, size))
{
    return get_param(kernel, index, offset, size);
}

SIM_API(cuFuncGetParamInfo, , SIM_INIT,
        (CUfunction function, size_t index, size_t *offset, size_t *size),
        (function, index, offset, size))
{
    return get_param(function, index, offset, size);
}

static CUresult
get_function_attribute(int *out, int attribute)
{
    static const int values[] = {[0] = 1024, [4] = 32, [5] = 90, [6] = 90, [8] = 49152};
    if (out == NULL || attribute < 0 || attribute > 15) {
        return CUDA_ERROR_INVALID_VALUE;
    }
    *out = attribute <= 8 ? values[attribute] : 0;
    return CUDA_SUCCESS;
}

SIM_API(cuFuncGetAttribute, , SIM_CONTEXT,
        (int *out, int attribute, CUfunction function), (out, attribute, function))
{
    return get_function_attribute(out, attribute);
}

SIM_API(cuKernelGetAttribute, , SIM_INIT,
        (int *out, int attribute, CUkernel kernel, CUdevice device),
        (out, attribute, kernel, device))
{
    return get_function_attribute(out, attribute);
}

SIM_API(cuFuncSetAttribute, , SIM_CONTEXT,
        (CUfunction function, int attribute, int value), (function, attribute, value))
{
    return CUDA_SUCCESS;
}

SIM_API(cuKernelSetAttribute, , SIM_INIT,
        (int attribute, int value, CUkernel kernel, CUdevice device),
        (attribute, value, kernel, device))
{
    return CUDA_SUCCESS;
}

SIM_API(cuFuncSetCacheConfig, , SIM_CONTEXT, (CUfunction function, int config),
        (function, config))
{
    return CUDA_SUCCESS;
}

static CUresult
launch(struct sim_caller *by, void *handle, CUstream stream, void **params)
{
    struct function *function = sim_handle_get(SIM_KIND_KERNEL, handle);
    return function == NULL ? CUDA_ERROR_INVALID_HANDLE
                            : sim_kernel_launch(by, function->name, stream, params);
}

SIM_API_PT(cuLaunchKernel, , _ptsz, SIM_CONTEXT,
           (CUfunction function, unsigned int gx, unsigned int gy, unsigned int gz,
            unsigned int bx, unsigned int by_, unsigned int bz, unsigned int shared,
            CUstream stream, void **params, void **extra),
           (function, gx, gy, gz, bx, by_, bz, shared, stream, params, extra))
{
    return gx * gy * gz == 0 || bx * by_ * bz == 0 || extra != NULL
               ? CUDA_ERROR_INVALID_VALUE
               : launch(by, function, stream, params);
}

SIM_API_PT(cuLaunchKernelEx, , _ptsz, SIM_CONTEXT,
           (const CUlaunchConfig *config, CUfunction function, void **params,
            void **extra),
           (config, function, params, extra))
{
    return config == NULL || extra != NULL
               ? CUDA_ERROR_INVALID_VALUE
               : launch(by, function, config->stream, params);
}
