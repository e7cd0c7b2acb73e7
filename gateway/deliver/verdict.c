/* Making verdicts: see verdict.h. */
#include "gateway/deliver/verdict.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static void keep(char *out, size_t size, const char *text, size_t len)
{
    if (len >= size) {
        len = size - 1;
        while (len > 0 && ((uint8_t)text[len] & 0xc0) == 0x80)
            len--;
    }
    memcpy(out, text, len);
    out[len] = '\0';
}

void verdict_own(struct verdict *verdict, enum verdict_kind kind, uint16_t code,
                 struct reply_status status, const char *format, ...)
{
    char text[4 * VERDICT_TEXT_MAX];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    verdict->kind = (uint8_t)kind;
    verdict->code = code;
    verdict->status = status;
    keep(verdict->text, sizeof(verdict->text), text, strlen(text));
}

void verdict_reply(struct verdict *verdict, const struct reply_read *reply)
{
    unsigned class = reply->code / 100;
    verdict->kind = VERDICT_DEFERRED;
    if (class == 5)
        verdict->kind = VERDICT_REFUSED;
    else if (class == 2)
        verdict->kind = VERDICT_DELIVERED;
    verdict->code = reply->code;
    verdict->status = reply->status;
    if (verdict->status.class == 0)
        verdict->status = (struct reply_status){class == 3 ? 4 : (uint8_t) class, 0, 0};
    keep(verdict->text, sizeof(verdict->text), reply->text, reply->text_len);
}

const char *verdict_say(const struct verdict *verdict, char *out, size_t size)
{
    struct reply_status status = verdict->status;
    char text[VERDICT_TEXT_MAX + 32];
    int len = 0;
    if (verdict->code != 0)
        len = snprintf(text, sizeof(text), "%u ", verdict->code);
    if (verdict->code != 0 && (status.subject != 0 || status.detail != 0))
        len += snprintf(text + len, sizeof(text) - (size_t)len, "%u.%u.%u ", status.class,
                        status.subject, status.detail);
    snprintf(text + len, sizeof(text) - (size_t)len, "%s", verdict->text);
    keep(out, size, text, strlen(text));
    return out;
}
