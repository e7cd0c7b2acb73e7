/* Address lists of header fields: see mailboxes.h. One position that only moves forward. Words are
 * collected before it is known what they are: a local part, if "@" follows, a display name before
 * "<", the name of a group before ":". What a reader could take for two different addresses is no
 * address list. */
#include "parser/mailboxes.h"

#include "parser/octet.h"

/* A text that is collected; what has no room is only noted. */
struct text {
    uint8_t *out;
    size_t len, max;
    bool full;
};

static bool is_word(uint8_t c)
{
    return octet_is(c, OCTET_ATEXT) || c >= 0x80;
}

static bool is_space(uint8_t c)
{
    return octet_is_space(c) || c == '\r' || c == '\n';
}

static void put(struct text *text, uint8_t c)
{
    if (text->len == text->max)
        text->full = true;
    else
        text->out[text->len++] = c;
}

static bool is_next(const struct bytes *in, uint8_t wanted)
{
    return in->len > 0 && in->data[0] == wanted;
}

static bool take(struct bytes *in, uint8_t wanted)
{
    if (!is_next(in, wanted))
        return false;
    *in = bytes_skip(*in, 1);
    return true;
}

/* Takes a comment, with those inside it. */
static bool take_comment(struct bytes *in)
{
    unsigned depth = 0;
    for (size_t at = 0; at < in->len; at++) {
        uint8_t c = in->data[at];
        if (c == '\\')
            at++;
        depth += c == '(';
        depth -= c == ')';
        if (depth > MAILBOXES_DEPTH_MAX)
            return false;
        if (depth == 0) {
            *in = bytes_skip(*in, at + 1);
            return true;
        }
    }
    return false;
}

bool mailboxes_skip_space(struct bytes *in)
{
    while (in->len > 0) {
        if (is_space(in->data[0]))
            *in = bytes_skip(*in, 1);
        else if (in->data[0] != '(')
            return true;
        else if (!take_comment(in))
            return false;
    }
    return true;
}

/* quoted-string; its meaning goes to `text`. *odd: it has what no local part may have. False: it
 * does not end; or it has "@" and is folded, so that who reads line by line sees an address. */
static bool take_quoted(struct bytes *in, struct text *text, bool *odd)
{
    size_t at = 1;
    bool folded = false, has_at = false;
    for (; at < in->len && in->data[at] != '"'; at++) {
        uint8_t c = in->data[at];
        folded |= c == '\r' || c == '\n';
        if (c == '\r' || c == '\n')
            continue;
        if (c == '\\' && ++at < in->len)
            c = in->data[at];
        has_at |= c == '@';
        *odd |= (c < ' ' && c != '\t') || c == 127;
        put(text, c);
    }
    if (at >= in->len || (folded && has_at))
        return false;
    *in = bytes_skip(*in, at + 1);
    return true;
}

/* What a run of words can be. */
struct words {
    struct text meaning; /* without quotes and what stands between */
    unsigned count;
    bool local; /* words with one dot between two: a local part */
    bool dot;   /* the last was a dot */
};

static bool take_atom(struct bytes *in, struct text *text)
{
    size_t len = 0;
    while (len < in->len && is_word(in->data[len]))
        put(text, in->data[len++]);
    *in = bytes_skip(*in, len);
    return len > 0;
}

/* Takes words, dots, and brackets as display names have them, up to anything else. Brackets beside
 * quotes are refused: to some who read it a quote in brackets is none. */
static bool take_words(struct bytes *in, struct words *words)
{
    bool odd = false, quoted = false, bracket = false;
    words->local = true;
    words->dot = true; /* a word may follow */
    while (mailboxes_skip_space(in) && in->len > 0) {
        bool dot = take(in, '.');
        quoted |= is_next(in, '"');
        if (dot)
            put(&words->meaning, '.');
        else if (is_next(in, '"') ? !take_quoted(in, &words->meaning, &odd)
                                  : !take_atom(in, &words->meaning)) {
            if (!take(in, '[') && !take(in, ']'))
                break;
            odd = bracket = true;
        }
        words->count++;
        words->local &= dot != words->dot;
        words->dot = dot;
    }
    words->local &= !odd && !words->dot && !words->meaning.full;
    return !(quoted && bracket) && !is_next(in, '"') && !is_next(in, '('); /* neither ends */
}

/* domain = dot-atom / domain-literal / obs-domain */
static bool take_domain(struct bytes *in, struct text *text)
{
    if (!mailboxes_skip_space(in))
        return false;
    if (is_next(in, '[')) {
        size_t end = bytes_find(*in, ']');
        for (size_t i = 0; i < end; i++)
            if (!is_space(in->data[i]))
                put(text, in->data[i]);
        put(text, ']');
        bool ends = end < in->len;
        *in = bytes_skip(*in, end + 1);
        return ends && mailboxes_skip_space(in);
    }
    for (;;) {
        if (!take_atom(in, text) || !mailboxes_skip_space(in))
            return false;
        if (!take(in, '.'))
            return true;
        put(text, '.');
        if (!mailboxes_skip_space(in))
            return false;
    }
}

