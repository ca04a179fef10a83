/* The table behind cuGetProcAddress: the newest signature of a name that is not newer
 * than the version asked for, in its plain or its per-thread-default-stream variant.
 * SPDX-License-Identifier: Apache-2.0 */
#include <string.h>

#include "sim.h"

/* Only addresses are taken here: the definitions have parameters of their own. */
#define SIM_NAME(name)
#define SIM_ENTRY(name, version, symbol) void symbol(void);
#define SIM_ENTRY_PT(name, version, symbol, pt_version, pt_symbol) \
    void symbol(void);                                             \
    void pt_symbol(void);
#define SIM_ALIAS(name, version, symbol)
#include "symbols.inc"
#undef SIM_NAME
#undef SIM_ENTRY
#undef SIM_ENTRY_PT
#undef SIM_ALIAS

static const struct entry {
    const char *name;
    int version, pt_version;
    void (*symbol)(void), (*pt_symbol)(void);
} entries[] = {
#define SIM_NAME(name)
#define SIM_ENTRY(name, version, symbol) {#name, version, 0, symbol, NULL},
#define SIM_ENTRY_PT(name, version, symbol, pt_version, pt_symbol) \
    {#name, version, pt_version, symbol, pt_symbol},
#define SIM_ALIAS(name, version, symbol) {#name, version, 0, symbol, NULL},
#include "symbols.inc"
};

enum { ENTRY_COUNT = sizeof(entries) / sizeof(entries[0]) };

/* Names are sorted, a name's signatures are adjacent and oldest first. */
static size_t
first_of(const char *name)
{
    size_t low = 0, high = ENTRY_COUNT;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (strcmp(entries[middle].name, name) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

sim_function
sim_lookup(const char *name, int version, bool per_thread,
           CUdriverProcAddressQueryResult *result)
{
    size_t first = first_of(name);
    sim_function found = NULL;
    bool exists = false;
    for (size_t i = first; i < ENTRY_COUNT && strcmp(entries[i].name, name) == 0; i++) {
        const struct entry *entry = &entries[i];
        exists = true;
        if (entry->version > version) {
            break;
        }
        bool has_variant = entry->pt_symbol != NULL && entry->pt_version <= version;
        found = per_thread && has_variant ? entry->pt_symbol : entry->symbol;
    }
    *result = found != NULL ? CU_GET_PROC_ADDRESS_SUCCESS
              : exists      ? CU_GET_PROC_ADDRESS_VERSION_NOT_SUFFICIENT
                            : CU_GET_PROC_ADDRESS_SYMBOL_NOT_FOUND;
    return found;
}
