/* SPDX-License-Identifier: Apache-2.0
 *
 * Implementation of lease.h.
 */
#include "lease.h"

#include <pthread.h>
#include <string.h>

#include "alloc.h"
#include "mutant.h"
#include "raise.h"

#define BUCKETS 256

static struct {
    pthread_mutex_t lock; /* never held over a driver call or the GIL */
    dlx_lease *buckets[BUCKETS];
} registry = {.lock = PTHREAD_MUTEX_INITIALIZER};

void
dlx_stream_ref_clear(dlx_stream_ref *ref)
{
    if (ref->is_pooled) {
        dlx_stream_release(ref->stream);
    }
    Py_CLEAR(ref->owner);
    ref->is_pooled = false;
    ref->stream.device_type = 0;
}

dlx_lease *
dlx_lease_new(void)
{
    dlx_lease *lease = dlx_alloc(sizeof *lease);
    if (lease == NULL) {
        PyErr_NoMemory();
        return NULL;
    }
    *lease = (dlx_lease){.thread = dlx_thread_id(), .room = DLX_LEASE_INLINE};
    lease->consumers = lease->inline_consumers;
    lease->streams = lease->inline_streams;
    return lease;
}

static int
refuse_unowned(dlx_state *state, const dlx_stream_ref *consumer)
{
    dlx_raise(
        state->StreamError,
        "stream handle %p has no owner, so the release of this memory cannot be "
        "ordered behind it; pass an object (dx.Stream.from_handle(..., owner=...))",
        (void *)consumer->stream.handle);
    return -1;
}

