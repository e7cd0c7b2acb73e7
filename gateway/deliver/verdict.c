/* Making verdicts: see verdict.h. */
#include "gateway/deliver/verdict.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static void keep_text(struct verdict *verdict, const char *text, size_t len)
{
    if (len >= VERDICT_TEXT_MAX) {
        len = VERDICT_TEXT_MAX - 1;
        while (len > 0 && ((uint8_t)text[len] & 0xc0) == 0x80)
            len--;
    }
    memcpy(verdict->text, text, len);
    verdict->text[len] = '\0';
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
    keep_text(verdict, text, strlen(text));
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
    keep_text(verdict, reply->text, reply->text_len);
}
