/* The filter of system calls: what a gateway must not do is tried in a process that has it, and
 * what it needs still works. Under a sanitizer there is no filter, and this says so. */
#include "gateway/gateway_sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <pwd.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/support/inmate.h"

static const struct config strict = {.seccomp = true, .spool_path = (char *)(uintptr_t) "/tmp"};

static int confine(void)
{
    char error[256];
    bool done =
        sandbox_drop(&strict, error, sizeof(error)) && sandbox_calls(&strict, error, sizeof(error));
    return done ? 0 : -1;
}

static bool has_filter(void)
{
    char line[256] = "";
    FILE *file = fopen("/proc/thread-self/status", "re");
    while (file != NULL && strncmp(line, "Seccomp:", 8) != 0)
        if (fgets(line, sizeof(line), file) == NULL)
            break;
    if (file != NULL)
        fclose(file);
    return strcmp(line, "Seccomp:\t2\n") == 0;
}

static int look_for_filter(void)
{
    return has_filter() ? 0 : ENOSYS;
}

static void skip_without_filter(void)
{
    if (inmate_try(confine, look_for_filter) != 0)
        skip();
}

/* --- what ends the process --- */

static int run_program(void)
{
    char *arguments[] = {(char *)(uintptr_t) "/bin/true", NULL};
    return inmate_errno(execve(arguments[0], arguments, NULL));
}

static int run_program_at(void)
{
    char *arguments[] = {(char *)(uintptr_t) "/bin/true", NULL};
    return inmate_errno(syscall(SYS_execveat, AT_FDCWD, arguments[0], arguments, NULL, 0));
}

static int make_ring(void)
{
    struct io_uring_params params = {0};
    return inmate_errno(syscall(SYS_io_uring_setup, 8, &params));
}

static int trace(void)
{
    return inmate_errno(ptrace(PTRACE_SEIZE, getppid(), 0, 0));
}

static int read_process(void)
{
    char octet;
    struct iovec here = {&octet, 1}, there = {&octet, 1};
    return inmate_errno(process_vm_readv(getppid(), &here, 1, &there, 1, 0));
}

static int write_process(void)
{
    char octet = 0;
    struct iovec here = {&octet, 1}, there = {&octet, 1};
    return inmate_errno(process_vm_writev(getppid(), &here, 1, &there, 1, 0));
}

static int load_bpf(void)
{
    return inmate_errno(syscall(SYS_bpf, 0, NULL, 0));
}

static int mount_something(void)
{
    return inmate_errno(mount("none", "/mnt", "tmpfs", 0, NULL));
}

static int make_namespace(void)
{
    return inmate_errno(unshare(CLONE_NEWUSER));
}

static int load_module(void)
{
    return inmate_errno(syscall(SYS_init_module, NULL, 0, ""));
}

static int load_kernel(void)
{
    return inmate_errno(syscall(SYS_kexec_load, 0, 0, NULL, 0));
}

static int read_keys(void)
{
    return inmate_errno(syscall(SYS_keyctl, 0, 0, 0, 0, 0));
}

static int count_events(void)
{
    return inmate_errno(syscall(SYS_perf_event_open, NULL, 0, -1, -1, 0));
}

static int change_root(void)
{
    return inmate_errno(chroot("/tmp"));
}

static int take_faults(void)
{
    return inmate_errno(syscall(SYS_userfaultfd, 0));
}

static void deadly(void **state)
{
    static int (*const attempts[])(void) = {
        run_program,     run_program_at, make_ring,   trace,       read_process,
        write_process,   load_bpf,       load_module, load_kernel, read_keys,
        mount_something, make_namespace, change_root, take_faults, count_events,
    };
    (void)state;
    skip_without_filter();
    for (size_t i = 0; i < sizeof(attempts) / sizeof(attempts[0]); i++)
        if (inmate_try(confine, attempts[i]) != INMATE_KILLED)
            fail_msg("attempt %zu was survived", i);
}

