/* The choices: see sink_fault.h. */
#include "bench/sink_fault.h"

#include <stdlib.h>
#include <string.h>

static const uint64_t whole = UINT64_C(1) << 32;

const char *const sink_phase_names[SINK_PHASE_COUNT] = {
    [SINK_PHASE_CONNECT] = "connect",   [SINK_PHASE_EHLO] = "ehlo",
    [SINK_PHASE_STARTTLS] = "starttls", [SINK_PHASE_MAIL] = "mail",
    [SINK_PHASE_RCPT] = "rcpt",         [SINK_PHASE_DATA] = "data",
    [SINK_PHASE_DOT] = "dot",           [SINK_PHASE_QUIT] = "quit",
};

const char *const sink_fault_names[SINK_FAULT_COUNT] = {
    [SINK_FAULT_NONE] = "none",
    [SINK_FAULT_REFUSE] = "refused",
    [SINK_FAULT_TEMPFAIL] = "tempfailed",
    [SINK_FAULT_DROP] = "dropped",
};

/* --- reading --- */

/* phase_read finds the rule of the phase that `*text` begins with, and moves it behind the name. */
static struct sink_fault_rule *phase_read(struct sink_faults *faults, const char **text)
{
    size_t len = strcspn(*text, "=");
    for (size_t i = 0; i < SINK_PHASE_COUNT; i++) {
        if (strlen(sink_phase_names[i]) != len || memcmp(sink_phase_names[i], *text, len) != 0)
            continue;
        *text += len;
        return &faults->rules[i];
    }
    return NULL;
}

/* share_read reads a rate that `end` ends ("10%", "0.1"), and moves `*text` there. */
static bool share_read(const char **text, char end, uint64_t *share)
{
    char *behind;
    double rate = strtod(*text, &behind);
    if (behind == *text)
        return false;
    if (*behind == '%') {
        rate /= 100;
        behind++;
    }
    if (!(rate >= 0 && rate <= 1) || *behind != end)
        return false;
    *text = behind;
    *share = (uint64_t)(rate * (double)whole + 0.5);
    return true;
}

static bool time_read(const char *text, uint64_t *time_us)
{
    static const struct {
        const char *name;
        double us;
    } units[] = {
        {"us", 1  },
        {"ms", 1e3},
        {"s",  1e6}
    };
    char *behind;
    double number = strtod(text, &behind);
    if (behind == text || !(number >= 0 && number < 1e6))
        return false;
    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
        if (strcmp(behind, units[i].name) == 0) {
            *time_us = (uint64_t)(number * units[i].us);
            return *time_us > 0;
        }
    }
    return false;
}

bool sink_fault_parse(struct sink_faults *faults, enum sink_fault fault, const char *text)
{
    struct sink_fault_rule *rule = phase_read(faults, &text);
    if (rule == NULL)
        return false;
    rule->shares[fault] = whole;
    if (*text == '=') {
        text++;
        if (!share_read(&text, '\0', &rule->shares[fault]))
            return false;
    }
    uint64_t sum = 0;
    for (size_t i = 0; i < SINK_FAULT_COUNT; i++)
        sum += rule->shares[i];
    return sum <= whole;
}

bool sink_fault_parse_delay(struct sink_faults *faults, const char *text)
{
    struct sink_fault_rule *rule = phase_read(faults, &text);
    if (rule == NULL || *text++ != '=')
        return false;
    rule->delay_share = whole;
    if (strchr(text, ':') != NULL &&
        (!share_read(&text, ':', &rule->delay_share) || *text++ != ':'))
        return false;
    return time_read(text, &rule->delay_us);
}

/* --- choosing --- */

/* draw gives 32 bits for the n-th choice of a kind: SplitMix64 (Steele, Lea, Flood 2014), entered
 * at any point of its sequence. */
static uint64_t draw(const struct sink_faults *faults, unsigned kind, uint64_t n)
{
    uint64_t word = faults->seed * UINT64_C(0xd1342543de82ef95) + (uint64_t)kind * (whole << 24) +
                    (n + 1) * UINT64_C(0x9e3779b97f4a7c15);
    word = (word ^ word >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    word = (word ^ word >> 27) * UINT64_C(0x94d049bb133111eb);
    return (word ^ word >> 31) >> 32;
}

enum sink_fault sink_fault_choose(struct sink_faults *faults, enum sink_phase phase)
{
    const struct sink_fault_rule *rule = &faults->rules[phase];
    uint64_t limit = 0;
    for (unsigned i = 0; i < SINK_FAULT_COUNT; i++)
        limit += rule->shares[i];
    if (limit == 0)
        return SINK_FAULT_NONE;
    uint64_t n = atomic_fetch_add_explicit(&faults->chosen[phase], 1, memory_order_relaxed);
    uint64_t drawn = draw(faults, phase, n);
    limit = 0;
    for (unsigned i = SINK_FAULT_NONE + 1; i < SINK_FAULT_COUNT; i++) {
        limit += rule->shares[i];
        if (drawn < limit)
            return (enum sink_fault)i;
    }
    return SINK_FAULT_NONE;
}

uint64_t sink_fault_delay_us(struct sink_faults *faults, enum sink_phase phase)
{
    const struct sink_fault_rule *rule = &faults->rules[phase];
    if (rule->delay_share == 0)
        return 0;
    uint64_t n = atomic_fetch_add_explicit(&faults->delayed[phase], 1, memory_order_relaxed);
    return draw(faults, SINK_PHASE_COUNT + phase, n) < rule->delay_share ? rule->delay_us : 0;
}
