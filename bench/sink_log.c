/* The account: see sink_log.h. Lines are laid out by hand: there is one for each message. */
#include "bench/sink_log.h"

#include "tls/tls.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum {
    BUFFER_SIZE = 1 << 20, /* touched as far as it is used */
    HEAD_MAX = 8192,       /* octets of a line before its forward-paths, escaped */
    TAIL_MAX = 256,        /* and behind them */
    PATH_MAX_ESCAPED = SINK_PATH_MAX * 4 + 1,
};

bool sink_log_init(struct sink_log *log, int descriptor)
{
    *log = (struct sink_log){.descriptor = descriptor, .time_s = -1};
    if (descriptor < 0)
        return true;
    log->buffer = malloc(BUFFER_SIZE);
    return log->buffer != NULL;
}

void sink_log_cleanup(struct sink_log *log)
{
    free(log->buffer);
    log->buffer = NULL;
}

void sink_log_flush(struct sink_log *log)
{
    size_t at = 0;
    while (at < log->len) {
        ssize_t wrote = write(log->descriptor, log->buffer + at, log->len - at);
        if (wrote < 0 && errno == EINTR)
            continue;
        if (wrote <= 0) {
            perror("ringmx-sink: --log");
            exit(1);
        }
        at += (size_t)wrote;
    }
    log->len = 0;
}

/* --- the parts of a line; the caller has made room --- */

static void add(struct sink_log *log, const void *data, size_t len)
{
    memcpy(log->buffer + log->len, data, len);
    log->len += len;
}

#define ADD(log, text) add(log, text, sizeof(text) - 1)

static void add_string(struct sink_log *log, const char *text)
{
    add(log, text, strlen(text));
}

static void add_number(struct sink_log *log, uint64_t number)
{
    char digits[20];
    size_t at = sizeof(digits);
    do {
        digits[--at] = (char)('0' + number % 10);
        number /= 10;
    } while (number > 0);
    add(log, digits + at, sizeof(digits) - at);
}

static void add_sum(struct sink_log *log, uint32_t sum)
{
    for (unsigned shift = 32; shift > 0; shift -= 4)
        log->buffer[log->len++] = "0123456789abcdef"[sum >> (shift - 4) & 15];
}

/* add_escaped adds what stands between quotes: a backslash before quotes and backslashes, control
 * octets as \xNN. */
static void add_escaped(struct sink_log *log, const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        uint8_t octet = (uint8_t)text[i];
        if (octet < ' ' || octet == 127) {
            log->len += (size_t)snprintf(log->buffer + log->len, 5, "\\x%02x", octet);
            continue;
        }
        if (octet == '"' || octet == '\\')
            log->buffer[log->len++] = '\\';
        log->buffer[log->len++] = (char)octet;
    }
}

static void add_quoted(struct sink_log *log, const char *text, size_t len)
{
    ADD(log, "\"");
    add_escaped(log, text, len);
    ADD(log, "\"");
}

/* add_word adds a value that a header field brought: what could end it, or is not ASCII, as "?". */
static void add_word(struct sink_log *log, const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        bool plain = text[i] > ' ' && text[i] < 127 && text[i] != '"' && text[i] != '\\';
        log->buffer[log->len++] = plain ? text[i] : '?';
    }
}

static void add_time(struct sink_log *log, uint64_t wall_us)
{
    time_t seconds = (time_t)(wall_us / 1000000);
    if (seconds != log->time_s) {
        struct tm tm;
        gmtime_r(&seconds, &tm);
        strftime(log->time, sizeof(log->time), "%Y-%m-%dT%H:%M:%S.", &tm);
        log->time_s = seconds;
    }
    unsigned ms = (unsigned)(wall_us / 1000 % 1000);
    char digits[4] = {(char)('0' + ms / 100), (char)('0' + ms / 10 % 10), (char)('0' + ms % 10),
                      'Z'};
    add_string(log, log->time);
    add(log, digits, sizeof(digits));
}

/* --- the groups of keys --- */

static void add_text(struct sink_log *log, const struct sink_message *message)
{
    static const struct {
        unsigned bit;
        const char *key;
    } seen[] = {
        {SCAN_SEEN_BARE_CR, " bare_cr=true"},
        {SCAN_SEEN_BARE_LF, " bare_lf=true"},
        {SCAN_SEEN_NUL,     " nul=true"    },
        {SCAN_SEEN_8BIT,    " 8bit=true"   },
    };
    if (message->load_id_len > 0) {
        ADD(log, " load_id=");
        add_word(log, message->load_id, message->load_id_len);
    }
    if (message->load_sum_len > 0) {
        ADD(log, " load_sum=");
        add_word(log, message->load_sum, message->load_sum_len);
    }
    ADD(log, " sum=");
    add_sum(log, message->sum);
    ADD(log, " size=");
    add_number(log, message->octets);
    if (message->chunked)
        ADD(log, " chunked=true");
    for (size_t i = 0; i < sizeof(seen) / sizeof(seen[0]); i++)
        if (message->scan.seen & seen[i].bit)
            add_string(log, seen[i].key);
}

static void add_tls(struct sink_log *log, const struct tls_info *tls)
{
    if (tls == NULL)
        return;
    ADD(log, " tls=");
    add_string(log, tls->version);
    ADD(log, " cipher=");
    add_string(log, tls->cipher);
    if (tls->resumed)
        ADD(log, " resumed=true");
    if (*tls->server_name == '\0')
        return;
    ADD(log, " sni=");
    add_word(log, tls->server_name, strnlen(tls->server_name, 255));
}

/* add_recipients adds the forward-paths for which the message was accepted. A list that is longer
 * than the buffer is cut, and says so. */
static void add_recipients(struct sink_log *log, const struct sink_message *message)
{
    ADD(log, " to=\"");
    bool first = true;
    bool cut = false;
    for (const struct sink_recipient *at = message->recipients; at != NULL; at = at->next) {
        if (at->fault != SINK_FAULT_NONE)
            continue;
        if (log->len + PATH_MAX_ESCAPED + TAIL_MAX > BUFFER_SIZE) {
            cut = true;
            break;
        }
        if (!first)
            ADD(log, ",");
        first = false;
        add_escaped(log, at->path.text, at->path.len);
    }
    ADD(log, "\"");
    if (cut)
        ADD(log, " cut=true");
}

void sink_log_message(struct sink_log *log, const struct sink_message *message,
                      const struct sink_log_context *context)
{
    if (log->descriptor < 0)
        return;
    if (log->len > BUFFER_SIZE / 2)
        sink_log_flush(log);
    static_assert(BUFFER_SIZE / 2 > HEAD_MAX + PATH_MAX_ESCAPED * 2 + TAIL_MAX, "a line has room");
    ADD(log, "time=");
    add_time(log, context->now_wall_us);
    ADD(log, " event=message number=");
    add_number(log, context->number);
    ADD(log, " session=");
    add_number(log, context->session);
    add_text(log, message);
    add_tls(log, context->tls);
    ADD(log, " from=");
    add_quoted(log, message->reverse_path->text, message->reverse_path->len);
    add_recipients(log, message);
    ADD(log, "\n");
}
