/* Findings: what a client did that a real driver would have let pass, or made wrong
 * data of. A finding is kept once for each pair of call sites, with a count. Lock: its
 * own, so that host functions, which run while another thread holds sim.lock, can
 * report too. SPDX-License-Identifier: Apache-2.0 */
#include <dlfcn.h>
#include <search.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim.h"

enum { MAX_FINDINGS = 500 };

struct finding {
    const char *kind;
    char *message;
    char *first, *second;
    uint64_t times;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct finding findings[MAX_FINDINGS];
static unsigned count;
static void *interned;

static int
compare_text(const void *a, const void *b)
{
    return strcmp(a, b);
}

const char *
sim_intern(const char *text)
{
    static pthread_mutex_t intern_lock = PTHREAD_MUTEX_INITIALIZER;
    pthread_mutex_lock(&intern_lock);
    char **node = tfind(text, &interned, compare_text);
    if (node == NULL) {
        char *copy = strdup(text);
        node = copy == NULL ? NULL : tsearch(copy, &interned, compare_text);
        if (node == NULL) {
            abort();
        }
    }
    const char *found = *node;
    pthread_mutex_unlock(&intern_lock);
    return found;
}

int
sim_stream_text(const struct sim_stream_name *name, char *out, size_t size)
{
    char device[32] = "";
    if (sim.config.devices > 1) {
        snprintf(device, sizeof(device), " of device %d", name->device);
    }
    unsigned long long number = name->number;
    switch (name->kind) {
        case SIM_LEGACY:
            return snprintf(out, size, "the legacy default stream%s", device);
        case SIM_PER_THREAD:
            return snprintf(out, size, "the default stream of thread %llu%s", number,
                            device);
        default:
            return snprintf(out, size, "stream %llu%s", number, device);
    }
}

static void
describe(const struct sim_site *site, char *out, size_t size)
{
    out[0] = '\0';
    if (site == NULL || site->call == NULL) {
        return;
    }
    int n = snprintf(out, size, "%s", site->call);
    size_t used = n < 0 ? 0 : (size_t)n;
    if (site->stream.kind != SIM_NO_STREAM && used + 4 < size) {
        memcpy(out + used, " on ", 5);
        n = sim_stream_text(&site->stream, out + used + 4, size - used - 4);
        used += 4 + (n < 0 ? 0 : (size_t)n);
    }
    if (used >= size) {
        return;
    }
    Dl_info info;
    if (site->label != NULL) {
        snprintf(out + used, size - used, " at %s", site->label);
    } else if (site->address != NULL && dladdr(site->address, &info) != 0 &&
               info.dli_fname != NULL) {
        const char *file = strrchr(info.dli_fname, '/');
        file = file == NULL ? info.dli_fname : file + 1;
        if (info.dli_sname != NULL) {
            snprintf(
                out + used, size - used, " at %s (%s+0x%zx)", info.dli_sname, file,
                (size_t)((const char *)site->address - (const char *)info.dli_fbase));
        } else {
            snprintf(
                out + used, size - used, " at %s+0x%zx", file,
                (size_t)((const char *)site->address - (const char *)info.dli_fbase));
        }
    }
}

static struct finding *
find(const char *kind, const char *first, const char *second, const char *message)
{
    for (unsigned i = 0; i < count; i++) {
        struct finding *known = &findings[i];
        if (strcmp(known->kind, kind) == 0 && strcmp(known->first, first) == 0 &&
            strcmp(known->second, second) == 0 &&
            (first[0] != '\0' || strcmp(known->message, message) == 0)) {
            return known;
        }
    }
    return NULL;
}

void
sim_finding(const char *kind, const struct sim_site *first,
            const struct sim_site *second, const char *format, ...)
{
    char message[1024], one[256], two[256];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof(message), format, arguments);
    va_end(arguments);
    describe(first, one, sizeof(one));
    describe(second, two, sizeof(two));
    pthread_mutex_lock(&lock);
    struct finding *known = find(kind, one, two, message);
    if (known != NULL) {
        known->times++;
    } else if (count < MAX_FINDINGS) {
        findings[count++] = (struct finding){sim_intern(kind), strdup(message),
                                             strdup(one), strdup(two), 1};
    }
    pthread_mutex_unlock(&lock);
}

unsigned
simcuda_finding_count(void)
{
    pthread_mutex_lock(&lock);
    unsigned n = count;
    pthread_mutex_unlock(&lock);
    return n;
}

int
simcuda_finding_get(unsigned index, struct simcuda_finding *out)
{
    pthread_mutex_lock(&lock);
    bool exists = index < count;
    if (exists) {
        /* Interned: the strings must outlive a clear in another thread. */
        const struct finding *f = &findings[index];
        *out = (struct simcuda_finding){f->kind, sim_intern(f->message),
                                        sim_intern(f->first), sim_intern(f->second),
                                        f->times};
    }
    pthread_mutex_unlock(&lock);
    return exists ? 0 : -1;
}

void
simcuda_findings_clear(void)
{
    pthread_mutex_lock(&lock);
    for (unsigned i = 0; i < count; i++) {
        free(findings[i].message);
        free(findings[i].first);
        free(findings[i].second);
    }
    count = 0;
    pthread_mutex_unlock(&lock);
}
