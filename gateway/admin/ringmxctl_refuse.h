/* How ringmxctl says that it can't do what it was asked, and with which exit code it then ends
 * (sysexits.h). */
#ifndef GATEWAY_ADMIN_RINGMXCTL_REFUSE_H
#define GATEWAY_ADMIN_RINGMXCTL_REFUSE_H

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <sysexits.h>

/* ringmxctl_refuse writes a line to standard error, printf-formatted. Returns the exit code, for
 * `return ringmxctl_refuse(...)`. */
__attribute__((format(printf, 2, 3))) static inline int ringmxctl_refuse(int exit_code,
                                                                         const char *format, ...)
{
    va_list arguments;
    fputs("ringmxctl: ", stderr);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    return exit_code;
}

/* ringmxctl_exit_code tells which code stands for an errno of a file. */
static inline int ringmxctl_exit_code(int error)
{
    return error == ENOENT ? EX_NOINPUT : error == EACCES || error == EPERM ? EX_NOPERM : EX_IOERR;
}

#endif
