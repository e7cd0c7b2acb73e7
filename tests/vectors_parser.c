/* The functions of parser/ as ringmx-vectors offers them: each turns its results into JSON and adds
 * nothing of its own, but for the reply codes, which are those that the headers of parser/ name. */
#include "tests/vectors.h"

#include <stdlib.h>
#include <string.h>

#include "parser/address.h"
#include "parser/command.h"
#include "parser/header.h"
#include "parser/scan.h"

static void put_text(json_t *object, const char *name, const char *value)
{
    vectors_put(object, name, json_string(value));
}

static void put_flag(json_t *object, const char *name, bool value)
{
    vectors_put(object, name, json_boolean(value));
}

static void put_number(json_t *object, const char *name, size_t value)
{
    vectors_put(object, name, json_integer((json_int_t)value));
}

static const char *kind_name(unsigned kind)
{
    static const char *const names[] = {"none", "name", "ipv4", "ipv6", "general"};
    return names[kind];
}

static void put_address_result(json_t *answer, enum address_result result)
{
    static const char *const names[] = {"ok", "bad", "too-long", "utf8", "too-long"};
    static const unsigned codes[] = {250, 501, 501, 553, 501};
    put_flag(answer, "ok", result == ADDRESS_OK);
    put_text(answer, "result", names[result]);
    put_number(answer, "code", codes[result]);
}

static void put_address(json_t *answer, const struct address *address)
{
    uint8_t unquoted[ADDRESS_LOCAL_LEN_MAX];
    size_t unquoted_len = address_local_unquoted(address, unquoted);
    vectors_put_bytes(answer, "text", address->text);
    vectors_put_bytes(answer, "local", address->local);
    vectors_put_bytes(answer, "domain", address->domain);
    vectors_put_bytes(answer, "unquoted", bytes_make(unquoted, unquoted_len));
    put_text(answer, "kind", kind_name(address->domain_kind));
    put_flag(answer, "quoted", address->quoted);
    put_flag(answer, "utf8", address->utf8);
}

/* "path" is absent or false for a bare mailbox, true or "path", "reverse", "forward". Returns NULL
 * for anything else. */
static const char *path_form(struct request *request)
{
    const json_t *path = json_object_get(request->object, "path");
    if (path == NULL || json_is_false(path))
        return "mailbox";
    const char *form = json_is_true(path) ? "path" : json_string_value(path);
    static const char *const forms[] = {"mailbox", "path", "reverse", "forward"};
    for (size_t i = 0; form != NULL && i < sizeof(forms) / sizeof(forms[0]); i++)
        if (strcmp(form, forms[i]) == 0)
            return form;
    snprintf(request->error, sizeof(request->error),
             "\"path\" must be true, false, mailbox, path, reverse or forward");
    return NULL;
}

json_t *vectors_address(struct request *request)
{
    bool utf8 = vectors_flag(request, "utf8");
    const char *form = path_form(request);
    json_t *answer = json_object();
    if (form == NULL || answer == NULL)
        return answer;
    struct address address;
    size_t used = request->input.len;
    enum address_result result;
    switch (form[0]) {
    case 'p': result = address_path(request->input, utf8, &address, &used); break;
    case 'r': result = address_reverse_path(request->input, utf8, &address, &used); break;
    case 'f': result = address_forward_path(request->input, utf8, &address, &used); break;
    default: result = address_mailbox(request->input, utf8, &address); break;
    }
    put_address_result(answer, result);
    if (result != ADDRESS_OK)
        return answer;
    put_address(answer, &address);
    put_number(answer, "used", used);
    return answer;
}

json_t *vectors_domain(struct request *request)
{
    bool utf8 = vectors_flag(request, "utf8");
    json_t *answer = json_object();
    if (answer == NULL)
        return NULL;
    enum address_domain_kind kind;
    put_address_result(answer, address_domain(request->input, utf8, &kind));
    put_text(answer, "kind", kind_name(kind));
    return answer;
}

