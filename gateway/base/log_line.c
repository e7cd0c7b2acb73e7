/* The text of a line, formatted by hand straight into the ring: a line with eight keys costs about
 * as much as one snprintf of a number. See log.h. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "gateway/base/characters.h"
#include "gateway/base/check.h"
#include "gateway/base/counter.h"
#include "gateway/base/log_port.h"

/* Octets at the end of a line that no key may use: a brace and the line end. */
enum { CLOSING_LEN = 2 };

/* Keys and events are constants of ours, cut here so that no mistake runs past the line. */
enum { CONSTANT_LEN_MAX = 64 };

/* What stands between time and event, padded so that a copy has a fixed length. */
struct level_text {
    char text[32];
    uint8_t len;
};

#define LOGFMT(level)                                                                              \
    {                                                                                              \
        " level=" level " event=", sizeof(" level=" level " event=") - 1                           \
    }
#define JSON(level)                                                                                \
    {                                                                                              \
        "\",\"level\":\"" level "\",\"event\":\"",                                                 \
            sizeof("\",\"level\":\"" level "\",\"event\":\"") - 1                                  \
    }

static const struct level_text levels[2][4] = {
    [LOG_LOGFMT] = {[LOG_ERROR] = LOGFMT("error"),
                    [LOG_WARN] = LOGFMT("warn"),
                    [LOG_INFO] = LOGFMT("info"),
                    [LOG_DEBUG] = LOGFMT("debug")},
    [LOG_JSON] = {[LOG_ERROR] = JSON("error"),
                    [LOG_WARN] = JSON("warn"),
                    [LOG_INFO] = JSON("info"),
                    [LOG_DEBUG] = JSON("debug")  },
};

/* sd-daemon(3): LOG_ERR, LOG_WARNING, LOG_INFO and LOG_DEBUG of syslog(3). */
enum { PRIORITY_LEN = 3 };
static const char priorities[4][PRIORITY_LEN + 1] = {
    [LOG_ERROR] = "<3>", [LOG_WARN] = "<4>", [LOG_INFO] = "<6>", [LOG_DEBUG] = "<7>"};

static bool put_plain(char *at, const uint8_t *data, size_t len, bool json);
static char *put_constant(char *at, const char *text, size_t len);
static char *put(char *at, const char *text, size_t len);
static char *put_escaped(char *at, const uint8_t *data, size_t len, enum log_format format);
static bool has_room(struct log_port *port, uint64_t head);

bool log_wanted(const struct log_port *port, enum log_level level)
{
    return port != NULL &&
           level <= (atomic_load_explicit(&port->log->mode, memory_order_relaxed) & LOG_MODE_LEVEL);
}

struct log_line log_line_begin(struct log_port *port, enum log_level level, enum log_bound bound,
                               const char *event, size_t event_len)
{
    if (port == NULL)
        return (struct log_line){0};
    uint32_t mode = atomic_load_explicit(&port->log->mode, memory_order_relaxed);
    if (level > (mode & LOG_MODE_LEVEL))
        return (struct log_line){0};
    CHECK(!port->open);
    log_time(port);
    if ((level <= LOG_WARN || bound == LOG_BOUND_OFTEN) && bound != LOG_BOUND_AUDIT &&
        log_repeats_over(port, level, bound, event, event_len))
        return (struct log_line){0};
    uint64_t head = atomic_load_explicit(&port->head, memory_order_relaxed);
    if (!has_room(port, head))
        return (struct log_line){0};

    port->open = true;
    bool json = mode & LOG_MODE_JSON;
    port->format = json ? LOG_JSON : LOG_LOGFMT;
    port->level = level;
    /* What strangers cause one by one must not push out what is wrong with us. */
    port->recent = bound == LOG_BOUND_OFTEN                       ? LOG_DEBUG
                   : bound == LOG_BOUND_AUDIT && level < LOG_WARN ? LOG_WARN
                                                                  : level;
    const struct level_text *text = &levels[json][level];
    char *start = port->ring + head % LOG_RING_SIZE;
    char *at = start;
    if (mode & LOG_MODE_PRIORITY)
        at = put(at, priorities[level], PRIORITY_LEN);
    at = put(at, json ? "{\"time\":\"" : "time=", json ? 9 : 5);
    memcpy(at, port->time, LOG_TIME_LEN);
    at += LOG_TIME_LEN;
    memcpy(at, text->text, sizeof(text->text));
    at = put_constant(at + text->len, event, event_len);
    if (json)
        *at++ = '"';
    struct log_line line = {port, at, start + LOG_LINE_MAX - CLOSING_LEN};
    if ((mode & LOG_MODE_LEVEL) == LOG_DEBUG)
        log_string(&line, "thread", port->name);
    return line;
}

/* Opens ` key=` or `,"key":`. False: the line has no room for it and `len` octets more. */
static bool put_key(struct log_line *line, const char *key, size_t key_len, size_t len)
{
    if (line->port == NULL || (size_t)(line->end - line->at) < CONSTANT_LEN_MAX + 4 + len)
        return false;
    char *at = line->at;
    if (line->port->format == LOG_JSON) {
        *at++ = ',';
        *at++ = '"';
        at = put_constant(at, key, key_len);
        *at++ = '"';
        *at++ = ':';
    } else {
        *at++ = ' ';
        at = put_constant(at, key, key_len);
        *at++ = '=';
    }
    line->at = at;
    return true;
}

