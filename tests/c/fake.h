/* SPDX-License-Identifier: Apache-2.0
 *
 * A fake table of driver calls, scriptable: it counts and logs every call, fails the
 * n-th, keeps contexts and capture states as a driver would, and completes work when
 * told to. It knows no data; order is shown by the log. Thread safe.
 */
#ifndef FAKE_H_
#define FAKE_H_

#include "gpu.h"

typedef struct fake_context {
    int device;
    bool is_primary;
} fake_context;

typedef struct fake_stream {
    fake_context *context;
    _Atomic int capture_status;
    _Atomic uint64_t capture_id;
    _Atomic bool is_blocked; /* work does not complete: events on it stay incomplete */
    _Atomic(struct fake_stream *)
        waits_for; /* the last stream it was made to wait for */
} fake_stream;

typedef struct fake_event {
    fake_context *context;
    unsigned flags;
    _Atomic(fake_stream *) recorded_on;
    _Atomic uint64_t capture_id;
    _Atomic bool is_destroyed;
} fake_event;

enum { FAKE_DEVICES = 2, FAKE_STREAMS = 8, FAKE_LOG = 4096 };

typedef struct fake_entry {
    _Atomic int call;     /* a dlx_gpu_call */
    void *_Atomic stream; /* resolved: a fake_stream */
    void *_Atomic event;
} fake_entry;

typedef struct fake_driver {
    fake_context primary[FAKE_DEVICES];
    fake_context other; /* a context of device 0 that is not its primary one */
    fake_stream legacy[FAKE_DEVICES];
    fake_stream per_thread[FAKE_DEVICES];
    fake_stream streams[FAKE_STREAMS]; /* of device 0, but the last two: of device 1 */
    fake_stream foreign;               /* in `other` */
    fake_stream made[FAKE_DEVICES * (DLX_MAX_STREAMS + 16)];
    _Atomic int n_made;
    _Atomic long counts[DLX_N_CALLS];
    _Atomic long n_calls;
    _Atomic long n_events;        /* in existence */
    _Atomic uint64_t peak_in_use; /* most events in use when one was recorded */
    _Atomic long n_pinned;        /* blocks in existence */
    _Atomic int sticky;           /* every call answers this */
    _Atomic bool is_hip;          /* contexts are current devices */
    _Atomic bool is_in_callback;  /* every call answers NOT_PERMITTED */
    _Atomic bool has_primary[FAKE_DEVICES];
    _Atomic int fail_call; /* -1: any */
    _Atomic long fail_nth; /* counts down; 0: no failure planned */
    _Atomic int fail_code;
    _Atomic int unrelaxed; /* calls that should have been made in relaxed mode */
    _Atomic long n_log;
    fake_entry log[FAKE_LOG];
} fake_driver;

extern fake_driver fake;

/* A fresh fake in place of the CUDA (or HIP) driver. */
void fake_install(void);
void fake_install_hip(void);

/* Let the n-th call from now (of `call`, or of any with -1) answer `code`. */
void fake_fail(int call, long nth, int code);

/* Forget counts and log, keep the state. */
void fake_forget(void);

/* Calls since then: all, and of one name. */
long fake_calls(void);
long fake_count(dlx_gpu_call call);

/* Run the callbacks queued on streams of ours whose waited-for streams are not blocked;
 * `code` is what they are told. Returns how many ran. */
int fake_run_callbacks(int code);

/* The capture mode of the calling thread. */
int fake_mode(void);

/* The context current in the calling thread; make one current without a log entry. */
fake_context *fake_current(void);
void fake_set_current(fake_context *context);

/* Stream i of the fake, and the default ones of a device. */
dlx_stream fake_stream_at(int i);
dlx_stream fake_legacy(int device);
dlx_stream fake_per_thread(int device);

void fake_capture(dlx_stream stream, int status, uint64_t id);
void fake_block(dlx_stream stream, bool is_blocked);

#endif
