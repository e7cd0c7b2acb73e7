/* Words of the command lines of the bench programs: numbers, sizes, durations, rates, ranges, and
 * the exit when one of them is none. */
#ifndef BENCH_WORDS_H
#define BENCH_WORDS_H

#include <stdint.h>
#include <sys/resource.h>

/* words_program sets the name that words_die puts in front; call it first. words_die prints the
 * message and exits with 2. */
void words_program(const char *name);
__attribute__((format(printf, 1, 2), noreturn)) void words_die(const char *format, ...);

/* Each reads all of `text`, the value of --`name`, or exits through words_die with a message that
 * names both and what is allowed. */
uint64_t words_count(const char *name, const char *text, uint64_t min, uint64_t max);
double words_number(const char *name, const char *text, double min, double max);

/* "4096", "64k", "10M" (powers of ten: 64k is 64,000; "64Ki", "1Mi" are powers of two), octets. */
uint64_t words_size(const char *name, const char *text, uint64_t min, uint64_t max);

/* "250us", "10ms", "2s", "1m"; a bare number is seconds. In microseconds. */
uint64_t words_duration_us(const char *name, const char *text);

/* "10%" or "0.1", from 0 to 1. */
double words_rate(const char *name, const char *text);

/* "5" or "1-100". */
struct words_range {
    uint32_t min, max;
};
struct words_range words_range(const char *name, const char *text, uint32_t min, uint32_t max);

/* words_choice returns the index of `text` in `words` (NULL at the end). */
unsigned words_choice(const char *name, const char *text, const char *const words[]);

/* words_files allows this process `count` open files, or exits. */
void words_files(rlim_t count);

#endif