/* --- what is refused --- */

static int open_packets(void)
{
    return inmate_errno(socket(AF_PACKET, SOCK_RAW, 0));
}

static int open_netlink(void)
{
    return inmate_errno(socket(AF_NETLINK, SOCK_RAW, 0));
}

static int open_crypto(void)
{
    return inmate_errno(socket(38 /* AF_ALG */, SOCK_SEQPACKET, 0));
}

static int open_vm(void)
{
    return inmate_errno(socket(40 /* AF_VSOCK */, SOCK_STREAM, 0));
}

static int start_listening(void)
{
    int descriptor = socket(AF_INET, SOCK_STREAM, 0);
    return descriptor < 0 ? ENOTSOCK : inmate_errno(listen(descriptor, 1));
}

static int make_process(void)
{
    long child = syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL);
    if (child == 0)
        _exit(0);
    return inmate_errno(child);
}

static int map_code(void)
{
    void *memory = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return memory == MAP_FAILED ? errno : 0;
}

static int make_code(void)
{
    void *memory = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return memory == MAP_FAILED ? EINVAL
                                : inmate_errno(mprotect(memory, 4096, PROT_READ | PROT_EXEC));
}

static int allow_dumps(void)
{
    return inmate_errno(prctl(PR_SET_DUMPABLE, 1, 0, 0, 0));
}

static int signal_parent(void)
{
    return inmate_errno(kill(getppid(), 0));
}

static int become_root(void)
{
    return inmate_errno(syscall(SYS_setuid, 0));
}

static int mark_special(void)
{
    return inmate_errno(chmod("/tmp/ringmx-sandbox-none", 04755));
}

static int mark_special_at(void)
{
    return inmate_errno(fchmodat(AT_FDCWD, "/tmp/ringmx-sandbox-none", 02755, 0));
}

static int mark_special_open(void)
{
    return inmate_errno(fchmod(0, 06700));
}

static int make_special(void)
{
    return inmate_errno(open("/tmp", O_TMPFILE | O_WRONLY | O_CLOEXEC, 04700));
}

static int make_special_named(void)
{
    return inmate_errno(open("/tmp/ringmx-sandbox/none", O_CREAT | O_WRONLY | O_CLOEXEC, 02700));
}

static int make_link(void)
{
    return inmate_errno(symlink("/etc/passwd", "/tmp/ringmx-sandbox-link"));
}

static int make_device(void)
{
    return inmate_errno(mknod("/tmp/ringmx-sandbox-device", S_IFIFO | 0600, 0));
}

static int give_away(void)
{
    return inmate_errno(chown("/tmp", 1, 1));
}

static int raise_others_limit(void)
{
    struct rlimit limit;
    return inmate_errno(syscall(SYS_prlimit64, getppid(), RLIMIT_NOFILE, NULL, &limit));
}

static int type_for_others(void)
{
    char letter = 'x';
    return inmate_errno(ioctl(0, TIOCSTI, &letter));
}

static int register_files(void)
{
    return inmate_errno(syscall(SYS_io_uring_register, -1, IORING_REGISTER_FILES, NULL, 0));
}

static void refused(void **state)
{
    static int (*const attempts[])(void) = {
        open_packets,    open_netlink,       open_crypto,  open_vm,         start_listening,
        make_process,    map_code,           make_code,    allow_dumps,     signal_parent,
        become_root,     make_link,          make_device,  give_away,       raise_others_limit,
        type_for_others, register_files,     mark_special, mark_special_at, mark_special_open,
        make_special,    make_special_named,
    };
    (void)state;
    skip_without_filter();
    for (size_t i = 0; i < sizeof(attempts) / sizeof(attempts[0]); i++) {
        int result = inmate_try(confine, attempts[i]);
        if (result != EPERM)
            fail_msg("attempt %zu: %d", i, result);
    }
}

/* --- a thread that was there before --- */

static _Atomic int stage;
static int thread_result;

