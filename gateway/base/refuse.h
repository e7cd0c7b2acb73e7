/* How a function that can't do what it was asked says why: a sentence in the caller's `error`. */
#ifndef GATEWAY_BASE_REFUSE_H
#define GATEWAY_BASE_REFUSE_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

/* refuse writes the sentence, printf-formatted and cut to `error_size` with its NUL. Returns false,
 * for `return refuse(...)`. */
__attribute__((format(printf, 3, 4))) static inline bool refuse(char *error, size_t error_size,
                                                                const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(error, error_size, format, arguments);
    va_end(arguments);
    return false;
}

#endif
