/* Every entry point of the driver API that nothing here implements: NOT_SUPPORTED and a
 * finding. The definitions are weak, so that implementing one elsewhere replaces it;
 * they take no arguments, which the calling conventions of the supported machines
 * allow. SPDX-License-Identifier: Apache-2.0 */
#include "entry.h"

static CUresult
unsupported(enum sim_name name, const char *symbol, const void *address)
{
    struct sim_caller by = {name, false, SIM_ANYTIME, address, NULL, NULL};
    CUresult status = sim_enter(&by);
    if (status != CUDA_SUCCESS) {
        return status;
    }
    struct sim_site site = sim_site_of(&by);
    sim_finding(
        "not-implemented", &site, NULL,
        "%s is not implemented by the simulated driver: it returned NOT_SUPPORTED",
        symbol);
    return sim_leave(&by, CUDA_ERROR_NOT_SUPPORTED);
}

#define STUB(name, symbol)                                                         \
    SIM_EXPORT __attribute__((weak)) CUresult symbol(void);                        \
    CUresult symbol(void)                                                          \
    {                                                                              \
        return unsupported(SIM_CALL_##name, #symbol, __builtin_return_address(0)); \
    }

#define SIM_NAME(name)
#define SIM_ENTRY(name, version, symbol) STUB(name, symbol)
#define SIM_ENTRY_PT(name, version, symbol, pt_version, pt_symbol) \
    STUB(name, symbol) STUB(name, pt_symbol)
#define SIM_ALIAS(name, version, symbol)
#include "symbols.inc"
