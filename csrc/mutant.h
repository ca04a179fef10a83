/* SPDX-License-Identifier: Apache-2.0
 *
 * Mutants: one guarantee removed at a time, so that a test can show that it would
 * notice. Compiled only with -DDLX_MUTANTS, into an extension that wheels do not carry;
 * otherwise DLX_MUTATED is the constant false and nothing of this remains. The active
 * one comes from DLEXCHANGE_MUTANT=<number> or dlx_mutant_set.
 */
#ifndef DLX_MUTANT_H_
#define DLX_MUTANT_H_

#include <stdbool.h>

/* number, name, what is removed. Numbers are never reused. */
#define DLX_MUTANT_LIST(X)                                                         \
    X(1, push, "dlx_push orders nothing")                                          \
    X(2, push_wait, "dlx_push records, but the consumer does not wait")            \
    X(3, ready_record, "a ready event is not recorded again")                      \
    X(4, ready_wait, "waiting on a ready event does nothing")                      \
    X(5, edge, "a release makes no edge and drops at once")                        \
    X(6, edge_wait, "a release edge records, but the producer does not wait")      \
    X(7, park, "a release that should be parked drops at once")                    \
    X(8, park_query, "a parked release is dropped before its event has fired")     \
    X(9, check_push, "dlx_push does not ask for captures")                         \
    X(10, check_record, "recording a ready event does not ask for captures")       \
    X(11, check_wait, "waiting on a ready event does not ask for captures")        \
    X(12, check_release, "a release does not ask for captures")                    \
    X(13, capture_mode, "our own calls do not exchange the thread's capture mode") \
    X(14, context_enter, "calls on default streams do not enter their context")    \
    X(15, context_restore, "an entered context is left current")                   \
    X(16, quarantine, "an event of a failed push goes back to the pool")           \
    X(17, foreign_thread, "a stored handle 2 is used in whatever thread releases") \
    X(18, notify_wait, "a notification does not wait for its event")               \
    X(19, notify_watch, "a lost context is not looked for")                        \
    X(20, copy_wait, "a copy to the host does not wait for the data")              \
    X(21, per_thread_same, "handle 2 counts as one stream in every thread")        \
    X(22, check_fires, "the driver is asked about events of a capture")

/* The same for the upper half, which only the tests in Python reach. */
#define DLX_UPPER_MUTANT_LIST(Y)                                                  \
    Y(101, tensor_event, "a Tensor carries no ready event")                       \
    Y(102, export_wait, "__dlpack__ does not make the consumer's stream wait")    \
    Y(103, add_consumer, "a further consumer stream is forgotten")                \
    Y(104, interface_wait, "the stream that a Tensor's interface names is idle")  \
    Y(105, lease_thread, "handle 2 of two threads counts as the first one's")     \
    Y(106, lease_release, "a lease is released without a look at its streams")    \
    Y(107, in_flight, "a copy to the host does not keep its source")              \
    Y(108, hand_off, "a hand-off between two known streams pushes nothing")       \
    Y(109, named_push, "dx.push does nothing")                                    \
    Y(110, record_stream, "dx.record_stream finds nothing to note")               \
    Y(111, find_edge, "an edge is made whichever stream the memory is from")      \
    Y(112, interface_return, "a Tensor's interface has no way back")              \
    Y(113, described_push, "an export orders nothing that its description names") \
    Y(114, reap, "no hand-off looks at what is parked")                           \
    Y(116, backend_record, "a backend is not asked to record")                    \
    Y(117, backend_wait, "a backend is not asked to make a stream wait")          \
    Y(118, backend_query, "what a backend has recorded counts as done")           \
    Y(119, backend_synchronize, "the host does not wait for a backend's event")   \
    Y(120, backend_notify, "an await of a backend's event is told at once")       \
    Y(121, backend_forgotten, "an await that a backend forgets is never told")    \
    Y(122, backend_stream_query, "a backend's stream counts as idle")             \
    Y(123, backend_stream_synchronize, "the host does not wait for its stream")   \
    Y(124, backend_argument, "a producer is not told the backend's stream")

enum {
#define DLX_MUTANT_ENUM(number, name, text) DLX_MUTANT_##name = number,
    DLX_MUTANT_LIST(DLX_MUTANT_ENUM) DLX_UPPER_MUTANT_LIST(DLX_MUTANT_ENUM)
#undef DLX_MUTANT_ENUM
};

#ifdef DLX_MUTANTS
/* 0: none, all guarantees in place. Any thread; meant for the start of a test. */
void dlx_mutant_set(int number);
int dlx_mutant_active(void);
#define DLX_MUTATED(name) (dlx_mutant_active() == DLX_MUTANT_##name)
#else
#define DLX_MUTATED(name) false
#endif

#endif
