/* A child process in a sandbox: see inmate.h. */
#include "tests/support/inmate.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "gateway/base/check.h"

int inmate_try(int (*confine)(void), int (*attempt)(void))
{
    int status;
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
        _exit(confine() == 0 ? attempt() : INMATE_BROKEN);
    }
    CHECK(waitpid(child, &status, 0) == child);
    if (WIFEXITED(status))
        return WEXITSTATUS(status);
    return WTERMSIG(status) == SIGSYS ? INMATE_KILLED : INMATE_BROKEN;
}

int inmate_errno(long result)
{
    return result >= 0 ? 0 : errno;
}
