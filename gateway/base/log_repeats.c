/* Floods: of an event that is bounded, each port writes so many lines a second; how many more there
 * were is told by event=repeated. A port has a short list of the events that it was bounded in,
 * which only grows: its thread adds, the log thread reads. See log.h. */
#include "gateway/base/counter.h"
#include "gateway/base/log_port.h"

/* find returns the entry of an event, a new one perhaps; NULL: there is no room for it. Mostly the
 * constant is the same one; two of the same text are one event. */
static struct log_repeat *find(struct log_port *port, enum log_level level, enum log_bound bound,
                               const char *event, size_t event_len)
{
    uint32_t count = atomic_load_explicit(&port->repeat_count, memory_order_relaxed);
    for (uint32_t i = 0; i < count; i++) {
        struct log_repeat *repeat = &port->repeats[i];
        if (repeat->event == event ||
            (repeat->event_len == event_len && memcmp(repeat->event, event, event_len) == 0))
            return repeat;
    }
    if (count == LOG_REPEATS_MAX)
        return NULL;
    struct log_repeat *repeat = &port->repeats[count];
    repeat->event = event;
    repeat->event_len = event_len;
    repeat->level = level;
    repeat->bound = bound;
    atomic_store_explicit(&port->repeat_count, count + 1, memory_order_release);
    return repeat;
}

bool log_repeats_over(struct log_port *port, enum log_level level, enum log_bound bound,
                      const char *event, size_t event_len)
{
    uint32_t max = atomic_load_explicit(&port->log->repeats, memory_order_relaxed);
    struct log_repeat *repeat = max == 0 ? NULL : find(port, level, bound, event, event_len);
    if (repeat == NULL)
        return false;
    if (repeat->second != port->time_s) {
        repeat->second = port->time_s;
        repeat->written = 0;
    }
    if (repeat->written < max) {
        repeat->written++;
        return false;
    }
    counter_add(&repeat->suppressed, 1);
    return true;
}

static void tell(struct log *log, struct log_repeat *repeat)
{
    uint64_t suppressed = counter_read(&repeat->suppressed);
    if (suppressed == repeat->told)
        return;
    struct log_line line = log_begin_audit(log->ports[0], repeat->level, "repeated");
    if (repeat->bound == LOG_BOUND_OFTEN)
        log->ports[0]->recent = LOG_DEBUG;
    log_bytes(&line, "of", repeat->event, repeat->event_len);
    log_number(&line, "count", suppressed - repeat->told);
    log_end(&line);
    repeat->told = suppressed;
    log->repeats_told = true;
}

void log_repeats_tell(struct log *log)
{
    uint32_t ports = atomic_load_explicit(&log->port_count, memory_order_acquire);
    for (uint32_t i = 0; i < ports; i++) {
        struct log_port *port = log->ports[i];
        uint32_t count = atomic_load_explicit(&port->repeat_count, memory_order_acquire);
        for (uint32_t n = 0; n < count; n++)
            tell(log, &port->repeats[n]);
    }
}

void log_repeats_told(struct log *log, bool taken)
{
    if (!log->repeats_told)
        return;
    log->repeats_told = false;
    uint32_t ports = atomic_load_explicit(&log->port_count, memory_order_acquire);
    for (uint32_t i = 0; i < ports; i++) {
        struct log_port *port = log->ports[i];
        uint32_t count = atomic_load_explicit(&port->repeat_count, memory_order_acquire);
        for (uint32_t n = 0; n < count; n++) {
            struct log_repeat *repeat = &port->repeats[n];
            if (taken)
                repeat->proven = repeat->told;
            else
                repeat->told = repeat->proven;
        }
    }
}

uint64_t log_repeats_count(const struct log_port *port)
{
    uint64_t sum = 0;
    uint32_t count = atomic_load_explicit(&port->repeat_count, memory_order_acquire);
    for (uint32_t i = 0; i < count; i++)
        sum += counter_read(&port->repeats[i].suppressed);
    return sum;
}