static void put_command_result(json_t *answer, enum command_result result, enum verb verb)
{
    static const struct {
        const char *name;
        unsigned code;
        const char *status; /* NULL: 5.1.7 in MAIL, 5.1.3 elsewhere */
    } results[] = {
        [COMMAND_OK] = {"ok",                250, "2.0.0"},
        [COMMAND_UNKNOWN] = {"unknown",           500, "5.5.2"},
        [COMMAND_SYNTAX] = {"syntax",            501, "5.5.4"},
        [COMMAND_BAD_ADDRESS] = {"bad-address",       501, NULL   },
        [COMMAND_LONG_ADDRESS] = {"long-address",      501, NULL   },
        [COMMAND_UTF8_ADDRESS] = {"utf8-address",      553, "5.6.7"},
        [COMMAND_BAD_PARAMETER] = {"bad-parameter",     501, "5.5.4"},
        [COMMAND_UNKNOWN_PARAMETER] = {"unknown-parameter", 555, "5.5.4"},
        [COMMAND_BAD_OCTETS] = {"bad-octets",        500, "5.5.2"},
    };
    const char *status = results[result].status;
    if (status == NULL)
        status = verb == VERB_MAIL ? "5.1.7" : "5.1.3";
    put_flag(answer, "ok", result == COMMAND_OK);
    put_text(answer, "result", results[result].name);
    put_number(answer, "code", results[result].code);
    put_text(answer, "status", status);
}

static json_t *notify_words(unsigned notify)
{
    static const char *const words[] = {"NEVER", "SUCCESS", "FAILURE", "DELAY"};
    json_t *list = json_array();
    for (unsigned i = 0; i < 4; i++)
        if ((notify & 1u << i) != 0)
            json_array_append_new(list, json_string(words[i]));
    return list;
}

/* JSON numbers of this program end at 2^63 - 1; a larger size is given as a string of its digits.
 */
static json_t *size_value(uint64_t size)
{
    char digits[24];
    if (size <= INT64_MAX)
        return json_integer((json_int_t)size);
    snprintf(digits, sizeof(digits), "%llu", (unsigned long long)size);
    return json_string(digits);
}

/* Only what the line has, so that an absent parameter and an empty one differ. */
static json_t *command_members(const struct command *command)
{
    static const char *const bodies[] = {"7BIT", "8BITMIME", "BINARYMIME"};
    static const char *const rets[] = {"", "FULL", "HDRS"};
    json_t *object = json_object();
    if (object == NULL)
        return NULL;
    if (command->has_size)
        vectors_put(object, "size", size_value(command->size));
    if (command->verb == VERB_MAIL)
        put_text(object, "body", bodies[command->body]);
    if (command->smtputf8)
        put_flag(object, "smtputf8", true);
    if (command->requiretls)
        put_flag(object, "requiretls", true);
    if (command->last)
        put_flag(object, "last", true);
    if (command->ret != COMMAND_RET_NONE)
        put_text(object, "ret", rets[command->ret]);
    if (command->has_notify)
        vectors_put(object, "notify", notify_words(command->notify));
    if (command->envid.len > 0)
        vectors_put_bytes(object, "envid", command->envid);
    if (command->orcpt.len > 0)
        vectors_put_bytes(object, "orcpt", command->orcpt);
    if (command->auth.len > 0)
        vectors_put_bytes(object, "auth", command->auth);
    return object;
}

json_t *vectors_command(struct request *request)
{
    bool utf8 = vectors_flag(request, "utf8");
    bool lenient = vectors_flag(request, "lenient");
    json_t *answer = json_object();
    if (answer == NULL)
        return NULL;
    struct command command;
    enum command_result result = command_parse(request->input, utf8, lenient, &command);
    put_text(answer, "verb", command_verb_name(command.verb));
    put_command_result(answer, result, command.verb);
    vectors_put_bytes(answer, "name", command.name);
    vectors_put_bytes(answer, "argument", command.argument);
    if (result != COMMAND_OK)
        return answer;
    vectors_put(answer, "parameters", command_members(&command));
    if (command.verb == VERB_MAIL || command.verb == VERB_RCPT) {
        json_t *address = json_object();
        vectors_put(answer, "address", address);
        put_address(address, &command.address);
    }
    return answer;
}