void log_line_bytes(struct log_line *line, const char *key, size_t key_len, const void *data,
                    size_t len)
{
    bool cut = len > LOG_VALUE_MAX;
    if (cut)
        len = LOG_VALUE_MAX;
    /* The longest: each octet as \u00NN, quotes, three dots. */
    if (!put_key(line, key, key_len, 6 * len + 2 + 3))
        return;
    bool json = line->port->format == LOG_JSON;
    char *at = line->at;
    if (json)
        *at++ = '"';
    bool quoted = json;
    if (put_plain(at, data, len, json) && (len > 0 || json)) {
        at += len;
    } else {
        quoted = true;
        at = line->at;
        *at++ = '"';
        at = put_escaped(at, data, len, line->port->format);
    }
    if (cut)
        at = put(at, "...", 3);
    if (quoted)
        *at++ = '"';
    line->at = at;
}

void log_line_number(struct log_line *line, const char *key, size_t key_len, uint64_t value)
{
    char digits[20];
    if (!put_key(line, key, key_len, sizeof(digits)))
        return;
    size_t first = sizeof(digits);
    do {
        digits[--first] = (char)('0' + value % 10);
        value /= 10;
    } while (value > 0);
    line->at = put(line->at, digits + first, sizeof(digits) - first);
}

void log_end(struct log_line *line)
{
    struct log_port *port = line->port;
    if (port == NULL)
        return;
    if (port->format == LOG_JSON)
        *line->at++ = '}';
    *line->at++ = '\n';
    uint64_t head = atomic_load_explicit(&port->head, memory_order_relaxed);
    char *ring_end = port->ring + LOG_RING_SIZE;
    if (line->at > ring_end)
        memcpy(port->ring, ring_end, (size_t)(line->at - ring_end));
    counter_add(&port->lines[port->level], 1);
    if (port->recent <= LOG_WARN)
        log_recent_mark(port, port->recent, head);
    head += (uint64_t)(line->at - (port->ring + head % LOG_RING_SIZE));
    port->open = false;
    line->port = NULL;
    atomic_store_explicit(&port->head, head, memory_order_release);

    if (head - port->tail_seen > LOG_RING_SIZE / 2) {
        port->tail_seen = atomic_load_explicit(&port->tail, memory_order_acquire);
        if (head - port->tail_seen > LOG_RING_SIZE / 2)
            bell_ring(&port->log->bell);
    }
}

void log_message(struct log_port *port, enum log_level level, const char *event, const char *format,
                 ...)
{
    char text[LOG_VALUE_MAX + 2]; /* one more than is shown, so that a cut is seen */
    va_list arguments;
    if (!log_wanted(port, level))
        return;
    va_start(arguments, format);
    int len = vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    if (len < 0)
        len = 0;
    struct log_line line = log_begin(port, level, event);
    log_bytes(&line, "msg", text, (size_t)len < sizeof(text) ? (size_t)len : sizeof(text) - 1);
    log_end(&line);
}

static char *put(char *at, const char *text, size_t len)
{
    memcpy(at, text, len);
    return at + len;
}

static char *put_constant(char *at, const char *text, size_t len)
{
    return put(at, text, len < CONSTANT_LEN_MAX ? len : CONSTANT_LEN_MAX);
}

static const uint64_t ONES = UINT64_MAX / 255;

/* Eight octets at once that need neither escapes nor, in logfmt, quotes. Each term has the high bit
 * of an octet that is wrong; in a word without octets above 127 nothing is carried from one that is
 * right. */
static bool is_plain(uint64_t word, bool json)
{
    uint64_t wrong = word;                         /* above 127 */
    wrong |= word + ONES;                          /* 127 */
    wrong |= word - ONES * (json ? ' ' : ' ' + 1); /* below */
    wrong |= (word ^ ONES * '"') - ONES;           /* equal: 0 - 1 */
    wrong |= (word ^ ONES * '\\') - ONES;
    if (!json)
        wrong |= (word ^ ONES * '=') - ONES;
    return (wrong & ONES * 128) == 0;
}

/* Copies the value while it is plain. False: it is not, and `at` holds rubbish. */
static bool put_plain(char *at, const uint8_t *data, size_t len, bool json)
{
    uint64_t word;
    if (len < sizeof(word)) {
        word = ONES * 'x';
        for (size_t i = 0; i < len; i++) {
            at[i] = (char)data[i];
            word = word << 8 | data[i];
        }
        return is_plain(word, json);
    }
    for (size_t i = 0; i < len; i += sizeof(word)) {
        size_t from = len - i < sizeof(word) ? len - sizeof(word) : i; /* the last may overlap */
        memcpy(&word, data + from, sizeof(word));
        memcpy(at + from, &word, sizeof(word));
        if (!is_plain(word, json))
            return false;
    }
    return true;
}

