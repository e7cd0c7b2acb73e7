/* A child that may end itself: see exits.h. */
#include "tests/support/exits.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

int exits_run(void (*run)(const void *data), const void *data, char *said, size_t size)
{
    int output = memfd_create("output", MFD_CLOEXEC);
    assert_true(output >= 0);
    fflush(NULL);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        dup2(output, STDOUT_FILENO);
        dup2(output, STDERR_FILENO);
        run(data);
        fflush(NULL);
        _exit(0);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    ssize_t len = pread(output, said, size - 1, 0);
    assert_true(len >= 0);
    said[len] = '\0';
    close(output);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}
