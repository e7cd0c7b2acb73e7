/* The newest lines at warn and error, for those who look later. Their port notes where each begins;
 * the log thread copies them on its way, so that it need not read all lines to find the few. See
 * log.h. */
#include "gateway/base/log_port.h"

void log_recent_mark(struct log_port *port, enum log_level level, uint64_t position)
{
    uint32_t head = atomic_load_explicit(&port->mark_head, memory_order_relaxed);
    uint32_t tail = atomic_load_explicit(&port->mark_tail, memory_order_acquire);
    if (head - tail >= (level == LOG_ERROR ? LOG_MARKS_MAX : LOG_MARKS_WARN_MAX))
        return; /* a flood: the first of them will do */
    port->marks[head % LOG_MARKS_MAX] = (struct log_mark){position, level};
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
    for (; tail != head && port->marks[tail % LOG_MARKS_MAX].position < port->taken; tail++) {
        const struct log_mark *mark = &port->marks[tail % LOG_MARKS_MAX];
        struct log_kept *kept = &log->recent[mark->level];
        copy_line(port, mark->position, port->taken, &kept->lines[kept->count % LOG_RECENT_EACH]);
        kept->numbers[kept->count++ % LOG_RECENT_EACH] = log->recent_count++;
    }
    pthread_mutex_unlock(&log->recent_mutex);
    atomic_store_explicit(&port->mark_tail, tail, memory_order_release);
}

/* newest returns the newest line of a level but for `back` others, and its number; NULL: there are
 * not so many. */
static const struct log_recent *newest(const struct log_kept *kept, uint32_t back, uint64_t *number)
{
    if (back == LOG_RECENT_EACH || back >= kept->count)
        return NULL;
    uint64_t place = (kept->count - 1 - back) % LOG_RECENT_EACH;
    *number = kept->numbers[place];
    return &kept->lines[place];
}

uint32_t log_recent(struct log *log, struct log_recent *out, uint32_t count, uint64_t *sequence)
{
    const struct log_recent *found[LOG_RECENT_MAX];
    uint32_t back[2] = {0, 0}, copied = 0;
    pthread_mutex_lock(&log->recent_mutex);
    for (; copied < count && copied < LOG_RECENT_MAX; copied++) {
        uint64_t error_number = 0, warning_number = 0;
        const struct log_recent *error =
            newest(&log->recent[LOG_ERROR], back[LOG_ERROR], &error_number);
        const struct log_recent *warning =
            newest(&log->recent[LOG_WARN], back[LOG_WARN], &warning_number);
        if (error == NULL && warning == NULL)
            break;
        bool is_error = warning == NULL || (error != NULL && error_number > warning_number);
        found[copied] = is_error ? error : warning;
        back[is_error ? LOG_ERROR : LOG_WARN]++;
    }
    for (uint32_t i = 0; i < copied; i++)
        out[i] = *found[copied - 1 - i];
    *sequence = log->recent_count;
    pthread_mutex_unlock(&log->recent_mutex);
    return copied;
}