/* obs-route = obs-domain-list ":"; it means nothing (RFC 5322 4.4). Also true when there is none.
 */
static bool skip_route(struct bytes *in)
{
    uint8_t ignored[1];
    if (!is_next(in, '@') && !is_next(in, ','))
        return true;
    while (!take(in, ':')) {
        struct text domain = {ignored, 0, sizeof(ignored), false};
        if (take(in, '@') ? !take_domain(in, &domain) : !take(in, ','))
            return false;
        if (!mailboxes_skip_space(in))
            return false;
    }
    return mailboxes_skip_space(in);
}

static bool is_dot_string(struct bytes local)
{
    bool dot = true;
    for (size_t i = 0; i < local.len; i++) {
        bool now = local.data[i] == '.';
        if (now ? dot : !is_word(local.data[i]))
            return false;
        dot = now;
    }
    return !dot;
}

/* Writes the local part as the envelope has it. */
static void put_local(struct text *text, struct bytes local)
{
    bool plain = is_dot_string(local);
    if (!plain)
        put(text, '"');
    for (size_t i = 0; i < local.len; i++) {
        if (!plain && (local.data[i] == '"' || local.data[i] == '\\'))
            put(text, '\\');
        put(text, local.data[i]);
    }
    if (!plain)
        put(text, '"');
}

/* Takes "@" and a domain behind the words that are the local part. */
static bool take_rest(struct mailboxes *walk, struct bytes *in, const struct words *words,
                      struct bytes *mailbox)
{
    struct text text = {walk->text, 0, sizeof(walk->text), false};
    if (!words->local || !take(in, '@'))
        return false;
    put_local(&text, bytes_make(words->meaning.out, words->meaning.len));
    put(&text, '@');
    if (!take_domain(in, &text) || text.full)
        return false;
    *mailbox = bytes_make(text.out, text.len);
    return true;
}

/* angle-addr, behind its "<" */
static bool take_angle(struct mailboxes *walk, struct bytes *in, struct bytes *mailbox)
{
    uint8_t local[MAILBOXES_TEXT_MAX];
    struct words words = {
        .meaning = {local, 0, sizeof(local), false}
    };
    return mailboxes_skip_space(in) && skip_route(in) && take_words(in, &words) &&
           take_rest(walk, in, &words, mailbox) && take(in, '>') && mailboxes_skip_space(in);
}

/* ends: behind a mailbox or a group stands the end of the list, or what divides it. */
static bool ends(const struct mailboxes *walk, const struct bytes *in)
{
    return in->len == 0 || is_next(in, ',') || (walk->in_group && is_next(in, ';'));
}

/* Takes what lies between mailboxes. MAILBOXES_FOUND: something follows. */
static enum mailboxes_result skip_between(struct mailboxes *walk, struct bytes *in)
{
    while (mailboxes_skip_space(in)) {
        if (in->len == 0)
            return walk->in_group ? MAILBOXES_BAD : MAILBOXES_END;
        if (walk->in_group && take(in, ';')) {
            walk->in_group = false;
            if (!mailboxes_skip_space(in) || !ends(walk, in))
                return MAILBOXES_BAD;
        } else if (!take(in, ',')) {
            return MAILBOXES_FOUND;
        }
    }
    return MAILBOXES_BAD;
}

static enum mailboxes_result take_mailbox(struct mailboxes *walk, struct bytes *in,
                                          struct bytes *mailbox)
{
    uint8_t meaning[MAILBOXES_TEXT_MAX];
    for (;;) { /* again behind the name of a group */
        enum mailboxes_result result = skip_between(walk, in);
        struct words words = {
            .meaning = {meaning, 0, sizeof(meaning), false}
        };
        if (result != MAILBOXES_FOUND)
            return result;
        if (!take_words(in, &words))
            return MAILBOXES_BAD;
        if (take(in, ':')) {
            if (walk->in_group || words.count == 0)
                return MAILBOXES_BAD;
            walk->in_group = true;
            continue;
        }
        bool found = take(in, '<')
                         ? take_angle(walk, in, mailbox)
                         : take_rest(walk, in, &words, mailbox) && mailboxes_skip_space(in);
        return found && ends(walk, in) ? MAILBOXES_FOUND : MAILBOXES_BAD;
    }
}

enum mailboxes_result mailboxes_next(struct mailboxes *walk, struct bytes *mailbox)
{
    struct bytes in = walk->rest;
    *mailbox = bytes_make(NULL, 0);
    enum mailboxes_result result = take_mailbox(walk, &in, mailbox);
    walk->rest = in;
    return result;
}