static void *wait_and_listen(void *argument)
{
    (void)argument;
    while (stage == 0)
        usleep(1000);
    thread_result = has_filter() ? start_listening() : ENOSYS;
    return NULL;
}

static int confine_with_thread(void)
{
    static pthread_t thread;
    if (pthread_create(&thread, NULL, wait_and_listen, NULL) != 0 || confine() != 0)
        return -1;
    stage = 1;
    return pthread_join(thread, NULL);
}

static int tell_thread_result(void)
{
    return thread_result;
}

static void older_threads_too(void **state)
{
    (void)state;
    skip_without_filter();
    assert_int_equal(inmate_try(confine_with_thread, tell_thread_result), EPERM);
}

/* --- what works --- */

static void *be_there(void *argument)
{
    return argument;
}

static int start_thread(void)
{
    pthread_t thread;
    int mark = 0;
    void *result = NULL;
    int error = pthread_create(&thread, NULL, be_there, &mark);
    return error != 0 ? error : pthread_join(thread, &result) != 0 || result != &mark;
}

static int look_up_user(void)
{
    const struct passwd *user = getpwnam("root");
    return user != NULL && user->pw_uid == 0 ? 0 : EINVAL;
}

static int use_files(void)
{
    char path[] = "/tmp/ringmx-sandbox-XXXXXX";
    int descriptor = mkstemp(path);
    if (descriptor < 0)
        return errno;
    bool done = pwrite(descriptor, "x", 1, 0) == 1 && fdatasync(descriptor) == 0 &&
                posix_fallocate(descriptor, 0, 8192) == 0 && ftruncate(descriptor, 1) == 0 &&
                fchmod(descriptor, 0640) == 0 && chmod(path, 0600) == 0;
    return unlink(path) == 0 && close(descriptor) == 0 && done ? 0 : EINVAL;
}

static int use_network(void)
{
    struct sockaddr_in nobody = {.sin_family = AF_INET, .sin_port = htons(1)};
    nobody.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int families[] = {AF_INET, AF_INET6, AF_UNIX};
    for (size_t i = 0; i < 3; i++)
        if (socket(families[i], SOCK_STREAM | SOCK_CLOEXEC, 0) < 0 && errno != EAFNOSUPPORT)
            return errno;
    int descriptor = socket(AF_INET, SOCK_STREAM, 0);
    if (connect(descriptor, (const struct sockaddr *)&nobody, sizeof(nobody)) == 0)
        return 0;
    return errno == ECONNREFUSED ? 0 : errno;
}

static int abort_itself(void)
{
    signal(SIGABRT, SIG_IGN);
    return inmate_errno(raise(SIGABRT) == 0 ? 0 : -1);
}

static void needed(void **state)
{
    (void)state;
    skip_without_filter();
    assert_int_equal(inmate_try(confine, start_thread), 0);
    assert_int_equal(inmate_try(confine, look_up_user), 0);
    assert_int_equal(inmate_try(confine, use_files), 0);
    assert_int_equal(inmate_try(confine, use_network), 0);
    assert_int_equal(inmate_try(confine, abort_itself), 0);
}

/* --- off --- */

static int confine_not(void)
{
    char error[256];
    struct config off = strict;
    off.seccomp = false;
    return sandbox_drop(&off, error, sizeof(error)) && sandbox_calls(&off, error, sizeof(error))
               ? 0
               : -1;
}

static int look_for_privileges(void)
{
    return prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1 ? 0 : EINVAL;
}

static void turned_off(void **state)
{
    (void)state;
    assert_int_equal(inmate_try(confine_not, look_for_filter), ENOSYS);
    assert_int_equal(inmate_try(confine_not, start_listening), 0);
    assert_int_equal(inmate_try(confine_not, look_for_privileges), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(deadly), cmocka_unit_test(refused),    cmocka_unit_test(older_threads_too),
        cmocka_unit_test(needed), cmocka_unit_test(turned_off),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
