/* Counters with one writer and any readers: a plain add, without a locked instruction. */
#ifndef GATEWAY_BASE_COUNTER_H
#define GATEWAY_BASE_COUNTER_H

#include <assert.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

static inline void counter_add(_Atomic uint64_t *counter, uint64_t count)
{
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + count,
                          memory_order_relaxed);
}

static inline uint64_t counter_read(const _Atomic uint64_t *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}

/* counter_publish shows `in` of `size` octets, a multiple of 8, to other threads, a word at a time;
 * counter_collect is how they read it. Words of one moment may stand beside those of the next. */
static inline void counter_publish(_Atomic uint64_t *words, const void *in, size_t size)
{
    for (size_t i = 0; i < size / sizeof(uint64_t); i++) {
        uint64_t word;
        memcpy(&word, (const char *)in + i * sizeof(word), sizeof(word));
        atomic_store_explicit(&words[i], word, memory_order_relaxed);
    }
}

static inline void counter_collect(const _Atomic uint64_t *words, void *out, size_t size)
{
    for (size_t i = 0; i < size / sizeof(uint64_t); i++) {
        uint64_t word = counter_read(&words[i]);
        memcpy((char *)out + i * sizeof(word), &word, sizeof(word));
    }
}

#endif