/* A line of any length fits, or the line is dropped: it is not known yet how long it will be. */
static bool has_room(struct log_port *port, uint64_t head)
{
    if (head - port->tail_seen <= LOG_RING_SIZE - LOG_LINE_MAX)
        return true;
    port->tail_seen = atomic_load_explicit(&port->tail, memory_order_acquire);
    if (head - port->tail_seen <= LOG_RING_SIZE - LOG_LINE_MAX)
        return true;
    uint64_t dropped = atomic_load_explicit(&port->dropped, memory_order_relaxed);
    atomic_store_explicit(&port->dropped, dropped + 1, memory_order_relaxed);
    return false;
}

static void put_digits(char *at, unsigned value, unsigned count)
{
    for (unsigned i = count; i > 0; i--) {
        at[i - 1] = (char)('0' + value % 10);
        value /= 10;
    }
}

/* The clock of the last tick (1 to 4 ms) is near enough for people, and costs no system call. */
void log_time(struct log_port *port)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME_COARSE, &now);
    int64_t now_ms = now.tv_nsec / 1000000;
    if (now.tv_sec == port->time_s && now_ms == port->time_ms)
        return;
    if (now.tv_sec != port->time_s) {
        struct tm parts;
        gmtime_r(&now.tv_sec, &parts);
        memcpy(port->time, "0000-00-00T00:00:00.000Z", LOG_TIME_LEN);
        put_digits(port->time, (unsigned)parts.tm_year + 1900, 4);
        put_digits(port->time + 5, (unsigned)parts.tm_mon + 1, 2);
        put_digits(port->time + 8, (unsigned)parts.tm_mday, 2);
        put_digits(port->time + 11, (unsigned)parts.tm_hour, 2);
        put_digits(port->time + 14, (unsigned)parts.tm_min, 2);
        put_digits(port->time + 17, (unsigned)parts.tm_sec, 2);
    }
    put_digits(port->time + 20, (unsigned)now_ms, 3);
    port->time_s = now.tv_sec;
    port->time_ms = now_ms;
}

/* Length of the well-formed UTF-8 character at `data` (RFC 3629 4), or 0: none that a terminal
 * should see. The controls U+0080 to U+009F are none. */
static size_t character_len(const uint8_t *data, size_t len)
{
    static const uint8_t second_min[256] = {[0xc2] = 0xa0, [0xe0] = 0xa0, [0xf0] = 0x90};
    static const uint8_t second_max[256] = {[0xed] = 0x9f, [0xf4] = 0x8f};
    uint8_t lead = data[0];
    size_t want = lead >= 0xc2 && lead <= 0xdf   ? 2
                  : lead >= 0xe0 && lead <= 0xef ? 3
                  : lead >= 0xf0 && lead <= 0xf4 ? 4
                                                 : 0;
    if (want == 0 || want > len)
        return 0;
    uint8_t min = second_min[lead] != 0 ? second_min[lead] : 0x80;
    uint8_t max = second_max[lead] != 0 ? second_max[lead] : 0xbf;
    if (data[1] < min || data[1] > max)
        return 0;
    for (size_t i = 2; i < want; i++)
        if ((data[i] & 0xc0) != 0x80)
            return 0;
    return want;
}

static const char hexadecimal[] = "0123456789abcdef";

static char *put_hex(char *at, uint8_t octet, enum log_format format)
{
    at = format == LOG_JSON ? put(at, "\\u00", 4) : put(at, "\\x", 2);
    *at++ = hexadecimal[octet >> 4];
    *at++ = hexadecimal[octet & 15];
    return at;
}

/* put_character writes a well-formed character as it is, or escaped, which never takes more than
 * six octets for each of it. */
static char *put_character(char *at, const uint8_t *data, size_t len, enum log_format format)
{
    uint32_t number = character_number(data, len);
    if (!character_misleads(number))
        return put(at, (const char *)data, len);
    if (format == LOG_JSON) {
        at = put(at, "\\u", 2);
        for (int shift = 12; shift >= 0; shift -= 4)
            *at++ = hexadecimal[number >> shift & 15];
        return at;
    }
    for (size_t i = 0; i < len; i++)
        at = put_hex(at, data[i], format);
    return at;
}

static char *put_escaped(char *at, const uint8_t *data, size_t len, enum log_format format)
{
    for (size_t i = 0; i < len; i++) {
        uint8_t octet = data[i];
        if (octet == '"' || octet == '\\') {
            *at++ = '\\';
            *at++ = (char)octet;
        } else if (octet >= ' ' && octet < 127) {
            *at++ = (char)octet;
        } else if (octet == '\n' || octet == '\r' || octet == '\t') {
            *at++ = '\\';
            *at++ = octet == '\n' ? 'n' : octet == '\r' ? 'r' : 't';
        } else {
            size_t character = octet < 0x80 ? 0 : character_len(data + i, len - i);
            if (character == 0) {
                at = put_hex(at, octet, format);
                continue;
            }
            at = put_character(at, data + i, character, format);
            i += character - 1;
        }
    }
    return at;
}
