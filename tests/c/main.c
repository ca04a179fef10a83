/* SPDX-License-Identifier: Apache-2.0
 *
 * Runs the tests of a program: all of them, or those whose name contains an
 * argument. With -x, the first failure ends its test and the run, since a later
 * check may wait for what will never come. Exit status 0: every test that ran passed,
 * and at least one ran.
 */
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "check.h"

static _Atomic int failures;
static bool ends_at_failure;

static void
note_failure(void)
{
    atomic_fetch_add(&failures, 1);
    if (ends_at_failure) {
        _exit(1);
    }
}

bool
check_that(bool is_true, const char *text, const char *file, int line)
{
    if (!is_true) {
        fprintf(stderr, "%s:%d: not true: %s\n", file, line, text);
        note_failure();
    }
    return is_true;
}

bool
check_equal(long long actual, long long expected, const char *text, const char *file,
            int line)
{
    if (actual != expected) {
        fprintf(stderr, "%s:%d: %s is %lld, not %lld\n", file, line, text, actual,
                expected);
        note_failure();
    }
    return actual == expected;
}

void
check_pause(void)
{
    struct timespec pause = {0, 100000};
    nanosleep(&pause, NULL);
}

int
check_failures(void)
{
    return atomic_load(&failures);
}

static bool
run_in_child(const check_test *test)
{
    int status;
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        alarm(60);
        test->run();
        exit(check_failures() == 0 ? 0 : 1);
    }
    if (child < 0 || waitpid(child, &status, 0) != child) {
        perror("fork");
        return false;
    }
    bool has_passed = WIFEXITED(status) && WEXITSTATUS(status) == 0;
    printf("%s %s", has_passed ? "pass" : "FAIL", test->name);
    if (WIFSIGNALED(status)) {
        printf(" (signal %d)", WTERMSIG(status));
    }
    printf("\n");
    return has_passed;
}

int
main(int argc, char **argv)
{
    int n_run = 0, n_failed = 0;
    if (argc > 1 && strcmp(argv[1], "-x") == 0) {
        ends_at_failure = true;
        argc--;
        argv++;
    }
    for (size_t i = 0; check_files[i] != NULL; i++) {
        for (const check_test *test = check_files[i]; test->name != NULL; test++) {
            if (argc > 1 && strstr(test->name, argv[1]) == NULL) {
                continue;
            }
            n_run++;
            n_failed += !run_in_child(test);
            if (n_failed != 0 && ends_at_failure) {
                return 1;
            }
        }
    }
    printf("%d tests, %d failed\n", n_run, n_failed);
    return n_run > 0 && n_failed == 0 ? 0 : 1;
}
