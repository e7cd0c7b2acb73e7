/* Reading the words of command lines: see words.h. All of a word is read or none of it: a number
 * with something behind it, too large, or with a sign is refused with a message that says what is
 * allowed. */
#include "bench/words.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *program = "ringmx";

void words_program(const char *name)
{
    program = name;
}

void words_die(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fflush(stdout);
    fprintf(stderr, "%s: ", program);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(2);
}

/* digits_read reads the digits that `text` begins with, at least one, and returns what follows
 * them; NULL: there are none, or too many. */
static const char *digits_read(const char *text, uint64_t *number)
{
    if (*text < '0' || *text > '9')
        return NULL;
    char *end;
    errno = 0;
    *number = strtoull(text, &end, 10);
    return errno == 0 ? end : NULL;
}

/* decimal_read does the same with a decimal number: digits, with a point among them perhaps. */
static const char *decimal_read(const char *text, double *number)
{
    size_t whole = strspn(text, "0123456789");
    size_t len = whole;
    if (text[whole] == '.')
        len += 1 + strspn(text + whole + 1, "0123456789");
    if (len == 0 || (len == 1 && whole == 0))
        return NULL;
    *number = strtod(text, NULL);
    return text + len;
}

uint64_t words_count(const char *name, const char *text, uint64_t min, uint64_t max)
{
    uint64_t number;
    const char *end = digits_read(text, &number);
    if (end == NULL || *end != '\0' || number < min || number > max)
        words_die("--%s: \"%s\" is not a number from %llu to %llu", name, text,
                  (unsigned long long)min, (unsigned long long)max);
    return number;
}

double words_number(const char *name, const char *text, double min, double max)
{
    double number;
    const char *end = decimal_read(text, &number);
    if (end == NULL || *end != '\0' || number < min || number > max)
        words_die("--%s: \"%s\" is not a number from %.12g to %.12g", name, text, min, max);
    return number;
}

uint64_t words_size(const char *name, const char *text, uint64_t min, uint64_t max)
{
    static const struct {
        const char *name;
        uint64_t octets;
    } units[] = {
        {"",   1                },
        {"k",  1000             },
        {"K",  1000             },
        {"M",  1000000          },
        {"G",  1000000000       },
        {"Ki", UINT64_C(1) << 10},
        {"Mi", UINT64_C(1) << 20},
        {"Gi", UINT64_C(1) << 30},
    };
    uint64_t number;
    const char *end = digits_read(text, &number);
    for (size_t i = 0; end != NULL && i < sizeof(units) / sizeof(units[0]); i++) {
        if (strcmp(end, units[i].name) != 0)
            continue;
        if (__builtin_mul_overflow(number, units[i].octets, &number) || number < min ||
            number > max)
            break;
        return number;
    }
    words_die("--%s: \"%s\" is not a size from %llu to %llu, as 4096, 64k or 1Mi", name, text,
              (unsigned long long)min, (unsigned long long)max);
}

uint64_t words_duration_us(const char *name, const char *text)
{
    static const struct {
        const char *name;
        double us;
    } units[] = {
        {"",   1e6   },
        {"us", 1     },
        {"ms", 1e3   },
        {"s",  1e6   },
        {"m",  60e6  },
        {"h",  3600e6},
    };
    const double us_max = 1e15; /* 31 years */
    double number;
    const char *end = decimal_read(text, &number);
    for (size_t i = 0; end != NULL && i < sizeof(units) / sizeof(units[0]); i++)
        if (strcmp(end, units[i].name) == 0 && number * units[i].us <= us_max)
            return (uint64_t)(number * units[i].us + 0.5);
    words_die("--%s: \"%s\" is not a time, as 250us, 10ms, 2s or 1m", name, text);
}

double words_rate(const char *name, const char *text)
{
    double rate;
    const char *end = decimal_read(text, &rate);
    if (end != NULL && *end == '%') {
        rate /= 100;
        end++;
    }
    if (end == NULL || *end != '\0' || rate > 1)
        words_die("--%s: \"%s\" is not a rate from 0 to 1, as 10%% or 0.1", name, text);
    return rate;
}

struct words_range words_range(const char *name, const char *text, uint32_t min, uint32_t max)
{
    uint64_t first, last;
    const char *end = digits_read(text, &first);
    last = first;
    if (end != NULL && *end == '-')
        end = digits_read(end + 1, &last);
    if (end == NULL || *end != '\0' || first < min || last < first || last > max)
        words_die("--%s: \"%s\" is not a number from %u to %u, or a range as 1-100", name, text,
                  min, max);
    return (struct words_range){(uint32_t)first, (uint32_t)last};
}

unsigned words_choice(const char *name, const char *text, const char *const words[])
{
    char list[512] = "";
    size_t at = 0;
    for (unsigned i = 0; words[i] != NULL; i++) {
        if (strcmp(text, words[i]) == 0)
            return i;
        const char *between = i == 0 ? "" : words[i + 1] == NULL ? " or " : ", ";
        if (at < sizeof list)
            at += (size_t)snprintf(list + at, sizeof list - at, "%s%s", between, words[i]);
    }
    words_die("--%s: \"%s\" is not %s", name, text, list);
}

void words_files(rlim_t count)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur >= count)
        return;
    struct rlimit wanted = {count, limit.rlim_max > count ? limit.rlim_max : count};
    if (setrlimit(RLIMIT_NOFILE, &wanted) < 0)
        words_die("%llu files are needed; raise the limit (ulimit -n)", (unsigned long long)count);
}
