/* Runs a program for which io_uring_setup fails: no_uring ERRNO PROGRAM [ARGUMENT...]. A seccomp
 * filter answers the one system call with the error and lets all others pass. */
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(int argc, char **argv)
{
    if (argc < 3) {
        fprintf(stderr, "usage: no_uring ERRNO PROGRAM [ARGUMENT...]\n");
        return 2;
    }
    unsigned error = (unsigned)strtoul(argv[1], NULL, 10) & SECCOMP_RET_DATA;
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_io_uring_setup, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog filter = {.len = sizeof(code) / sizeof(code[0]), .filter = code};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) != 0) {
        perror("no_uring: seccomp");
        return 2;
    }
    execv(argv[2], argv + 2);
    perror("no_uring: exec");
    return 2;
}
