/* Fixed places, so each digit is looked for where it must be. */
#include "parser/date_time.h"

#include "parser/octet.h"

enum { FIXED = 19 /* "2026-11-29T12:00:00" */, OFFSET = 6 /* "+01:00" */ };

/* Reads `count` digits at `at`; -1: there are others. */
static int digits(struct bytes text, size_t at, size_t count)
{
    int value = 0;
    for (size_t i = at; i < at + count; i++) {
        if (!octet_is_digit(text.data[i]))
            return -1;
        value = value * 10 + (text.data[i] - '0');
    }
    return value;
}

static int days_in(int year, int month)
{
    static const uint8_t days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    return days[month - 1] + (month == 2 && leap);
}

/* Days from 1970-01-01; the year is counted from March, so that the odd day is its last. */
static int64_t days_since_1970(int year, int month, int day)
{
    int64_t of = month > 2 ? year : year - 1;
    int from_march = month > 2 ? month - 3 : month + 9;
    return 365 * of + of / 4 - of / 100 + of / 400 + (153 * from_march + 2) / 5 + day - 1 - 719468;
}

/* Reads time-offset, all of `text`, in seconds. */
static bool read_offset(struct bytes text, int64_t *offset)
{
    *offset = 0;
    if (text.len == 1)
        return text.data[0] == 'Z' || text.data[0] == 'z';
    if (text.len != OFFSET || (text.data[0] != '+' && text.data[0] != '-') || text.data[3] != ':')
        return false;
    int hours = digits(text, 1, 2), minutes = digits(text, 4, 2);
    if (hours < 0 || hours > 23 || minutes < 0 || minutes > 59)
        return false;
    *offset = (hours * 60 + minutes) * 60 * (text.data[0] == '-' ? -1 : 1);
    return true;
}

bool date_time_read(struct bytes text, uint64_t *seconds)
{
    if (text.len <= FIXED || text.data[4] != '-' || text.data[7] != '-' || text.data[13] != ':' ||
        text.data[16] != ':' || (text.data[10] != 'T' && text.data[10] != 't'))
        return false;
    int year = digits(text, 0, 4), month = digits(text, 5, 2), day = digits(text, 8, 2);
    int hour = digits(text, 11, 2), minute = digits(text, 14, 2), second = digits(text, 17, 2);
    if (year < 1970 || month < 1 || month > 12 || day < 1 || day > days_in(year, month) ||
        hour < 0 || hour > 23 || minute < 0 || minute > 59 || second < 0 || second > 60)
        return false;
    size_t end = FIXED;
    bool part = false; /* of a second more */
    if (text.data[end] == '.') {
        size_t first = ++end;
        for (; end < text.len && octet_is_digit(text.data[end]); end++)
            part = part || text.data[end] != '0';
        if (end == first)
            return false;
    }
    int64_t offset;
    if (!read_offset(bytes_skip(text, end), &offset))
        return false;
    int64_t result =
        days_since_1970(year, month, day) * 86400 + hour * 3600 + minute * 60 + second + part;
    if (result < offset)
        return false;
    *seconds = (uint64_t)(result - offset);
    return true;
}
