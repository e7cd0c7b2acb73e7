/* How a function of tls/ that reads files says what is wrong with them. */
#ifndef TLS_COMPLAINT_H
#define TLS_COMPLAINT_H

#include <openssl/err.h>

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>

/* Where the sentence goes; borrowed. */
struct complaint {
    char *text;
    size_t size;
};

/* complain writes the sentence and returns false, as its caller then does, too. */
__attribute__((format(printf, 2, 3))) static inline bool complain(struct complaint complaint,
                                                                  const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(complaint.text, complaint.size, format, arguments);
    va_end(arguments);
    ERR_clear_error();
    return false;
}

#endif
