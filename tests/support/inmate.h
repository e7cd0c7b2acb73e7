/* What becomes of somebody in a sandbox: a child process confines itself and then tries something.
 * What it says with _exit, or the signal that ends it, is the answer. */
#ifndef TESTS_SUPPORT_INMATE_H
#define TESTS_SUPPORT_INMATE_H

/* Returned for a child that died of SIGSYS: no errno is so large. */
enum { INMATE_KILLED = 200, INMATE_BROKEN = 201 };

/* inmate_try runs `confine`, then `attempt` in a child and returns what the latter returned: 0, or
 * an errno. INMATE_KILLED: the kernel has ended it for that. INMATE_BROKEN: it could not be
 * confined. */
int inmate_try(int (*confine)(void), int (*attempt)(void));

/* inmate_errno is for attempts: 0 when `result` is no failure, else errno. */
int inmate_errno(long result);

#endif
