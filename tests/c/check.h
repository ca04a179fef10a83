/* SPDX-License-Identifier: Apache-2.0
 *
 * A test is a function; each runs in a child process of its own, so that it starts with
 * a library that has seen nothing, may end it (dlx_stop), and cannot hang the others.
 */
#ifndef CHECK_H_
#define CHECK_H_

#include <stdbool.h>

/* Record a failure and go on: a test shows all that is wrong. */
#define CHECK(condition) check_that((condition), #condition, __FILE__, __LINE__)
#define CHECK_EQ(actual, expected) \
    check_equal((long long)(actual), (long long)(expected), #actual, __FILE__, __LINE__)

bool check_that(bool is_true, const char *text, const char *file, int line);
bool check_equal(long long actual, long long expected, const char *text,
                 const char *file, int line);

/* Wait until `condition` holds; a failure after ten seconds. Only for what another
 * thread is certain to do, never to give it time. */
#define CHECK_EVENTUALLY(condition)                                       \
    do {                                                                  \
        for (int tries_ = 0; !(condition) && tries_ < 100000; tries_++) { \
            check_pause();                                                \
        }                                                                 \
        CHECK(condition);                                                 \
    } while (0)
void check_pause(void);

/* Failures so far in this process. */
int check_failures(void);

typedef struct check_test {
    const char *name;
    void (*run)(void);
} check_test;

/* Each list ends with {NULL, NULL}; so does the list of lists of a program, with NULL.
 */
extern const check_test *const check_files[];

#endif