/* Both arrays are one allocation: the references, then the bare streams. */
static int
make_room(dlx_lease *lease)
{
    size_t n = lease->n_consumers, room = 2 * lease->room;
    dlx_stream_ref *more = dlx_alloc(room * (sizeof *more + sizeof *lease->streams));
    if (more == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    dlx_stream *streams = (dlx_stream *)(void *)(more + room);
    memcpy(more, lease->consumers, n * sizeof *more);
    memcpy(streams, lease->streams, n * sizeof *streams);
    if (lease->consumers != lease->inline_consumers) {
        free(lease->consumers);
    }
    lease->consumers = more;
    lease->streams = streams;
    lease->room = room;
    return 0;
}

/* Handle 2 means another stream in each thread; of two threads' nobody can name both.
 */
static void
note_thread(dlx_lease *lease)
{
    uint64_t here = dlx_thread_id();
    bool is_first = true;
    for (size_t i = 0; i < lease->n_consumers; i++) {
        is_first = is_first && !dlx_stream_is_per_thread(lease->streams[i]);
    }
    if (is_first || !DLX_MUTATED(lease_thread)) {
        lease->thread = is_first || lease->thread == here ? here : 0;
    }
}

int
dlx_lease_add_consumer(dlx_state *state, dlx_lease *lease, dlx_stream_ref *consumer)
{
    if (!consumer->is_owned) {
        return state->strict ? refuse_unowned(state, consumer) : 0;
    }
    if (dlx_stream_is_per_thread(consumer->stream)) {
        note_thread(lease);
    }
    for (size_t i = 0; i < lease->n_consumers; i++) {
        if (dlx_stream_same(lease->streams[i], consumer->stream, true)) {
            dlx_stream_ref_clear(consumer);
            return 0;
        }
    }
    if (DLX_MUTATED(add_consumer)) {
        dlx_stream_ref_clear(consumer);
        return 0;
    }
    if (lease->n_consumers == lease->room && make_room(lease) < 0) {
        return -1;
    }
    lease->streams[lease->n_consumers] = consumer->stream;
    lease->consumers[lease->n_consumers++] = *consumer;
    *consumer = (dlx_stream_ref){.is_owned = true};
    return 0;
}

int
dlx_lease_add_named(dlx_state *state, dlx_lease *lease, dlx_stream_ref *consumer)
{
    return consumer->is_owned ? dlx_lease_add_consumer(state, lease, consumer)
                              : refuse_unowned(state, consumer);
}

/* ---- registry ---- */

static dlx_lease **
bucket_of(uintptr_t address)
{
    return &registry.buckets[(address >> 8) % BUCKETS];
}

void
dlx_lease_register(dlx_lease *lease, uintptr_t address)
{
    pthread_mutex_lock(&registry.lock);
    dlx_lease **head = bucket_of(address);
    lease->address = address;
    lease->next = *head;
    lease->link = head;
    if (lease->next != NULL) {
        lease->next->link = &lease->next;
    }
    *head = lease;
    pthread_mutex_unlock(&registry.lock);
}

static void
unregister(dlx_lease *lease)
{
    if (lease->address == 0) {
        return;
    }
    pthread_mutex_lock(&registry.lock);
    *lease->link = lease->next;
    if (lease->next != NULL) {
        lease->next->link = lease->link;
    }
    lease->address = 0;
    pthread_mutex_unlock(&registry.lock);
}

int
dlx_lease_record_stream(dlx_state *state, uintptr_t address,
                        const dlx_stream_ref *consumer)
{
    int found = 0;
    if (!consumer->is_owned) { /* no exception is made under the lock: it may collect */
        return refuse_unowned(state, consumer);
    }
    if (DLX_MUTATED(record_stream)) {
        return 1;
    }
    pthread_mutex_lock(&registry.lock);
    for (dlx_lease *lease = *bucket_of(address); found >= 0 && lease != NULL;
         lease = lease->next) {
        if (lease->address == address) {
            dlx_stream_ref mine = *consumer;
            Py_XINCREF(mine.owner);
            if (dlx_lease_add_consumer(state, lease, &mine) < 0) {
                found = -1;
            } else {
                found++;
            }
            Py_XDECREF(mine.owner);
        }
    }
    pthread_mutex_unlock(&registry.lock);
    return found;
}

/* ---- release ---- */

void
dlx_lease_free(dlx_lease *lease)
{
    if (lease == NULL) {
        return;
    }
    unregister(lease);
    dlx_event_release(lease->ready);
    dlx_stream_ref_clear(&lease->producer);
    for (size_t i = 0; i < lease->n_consumers; i++) {
        dlx_stream_ref_clear(&lease->consumers[i]);
    }
    if (lease->consumers != lease->inline_consumers) {
        free(lease->consumers);
    }
    free(lease);
}

/* The end of a release: GIL held, on whatever thread. */
static void
drop_attached(dlx_lease *lease)
{
    dlx_hold hold = lease->hold;
    dlx_lease_free(lease);
    dlx_hold_end(&hold);
}

/* On the reaper's thread, which has entered Python for the batch. */
static void
drop_on_reaper(void *arg)
{
    drop_attached(arg);
}

/* False where no stream has used the memory but the producer's own. */
static bool
request_of(dlx_lease *lease, dlx_release_request *out)
{
    *out = (dlx_release_request){.consumers = lease->streams,
                                 .n_consumers = lease->n_consumers,
                                 .thread = lease->thread,
                                 .drop = drop_on_reaper,
                                 .arg = lease};
    if (lease->edge) {
        out->producer = lease->producer.stream;
    }
    return lease->n_consumers > 0;
}

/* The lease keeps the memory from here on. Nobody can ask for its ready event any more,
 * so that goes back at once: a parked release holds one event, not two. */
static void
take_over(dlx_lease *lease, dlx_hold *hold)
{
    unregister(lease);
    dlx_event_release(lease->ready);
    lease->ready = NULL;
    lease->hold = *hold;
    hold->kind = DLX_HOLD_NOTHING;
    hold->lease = NULL;
    lease->hold.lease = NULL;
}

void
dlx_lease_release(dlx_lease *lease, dlx_hold *hold, bool attached)
{
    dlx_release_request request;
    dlx_release_result result = DLX_RELEASE_NOW;
    dlx_error error;
    take_over(lease, hold);
    bool driven = request_of(lease, &request) && !DLX_MUTATED(lease_release);
    if (driven && dlx_backend_is_installed(lease->streams[0].device_type)) {
        dlx_release_defer(&request); /* this may be a thread of that very runtime */
        return;
    }
    if (driven && attached) {
        Py_BEGIN_ALLOW_THREADS
        result = dlx_release(&request, &error);
        Py_END_ALLOW_THREADS
    } else if (driven) {
        result = dlx_release(&request, &error);
    }
    if (result == DLX_RELEASE_NOW && attached) {
        drop_attached(lease);
    } else if (result == DLX_RELEASE_NOW) {
        PyGILState_STATE gil = PyGILState_Ensure();
        drop_attached(lease);
        PyGILState_Release(gil);
    } else if (result == DLX_RELEASE_LEAKED && !dlx_is_stopped()) { /* not at exit */
        dlx_warn_leak(&error, attached);
    }
}

void
dlx_lease_defer(dlx_lease *lease, dlx_hold *hold)
{
    dlx_release_request request;
    take_over(lease, hold);
    (void)request_of(lease, &request);
    dlx_release_defer(&request);
}

/* ---- the reaper's way to the GIL ---- */

static _Thread_local PyGILState_STATE reaper_gil;

static bool
reaper_enter(void)
{
    if (dlx_thread_kind() == DLX_THREAD_LATE) {
        return false;
    }
    reaper_gil = PyGILState_Ensure();
    return true;
}

static void
reaper_leave(void)
{
    PyGILState_Release(reaper_gil);
}

int
dlx_lease_setup(void)
{
    dlx_reaper_configure(reaper_enter, reaper_leave);
    return 0;
}
