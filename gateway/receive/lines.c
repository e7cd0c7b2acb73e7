/* The reading of lines: see lines.h. */
#include "gateway/receive/lines.h"

#include "gateway/base/limits.h"
#include "gateway/receive/authenticating.h"
#include "gateway/receive/server.h"
#include "gateway/receive/verbs.h"
#include "parser/proxy.h"
#include "tls/crypto.h"

#include <string.h>

/* The octets lie in a buffer for receiving, which nobody else reads, and which is the owner's until
 * `received` returns. */
void lines_wipe(struct bytes octets)
{
    if (octets.len > 0)
        crypto_wipe((void *)(uintptr_t)octets.data, octets.len);
}

void lines_drop(struct session *session)
{
    if (session->line != NULL && session->submission)
        crypto_wipe(session->line, session->line_len);
    blocks_give(&session->server->lines, session->line);
    session->line = NULL;
    session->line_len = 0;
}

/* begin_skipping leaves out what is left of a line that can't be a command. `told`: it has its
 * reply already. */
static void begin_skipping(struct session *session, bool after_cr, bool told)
{
    session->mode = SESSION_SKIP_LINE;
    lines_drop(session);
    session->skip_after_cr = after_cr;
    session->skip_told = told;
}

/* says_auth: a line that begins so, with what was put aside of it, is an AUTH that has become too
 * long (RFC 4954 4). */
static bool says_auth(const struct session *session, struct bytes part)
{
    struct bytes verb = BYTES("AUTH ");
    size_t aside = session->line_len < verb.len ? session->line_len : verb.len;
    return session->submission && aside + part.len >= verb.len &&
           bytes_equal_nocase(bytes_make(session->line, aside), bytes_slice(verb, 0, aside)) &&
           bytes_equal_nocase(bytes_slice(part, 0, verb.len - aside),
                              bytes_slice(verb, aside, verb.len));
}

/* skip_too_long skips a line, of which there is a part in `session->line` and another here. AUTH
 * and its responses hear at once that it is too long. */
static void skip_too_long(struct session *session, struct bytes part)
{
    bool responds = session->mode == SESSION_AUTH;
    bool asks = says_auth(session, part);
    begin_skipping(session, part.data[part.len - 1] == '\r', responds || asks);
    session->discreet |= asks;
    if (responds)
        authenticating_broken(session, REPLY_AUTH_LINE_TOO_LONG);
    else if (asks)
        session_refuse(session, REPLY_AUTH_LINE_TOO_LONG);
}

/* put_aside keeps an unfinished line until its rest comes. */
static void put_aside(struct session *session, struct bytes part)
{
    if (session->line_len + part.len > LIMIT_LINE) {
        skip_too_long(session, part);
        return;
    }
    if (session->line == NULL)
        session->line = blocks_take(&session->server->lines);
    if (session->line == NULL) {
        session_leave(session, REPLY_TOO_MANY_CONNECTIONS); /* as if there were no slot */
        return;
    }
    memcpy(session->line + session->line_len, part.data, part.len);
    session->line_len = (uint16_t)(session->line_len + part.len);
}

/* run_response takes a line that should be a response to AUTH's challenge. Nothing may have been
 * sent behind it. */
static void run_response(struct session *session, struct bytes line, bool more_behind)
{
    if (line.len == 0 || line.data[line.len - 1] != '\r') {
        begin_skipping(session, false, true);
        authenticating_broken(session, REPLY_BARE_NEWLINE_COMMAND);
    } else if (line.len + 1 > LIMIT_LINE) {
        session->mode = SESSION_COMMAND;
        authenticating_broken(session, REPLY_AUTH_LINE_TOO_LONG);
    } else if (more_behind) {
        session_leave(session, REPLY_EARLY_INPUT);
    } else {
        authenticating_line(session, bytes_slice(line, 0, line.len - 1));
    }
}

/* run_line takes a line up to, not including, its LF. Only CR LF ends a line (RFC 5321 2.3.8):
 * after a bare LF the rest, up to the next CR LF, is part of the same bad line. */
static void run_line(struct session *session, struct bytes line, bool more_behind)
{
    if (session->mode == SESSION_AUTH) {
        run_response(session, line, more_behind);
    } else if (line.len == 0 || line.data[line.len - 1] != '\r') {
        begin_skipping(session, false, true);
        session_refuse(session, REPLY_BARE_NEWLINE_COMMAND);
    } else if (line.len + 1 > LIMIT_LINE) {
        session->discreet |= says_auth(session, line);
        session_refuse(session,
                       says_auth(session, line) ? REPLY_AUTH_LINE_TOO_LONG : REPLY_LINE_TOO_LONG);
    } else {
        verbs_run(session, bytes_slice(line, 0, line.len - 1), more_behind);
    }
}

size_t lines_read(struct session *session, struct bytes in)
{
    size_t newline = bytes_find(in, '\n');
    if (newline == in.len) {
        put_aside(session, in);
        return in.len;
    }
    bool more_behind = newline + 1 < in.len;
    if (session->line_len == 0) {
        if (newline == 1 && proxy_begins(in)) { /* version 2 begins with empty lines */
            session_leave(session, REPLY_FOREIGN_PROXY);
            return in.len;
        }
        run_line(session, bytes_slice(in, 0, newline), more_behind);
        return newline + 1;
    }
    if (newline > 0)
        put_aside(session, bytes_slice(in, 0, newline));
    if (session->mode == SESSION_SKIP_LINE || session->line == NULL)
        return newline; /* too long by now: the newline itself ends the skipping */
    struct bytes line = bytes_make(session->line, session->line_len);
    uint8_t *block = session->line;
    session->line = NULL; /* what the line leads to may need another, or skip the rest */
    session->line_len = 0;
    run_line(session, line, more_behind);
    if (session->submission)
        crypto_wipe(block, line.len);
    blocks_give(&session->server->lines, block);
    return newline + 1;
}

size_t lines_skip(struct session *session, struct bytes in)
{
    size_t newline = bytes_find(in, '\n');
    if (newline == in.len) {
        session->skip_after_cr = in.data[in.len - 1] == '\r';
        return in.len;
    }
    bool ends = newline > 0 ? in.data[newline - 1] == '\r' : session->skip_after_cr;
    session->skip_after_cr = false;
    if (!ends)
        return newline + 1;
    session->mode = SESSION_COMMAND;
    if (!session->skip_told)
        session_refuse(session, REPLY_LINE_TOO_LONG);
    return newline + 1;
}
