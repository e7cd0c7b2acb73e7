/* The newest lines at warn and error, for those who look later. Their port notes where each begins;
 * the log thread copies them on its way, so that it need not read all lines to find the few. See
 * log.h. */
#include "gateway/base/log_port.h"

void log_recent_mark(struct log_port *port, uint64_t position)
{
    uint32_t head = atomic_load_explicit(&port->mark_head, memory_order_relaxed);
    uint32_t tail = atomic_load_explicit(&port->mark_tail, memory_order_acquire);
    if (head - tail == LOG_MARKS_MAX)
        return; /* a flood: the first of them will do */
    port->marks[head % LOG_MARKS_MAX] = position;
    atomic_store_explicit(&port->mark_head, head + 1, memory_order_release);
}

/* copy_line copies a line of a ring that begins at `position` and ends before `end`. */
static void copy_line(const struct log_port *port, uint64_t position, uint64_t end,
                      struct log_recent *out)
{
    size_t len = 0;
    bool cut = true;
    if (port->ring[position % LOG_RING_SIZE] == '<')
        position += 3; /* the priority */
    for (; position < end && len < LOG_RECENT_TEXT_MAX - 1; position++) {
        char octet = port->ring[position % LOG_RING_SIZE];
        cut = octet != '\n';
        if (!cut)
            break;
        out->text[len++] = octet;
    }
    /* No half of a character of UTF-8. */
    while (cut && len > 0 && ((uint8_t)out->text[len - 1] & 0xc0) == 0x80)
        len--;
    if (cut && len > 0 && (uint8_t)out->text[len - 1] >= 0xc0)
        len--;
    out->text[len] = '\0';
}

void log_recent_gather(struct log *log, struct log_port *port)
{
    uint32_t head = atomic_load_explicit(&port->mark_head, memory_order_acquire);
    uint32_t tail = atomic_load_explicit(&port->mark_tail, memory_order_relaxed);
    if (head == tail)
        return;
    pthread_mutex_lock(&log->recent_mutex);
    for (; tail != head && port->marks[tail % LOG_MARKS_MAX] < port->taken; tail++) {
        copy_line(port, port->marks[tail % LOG_MARKS_MAX], port->taken,
                  &log->recent[log->recent_count % LOG_RECENT_MAX]);
        log->recent_count++;
    }
    pthread_mutex_unlock(&log->recent_mutex);
    atomic_store_explicit(&port->mark_tail, tail, memory_order_release);
}

uint32_t log_recent(struct log *log, struct log_recent *out, uint32_t count, uint64_t *sequence)
{
    pthread_mutex_lock(&log->recent_mutex);
    uint64_t newest = log->recent_count;
    uint64_t kept = newest < LOG_RECENT_MAX ? newest : LOG_RECENT_MAX;
    uint32_t copied = count < kept ? count : (uint32_t)kept;
    for (uint32_t i = 0; i < copied; i++)
        out[i] = log->recent[(newest - copied + i) % LOG_RECENT_MAX];
    pthread_mutex_unlock(&log->recent_mutex);
    *sequence = newest;
    return copied;
}