static json_t *header_watch_answer(struct request *request)
{
    struct header_watch watch = {0};
    size_t piece_count = vectors_piece_count(request);
    for (size_t i = 0; i < piece_count; i++)
        header_watch_text(&watch, vectors_piece(request, i));
    json_t *answer = json_object();
    if (answer == NULL)
        return NULL;
    put_flag(answer, "ended", watch.ended);
    put_number(answer, "received_count", watch.received_count);
    put_number(answer, "len", watch.len);
    return answer;
}

json_t *vectors_header(struct request *request)
{
    json_t *answer = json_object();
    json_t *fields = json_array();
    if (answer == NULL || fields == NULL)
        return NULL;
    struct header_field field;
    size_t at = 0;
    size_t used;
    enum header_result result;
    while ((result = header_next(bytes_skip(request->input, at), &field, &used)) == HEADER_FIELD) {
        json_t *one = json_object();
        if (json_array_append_new(fields, one) != 0)
            return NULL;
        vectors_put_bytes(one, "name", field.name);
        vectors_put_bytes(one, "value", field.value);
        at += used;
    }
    put_text(answer, "result", result == HEADER_END ? "end" : "bad");
    put_number(answer, "used", at + used);
    vectors_put(answer, "fields", fields);
    vectors_put(answer, "watch", header_watch_answer(request));
    return answer;
}

/* Makes the implementation that "kind" names, or the scalar one, the one that scans. */
static void choose_scan(struct request *request)
{
    const json_t *kind = json_object_get(request->object, "kind");
    const char *name = kind == NULL ? scan_kind_name(SCAN_SCALAR) : json_string_value(kind);
    for (int i = 0; name != NULL && i < SCAN_KIND_COUNT; i++)
        if (strcmp(name, scan_kind_name((enum scan_kind)i)) == 0 && scan_choose((enum scan_kind)i))
            return;
    snprintf(request->error, sizeof(request->error),
             "\"kind\" must be one that this machine can run: scalar, sse2, avx2, avx512 or neon");
}

static json_t *seen_words(unsigned seen)
{
    static const char *const words[] = {"bare-cr", "bare-lf", "nul", "8bit"};
    json_t *list = json_array();
    for (unsigned i = 0; i < 4; i++)
        if ((seen & 1u << i) != 0)
            json_array_append_new(list, json_string(words[i]));
    return list;
}

/* Scans one piece, adds what it has of the message's text to `text`, and returns how much of it was
 * taken. */
static size_t scan_piece(struct scan *scan, struct bytes piece, uint8_t *text, size_t *text_len)
{
    size_t taken = 0;
    while (taken < piece.len && scan->position != SCAN_ENDED) {
        struct bytes span;
        taken += scan_data(scan, bytes_skip(piece, taken), &span);
        if (span.len > 0)
            memcpy(text + *text_len, span.data, span.len);
        *text_len += span.len;
    }
    return taken;
}

json_t *vectors_scan(struct request *request)
{
    bool bdat = vectors_flag(request, "bdat");
    size_t piece_count = vectors_piece_count(request);
    choose_scan(request);
    json_t *answer = json_object();
    uint8_t *text = malloc(request->input.len + 1); /* text never grows: dots only go away */
    if (answer == NULL || text == NULL)
        return NULL;
    struct scan scan = {.lengths = true};
    size_t text_len = 0;
    size_t consumed = 0;
    for (size_t i = 0; i < piece_count && request->error[0] == '\0'; i++) {
        struct bytes piece = vectors_piece(request, i);
        if (!bdat) {
            consumed += scan_piece(&scan, piece, text, &text_len);
            continue;
        }
        scan_text(&scan, piece);
        memcpy(text + consumed, piece.data, piece.len);
        text_len = consumed += piece.len;
    }
    if (bdat)
        scan_text_end(&scan);
    vectors_put_hex(answer, "text", bytes_make(text, text_len));
    put_flag(answer, "ended", scan.position == SCAN_ENDED);
    put_number(answer, "consumed", consumed);
    vectors_put(answer, "seen", seen_words(scan.seen));
    put_number(answer, "line_max", scan.line_max);
    free(text);
    return answer;
}
