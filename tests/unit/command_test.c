/* Command lines: what each rule takes and refuses, parameter by parameter, and every good line cut
 * off at every octet, with the input at both ends of readable memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "parser/command.h"
#include "parser/command_parameters.h"
#include "tests/unit/guard.h"

enum { STRICT = 0, UTF8 = 1, LENIENT = 2 };

static struct guard guard;

static void assert_inside(struct bytes line, struct bytes part)
{
    if (part.len > 0)
        assert_true(part.data >= line.data && part.data + part.len <= line.data + line.len);
}

/* Parses at both ends of readable memory; the second result is *out. */
static enum command_result parse(struct bytes line, int options, struct command *out)
{
    bool utf8 = (options & UTF8) != 0;
    bool lenient = (options & LENIENT) != 0;
    memset(out, 0xff, sizeof(*out));
    enum command_result first = command_parse(guard_at_start(&guard, line), utf8, lenient, out);
    line = guard_at_end(&guard, line);
    memset(out, 0xff, sizeof(*out));
    assert_int_equal(command_parse(line, utf8, lenient, out), first);
    assert_ptr_equal(out->name.data, line.data);
    const struct bytes parts[] = {out->name,  out->argument,      out->address.text,
                                  out->envid, out->address.local, out->orcpt,
                                  out->auth,  out->address.domain};
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++)
        assert_inside(line, parts[i]);
    return first;
}

static struct command good(const char *line)
{
    struct command command;
    enum command_result result = parse(bytes_of_string(line), STRICT, &command);
    if (result != COMMAND_OK)
        fail_msg("%s: result %d", line, (int)result);
    return command;
}

static void refused(const char *line, enum command_result wanted)
{
    struct command command;
    enum command_result result = parse(bytes_of_string(line), STRICT, &command);
    if (result != wanted)
        fail_msg("%s: result %d, not %d", line, (int)result, (int)wanted);
}

static bool is(struct bytes part, const char *text)
{
    return bytes_equal(part, bytes_of_string(text));
}

static void every_verb_is_known_in_any_case(void **state)
{
    (void)state;
    for (int verb = VERB_UNKNOWN + 1; verb < VERB_FOREIGN; verb++) {
        char line[16];
        const char *name = command_verb_name((enum verb)verb);
        for (unsigned spelling = 0; spelling < 1u << 8; spelling++) {
            size_t len = strlen(name);
            for (size_t i = 0; i <= len; i++)
                line[i] = (char)((spelling >> i & 1) != 0 ? name[i] | 32 : name[i]);
            line[len] = '\0';
            struct command command;
            (void)parse(bytes_of_string(line), STRICT, &command);
            assert_int_equal(command.verb, verb);
            assert_true(is(command.name, line));
        }
    }
    assert_string_equal(command_verb_name(VERB_UNKNOWN), "?");
    assert_string_equal(command_verb_name(VERB_COUNT), "?");
    assert_string_equal(command_verb_name(VERB_STARTTLS), "STARTTLS");
}

static void other_words_are_unknown(void **state)
{
    (void)state;
    static const char *const lines[] = {"",
                                        " ",
                                        "X",
                                        "MAI",
                                        "MAILS",
                                        " MAIL FROM:<>",
                                        "MAIL:",
                                        "M@IL",
                                        "HELO\x01",
                                        "QUIT.",
                                        "NOO0",
                                        "STARTTL",
                                        "STARTTLSX",
                                        "STARTLS",
                                        "\xcd"
                                        "AIL",
                                        "ETRN x",
                                        "TURN",
                                        "-",
                                        "\t"};
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        struct command command;
        assert_int_equal(parse(bytes_of_string(lines[i]), STRICT, &command), COMMAND_UNKNOWN);
        assert_int_equal(command.verb, VERB_UNKNOWN);
    }
    struct command command;
    assert_int_equal(command_parse(bytes_make("", 0), false, false, &command), COMMAND_UNKNOWN);
}

/* One octet changed in a four-letter verb makes it another word, but for its case. */
static void verbs_are_compared_whole(void **state)
{
    (void)state;
    for (unsigned at = 0; at < 4; at++)
        for (unsigned c = 1; c < 256; c++) {
            uint8_t line[] = "NOOP";
            line[at] = (uint8_t)c;
            struct command command;
            (void)parse(bytes_make(line, 4), STRICT, &command);
            assert_int_equal(command.verb == VERB_NOOP, (c | 32u) == ("noop"[at] | 0u));
        }
}

/* Version 1 of PROXY begins with its name, and the third line of version 2 is a NUL. */
static void proxy_headers_are_recognised(void **state)
{
    (void)state;
    const struct bytes lines[] = {BYTES("\0"), BYTES("PROXY UNKNOWN"), BYTES("PROXY\r\n\0"),
                                  BYTES("proxy TCP4 192.0.2.1 192.0.2.2 1 2")};
    struct command command;
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        assert_int_equal(parse(lines[i], STRICT, &command),
                         i == 2 ? COMMAND_BAD_OCTETS : COMMAND_OK);
        assert_int_equal(command.verb, i == 2 ? VERB_UNKNOWN : VERB_PROXY);
    }
    (void)parse(BYTES("\0\0"), STRICT, &command);
    assert_int_equal(command.verb, VERB_UNKNOWN);
}

static void http_is_recognised(void **state)
{
    (void)state;
    static const char *const lines[] = {"GET / HTTP/1.1",  "POST /x HTTP/1.0", "PUT / HTTP/1.1",
                                        "HEAD / HTTP/1.1", "OPTIONS *",        "CONNECT a:25",
                                        "DELETE /x",       "PATCH /x",         "TRACE /",
                                        "PRI * HTTP/2.0",  "get http://x/ y",  "GET"};
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++)
        assert_int_equal(good(lines[i]).verb, VERB_FOREIGN);
    refused("GETX /", COMMAND_UNKNOWN);
    assert_string_equal(command_verb_name(VERB_FOREIGN), "HTTP");
}

static void forbidden_octets_are_found_anywhere(void **state)
{
    (void)state;
    static const char *const lines[] = {"MAIL FROM:<a@b.example> SIZE=100 BODY=8BITMIME",
                                        "NOOP xyz", "QUIT", "EHLO mail.example.org"};
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        uint8_t line[64];
        size_t len = strlen(lines[i]);
        for (size_t at = 0; at < len; at++)
            for (unsigned c = 0; c < 256; c++) {
                memcpy(line, lines[i], len);
                line[at] = (uint8_t)c;
                struct command command;
                enum command_result result = parse(bytes_make(line, len), UTF8 | LENIENT, &command);
                bool forbidden = c == '\0' || c == '\r' || c == '\n';
                assert_int_equal(result == COMMAND_BAD_OCTETS, forbidden);
                if (at > 4)
                    assert_int_not_equal(command.verb, VERB_UNKNOWN);
            }
    }
}

static void arguments_are_wanted_or_not(void **state)
{
    (void)state;
    static const char *const none[] = {"DATA", "RSET", "QUIT", "STARTTLS"};
    static const char *const any[] = {"NOOP", "HELP", "AUTH"};
    static const char *const some[] = {"VRFY", "EXPN", "HELO", "EHLO", "LHLO"};
    char line[32];
    for (size_t i = 0; i < 5; i++) {
        const char *name = i < 4 ? none[i] : "DATA";
        good(name);
        snprintf(line, sizeof(line), "%s \t ", name);
        assert_int_equal(good(line).argument.len, 0);
        snprintf(line, sizeof(line), "%s x", name);
        refused(line, COMMAND_SYNTAX);
        name = any[i % 3];
        good(name);
        snprintf(line, sizeof(line), "%s a \"b\t", name);
        assert_true(is(good(line).argument, "a \"b"));
        refused(some[i], COMMAND_SYNTAX);
        snprintf(line, sizeof(line), "%s  ", some[i]);
        refused(line, COMMAND_SYNTAX);
        snprintf(line, sizeof(line), "%s  a_b \t", some[i]);
        assert_true(is(good(line).argument, "a_b"));
    }
}

/* parse() has filled the struct with ones. */
static void nothing_is_left_of_the_command_before(void **state)
{
    (void)state;
    struct command command = good("NOOP");
    assert_int_equal(command.argument.len, 0);
    assert_true(command.address.text.len == 0 && command.address.local.len == 0);
    assert_true(command.address.domain.len == 0 && command.address.domain_kind == 0);
    assert_false(command.address.quoted || command.address.utf8);
    assert_false(command.has_size || command.last || command.smtputf8 || command.requiretls ||
                 command.has_notify);
    assert_true(command.body == 0 && command.ret == 0 && command.notify == 0);
    assert_true(command.size == 0);
    assert_true(command.envid.len == 0 && command.orcpt.len == 0 && command.auth.len == 0);
}

static void client_names_have_no_space_and_no_controls(void **state)
{
    (void)state;
    good("EHLO [IPv6:::1]");
    good("EHLO under_score.example.");
    good("HELO \xff");
    refused("EHLO a b", COMMAND_SYNTAX);
    refused("EHLO a\tb", COMMAND_SYNTAX);
    refused("HELO a\x1b", COMMAND_SYNTAX);
    refused("HELO \x7f", COMMAND_SYNTAX);
}

static void mail_takes_a_reverse_path(void **state)
{
    (void)state;
    struct command command = good("mAiL fRoM:<@r.example:User@Example.org>");
    assert_true(is(command.address.text, "User@Example.org"));
    assert_true(is(command.argument, "fRoM:<@r.example:User@Example.org>"));
    assert_false(command.has_size || command.smtputf8);
    assert_int_equal(command.body, COMMAND_BODY_7BIT);
    assert_int_equal(good("MAIL FROM:<>").address.text.len, 0);
    good("MAIL FROM:<> \t");
    static const char *const syntax[] = {"MAIL",
                                         "MAIL ",
                                         "MAIL FROM",
                                         "MAIL FROM:",
                                         "MAIL TO:<a@b>",
                                         "MAIL FROM:a@b",
                                         "MAIL FROM <a@b>",
                                         "MAIL FROM: <a@b>",
                                         "MAIL <a@b>",
                                         "MAIL FROM :<a@b>",
                                         "MAIL FROM:<a@b>SIZE=1",
                                         "MAIL FROM:<a@b>\tSIZE=1",
                                         "MAIL FROM:<a@b>>",
                                         "MAIL FROM:\t<a@b>"};
    for (size_t i = 0; i < sizeof(syntax) / sizeof(syntax[0]); i++)
        refused(syntax[i], COMMAND_SYNTAX);
    refused("MAIL FROM:<a>", COMMAND_BAD_ADDRESS);
    refused("MAIL FROM:<a@b", COMMAND_BAD_ADDRESS);
    refused("MAIL FROM:<postmaster>", COMMAND_BAD_ADDRESS);
    refused("MAIL FROM:<a b@c>", COMMAND_BAD_ADDRESS);
    refused("MAIL FROM:<a@b.> FOO", COMMAND_BAD_ADDRESS);
    refused("MAIL FROM:<aaaaaaaaaabbbbbbbbbbccccccccccddddddddddeeeeeeeeeeffffffffff12345@b>",
            COMMAND_LONG_ADDRESS);
}

static void rcpt_takes_a_forward_path(void **state)
{
    (void)state;
    struct command command = good("RCPT TO:<a@b>");
    assert_true(is(command.address.domain, "b"));
    assert_false(command.has_notify);
    command = good("rcpt to:<postMASTER> NOTIFY=NEVER");
    assert_true(is(command.address.text, "postMASTER"));
    assert_int_equal(command.address.domain.len, 0);
    refused("RCPT TO:<>", COMMAND_BAD_ADDRESS);
    refused("RCPT TO:<a>", COMMAND_BAD_ADDRESS);
    refused("RCPT FROM:<a@b>", COMMAND_SYNTAX);
    refused("RCPT TO: <a@b>", COMMAND_SYNTAX);
    refused("RCPT TO:<a@b> SIZE=1", COMMAND_UNKNOWN_PARAMETER);
    refused("RCPT TO:<a@b> SMTPUTF8", COMMAND_UNKNOWN_PARAMETER);
    refused("RCPT TO:<a@b> REQUIRETLS", COMMAND_UNKNOWN_PARAMETER);
}

static void lenient_takes_spaces_and_missing_brackets(void **state)
{
    (void)state;
    struct command command;
    assert_int_equal(parse(BYTES("MAIL FROM:   <a@b> SIZE=1"), LENIENT, &command), COMMAND_OK);
    assert_int_equal(command.size, 1);
    assert_int_equal(parse(BYTES("RCPT TO: <a@b>"), LENIENT, &command), COMMAND_OK);
    assert_true(is(command.address.text, "a@b"));
    assert_int_equal(parse(BYTES("RCPT TO: a@b NOTIFY=NEVER"), LENIENT, &command), COMMAND_OK);
    assert_true(is(command.address.text, "a@b"));
    assert_int_equal(command.notify, COMMAND_NOTIFY_NEVER);
    assert_int_equal(parse(BYTES("MAIL FROM:a@b"), LENIENT, &command), COMMAND_OK);
    assert_int_equal(parse(BYTES("RCPT TO: a@b>"), LENIENT, &command), COMMAND_BAD_ADDRESS);
    assert_int_equal(parse(BYTES("RCPT TO: a"), LENIENT, &command), COMMAND_BAD_ADDRESS);
    assert_int_equal(parse(BYTES("RCPT TO: SIZE=1"), LENIENT, &command), COMMAND_BAD_ADDRESS);
    assert_int_equal(parse(BYTES("RCPT TO : <a@b>"), LENIENT, &command), COMMAND_SYNTAX);
    assert_int_equal(parse(BYTES("RCPT TO: "), LENIENT, &command), COMMAND_SYNTAX);
}

static void utf8_needs_smtputf8(void **state)
{
    (void)state;
    refused("MAIL FROM:<\xc3\xa9@b>", COMMAND_UTF8_ADDRESS);
    refused("MAIL FROM:<\xc3\xa9@b> BODY=8BITMIME", COMMAND_UTF8_ADDRESS);
    refused("MAIL FROM:<\xc3@b> SMTPUTF8", COMMAND_BAD_ADDRESS);
    struct command command = good("MAIL FROM:<\xc3\xa9@b> BODY=8BITMIME smtputf8");
    assert_true(command.smtputf8 && command.address.utf8);
    assert_int_equal(parse(BYTES("MAIL FROM:<\xc3\xa9@b>"), UTF8, &command), COMMAND_UTF8_ADDRESS);
    refused("MAIL FROM:<@\xc3\xa9:a@b>", COMMAND_UTF8_ADDRESS);
    good("MAIL FROM:<@\xc3\xa9:a@b> SMTPUTF8");
    refused("RCPT TO:<a@\xc3\xa9>", COMMAND_UTF8_ADDRESS);
    assert_int_equal(parse(BYTES("RCPT TO:<a@\xc3\xa9>"), UTF8, &command), COMMAND_OK);
    refused("RCPT TO:<a@b> ORCPT=utf-8;\xc3\xa9@b", COMMAND_UTF8_ADDRESS);
    assert_int_equal(parse(BYTES("RCPT TO:<a@b> ORCPT=utf-8;\xc3\xa9@b"), UTF8, &command),
                     COMMAND_OK);
    refused("VRFY \xc3\xa9", COMMAND_UTF8_ADDRESS);
    refused("VRFY \xc3\xa9SMTPUTF8", COMMAND_UTF8_ADDRESS);
    assert_int_equal(parse(BYTES("EXPN \xc3\xa9"), UTF8, &command), COMMAND_OK);
    assert_true(good("VRFY \xc3\xa9 smtputf8").smtputf8);
    assert_int_equal(parse(BYTES("VRFY \xc3"), UTF8, &command), COMMAND_SYNTAX);
    assert_false(good("VRFY SMTPUTF8").smtputf8);
}

static void parameters_follow_their_grammar(void **state)
{
    (void)state;
    good("MAIL FROM:<>   SIZE=1  BODY=7BIT");
    static const char *const syntax[] = {"=",      "=1",         "SIZE=1=2", "-A=1", "A_B=1",
                                         "X=",     "X=\x7f",     "X=a\tb",   "X\t",  "X=\xff",
                                         "X=\xc3", "\xc3\xa9=1", "X=1\x01"};
    for (size_t i = 0; i < sizeof(syntax) / sizeof(syntax[0]); i++) {
        char line[64];
        snprintf(line, sizeof(line), "MAIL FROM:<> %s z", syntax[i]);
        refused(line, COMMAND_SYNTAX);
        snprintf(line, sizeof(line), "RCPT TO:<a@b> NOTIFY=NEVER %s z", syntax[i]);
        refused(line, COMMAND_SYNTAX);
    }
    static const char *const unknown[] = {
        "X", "0-A", "X=1", "X=<>", "SIZ=1", "SIZES=1", "NOTIFY=NEVER", "ORCPT=a;b", "X=\xc3\xa9"};
    for (size_t i = 0; i < sizeof(unknown) / sizeof(unknown[0]); i++) {
        char line[64];
        snprintf(line, sizeof(line), "MAIL FROM:<a@b> SIZE=1 %s", unknown[i]);
        refused(line, COMMAND_UNKNOWN_PARAMETER);
    }
}

/* Each value as the only parameter of its command; a second one of the same name is refused. */
static void check_value(const char *command, const char *parameter, bool allowed)
{
    char line[2048];
    snprintf(line, sizeof(line), "%s %s", command, parameter);
    if (!allowed) {
        refused(line, COMMAND_BAD_PARAMETER);
        return;
    }
    good(line);
    snprintf(line, sizeof(line), "%s %s %s", command, parameter, parameter);
    refused(line, COMMAND_BAD_PARAMETER);
}

static const char *const mail_good[] = {"SIZE=0",
                                        "size=00000000000000000001",
                                        "SIZE=99999999999999999999",
                                        "BODY=7bit",
                                        "body=8BITmime",
                                        "BODY=BINARYMIME",
                                        "SMTPUTF8",
                                        "RequireTLS",
                                        "RET=full",
                                        "RET=HDRS",
                                        "ENVID=a",
                                        "AUTH=<>",
                                        "ENVID=QQ314159",
                                        "ENVID=+2B+3D+20~",
                                        "AUTH=e+3Dmc2@example.com"};
static const char *const mail_bad[] = {
    "SIZE",           "SIZE=-1",       "SIZE=+1",
    "SIZE=1k",        "SIZE=0x1",      "SIZE=000000000000000000001",
    "SIZE=\xd9\xa1",  "BODY",          "BODY=8BIT",
    "BODY=7BITS",     "SMTPUTF8=1",    "RET",
    "RET=FUL",        "RET=FULL,HDRS", "ENVID",
    "ENVID=+",        "ENVID=+2",      "ENVID=a+2b",
    "ENVID=+2G",      "ENVID=+G2",     "ENVID=+0D+0A",
    "ENVID=+7F",      "ENVID=+80",     "ENVID=+FF",
    "ENVID=\xc3\xa9", "AUTH",          "AUTH=+0A",
    "REQUIRETLS=YES"};
static const char *const rcpt_good[] = {"NOTIFY=NEVER",
                                        "notify=success",
                                        "NOTIFY=SUCCESS,FAILURE,DELAY",
                                        "NOTIFY=DELAY,DELAY",
                                        "ORCPT=rfc822;Bob@Example.COM",
                                        "ORCPT=rfc822;",
                                        "ORCPT=X-y;a+2Bb;c",
                                        "ORCPT=utf-8;a\\x{e9}b@c",
                                        "ORCPT=UTF-8;\\x{1F600}"};
static const char *const rcpt_bad[] = {"NOTIFY",
                                       "NOTIFY=NEVER,DELAY",
                                       "NOTIFY=DELAY,NEVER",
                                       "NOTIFY=NEVER,NEVER",
                                       "NOTIFY=,",
                                       "NOTIFY=DELAY,",
                                       "NOTIFY=,DELAY",
                                       "NOTIFY=DELAY,,FAILURE",
                                       "NOTIFY=DELAYS",
                                       "NOTIFY=DELAY;FAILURE",
                                       "ORCPT",
                                       "ORCPT=;a",
                                       "ORCPT=rfc822",
                                       "ORCPT=rfc822;+",
                                       "ORCPT=rfc822;a+0Ab",
                                       "ORCPT=a.b;c",
                                       "ORCPT=\xc3\xa9;c",
                                       "ORCPT=rfc822;\xc3\xa9",
                                       "ORCPT=utf-8;",
                                       "ORCPT=utf-8;a+2Bb",
                                       "ORCPT=utf-8;\\x{}",
                                       "ORCPT=utf-8;\\x{a}",
                                       "ORCPT=utf-8;\\x{d800}",
                                       "ORCPT=utf-8;\\x{110000}",
                                       "ORCPT=utf-8;\\x{0000041}",
                                       "ORCPT=utf-8;\\x{41",
                                       "ORCPT=utf-8;\\",
                                       "ORCPT=utf-8;\\x41}",
                                       "ORCPT=utf-8;\\x{4g}"};

static void known_values_are_checked(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof(mail_good) / sizeof(mail_good[0]); i++)
        check_value("MAIL FROM:<>", mail_good[i], true);
    for (size_t i = 0; i < sizeof(mail_bad) / sizeof(mail_bad[0]); i++)
        check_value("MAIL FROM:<a@b>", mail_bad[i], false);
    for (size_t i = 0; i < sizeof(rcpt_good) / sizeof(rcpt_good[0]); i++)
        check_value("RCPT TO:<a@b>", rcpt_good[i], true);
    for (size_t i = 0; i < sizeof(rcpt_bad) / sizeof(rcpt_bad[0]); i++)
        check_value("RCPT TO:<postmaster>", rcpt_bad[i], false);
    refused("MAIL FROM:<> SIZE=", COMMAND_SYNTAX);
    refused("RCPT TO:<a@b> ORCPT=", COMMAND_SYNTAX);
}

static void long_values_have_limits(void **state)
{
    (void)state;
    static const struct {
        const char *command, *start;
        size_t len_max;
    } cases[] = {
        {"MAIL FROM:<>",  "ENVID=",        100},
        {"MAIL FROM:<>",  "AUTH=",         500},
        {"RCPT TO:<a@b>", "ORCPT=rfc822;", 493}
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char value[600];
        size_t start_len = strlen(cases[i].start);
        memcpy(value, cases[i].start, start_len);
        memset(value + start_len, 'x', cases[i].len_max + 1);
        value[start_len + cases[i].len_max] = '\0';
        check_value(cases[i].command, value, true);
        value[start_len + cases[i].len_max] = 'x';
        value[start_len + cases[i].len_max + 1] = '\0';
        check_value(cases[i].command, value, false);
    }
}

static void values_arrive(void **state)
{
    (void)state;
    struct command command = good("MAIL FROM:<a@b> SIZE=4096 BODY=BINARYMIME RET=HDRS ENVID=x+2By "
                                  "AUTH=<> SMTPUTF8");
    assert_true(command.has_size && command.smtputf8 && !command.requiretls);
    assert_int_equal(command.size, 4096);
    assert_int_equal(command.body, COMMAND_BODY_BINARYMIME);
    assert_int_equal(command.ret, COMMAND_RET_HDRS);
    assert_true(is(command.envid, "x+2By"));
    assert_true(is(command.auth, "<>"));
    command = good("RCPT TO:<a@b> ORCPT=rfc822;c@d NOTIFY=delay,SUCCESS");
    assert_true(command.has_notify);
    assert_int_equal(command.notify, COMMAND_NOTIFY_DELAY | COMMAND_NOTIFY_SUCCESS);
    assert_true(is(command.orcpt, "rfc822;c@d"));
    assert_true(good("MAIL FROM:<> REQUIRETLS RET=FULL").requiretls);
    assert_int_equal(good("MAIL FROM:<> RET=FULL").ret, COMMAND_RET_FULL);
    assert_int_equal(good("MAIL FROM:<> BODY=8BITMIME").body, COMMAND_BODY_8BITMIME);
}

static void numbers_saturate(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint64_t value;
    } cases[] = {
        {"0",                    0             },
        {"00000000000000000042", 42            },
        {"18446744073709551614", UINT64_MAX - 1},
        {"18446744073709551615", UINT64_MAX    },
        {"18446744073709551616", UINT64_MAX    },
        {"18446744073709551620", UINT64_MAX    },
        {"28446744073709551615", UINT64_MAX    },
        {"99999999999999999999", UINT64_MAX    }
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint64_t value = 7;
        assert_true(command_number(bytes_of_string(cases[i].text), &value));
        assert_true(value == cases[i].value);
    }
    uint64_t value = 7;
    assert_false(command_number(BYTES(""), &value));
    assert_false(command_number(BYTES("1 "), &value));
    assert_false(command_number(BYTES("100000000000000000000"), &value));
    assert_int_equal(value, 7);
}

static void bdat_takes_a_size_and_last(void **state)
{
    (void)state;
    struct command command = good("BDAT 0");
    assert_true(command.has_size && !command.last);
    command = good("bdat 86 last");
    assert_true(command.last);
    assert_int_equal(command.size, 86);
    assert_true(good("BDAT 99999999999999999999 LAST").size == UINT64_MAX);
    static const char *const bad[] = {
        "BDAT",    "BDAT LAST",     "BDAT 1LAST", "BDAT 1 LAS", "BDAT 1 LASTX",
        "BDAT -1", "BDAT 1 LAST x", "BDAT 1 2",   "BDAT 0x1",   "BDAT 100000000000000000000"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        refused(bad[i], COMMAND_SYNTAX);
}

/* A cut line is read to its end and no further; what of it is still a command is found to be one.
 */
static void cut_lines_are_safe(void **state)
{
    (void)state;
    static const char *const lines[] = {
        "MAIL FROM:<@x,@y:\"a\\\"b\"@[IPv6:1::2:1.2.3.4]> SIZE=1000 BODY=8BITMIME RET=FULL "
        "ENVID=+41 AUTH=<>",
        "MAIL FROM:<\xc3\xa9\xe4\xb8\xad@\xf0\x9d\x84\x9e.example> SMTPUTF8",
        "RCPT TO:<Postmaster> NOTIFY=SUCCESS,FAILURE ORCPT=utf-8;\\x{1F600}\xc3\xa9",
        "BDAT 12345 LAST",
        "MAIL FROM:<> REQUIRETLS",
        "VRFY \xe4\xb8\xad SMTPUTF8",
        "STARTTLS",
        "OPTIONS / HTTP/1.1"};
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++)
        for (size_t len = 0; len <= strlen(lines[i]); len++)
            for (int options = 0; options < 4; options++) {
                struct command command;
                enum command_result result = parse(bytes_make(lines[i], len), options, &command);
                if (len == strlen(lines[i]) && (options & UTF8) != 0)
                    assert_int_equal(result, COMMAND_OK);
                if (len > 4 && i < 5)
                    assert_int_not_equal(command.verb, VERB_UNKNOWN);
            }
    refused("MAIL FROM:<a@b> SIZE=1 BODY=8BITMIM", COMMAND_BAD_PARAMETER);
}

int main(void)
{
    guard = guard_make(4096);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_verb_is_known_in_any_case),
        cmocka_unit_test(other_words_are_unknown),
        cmocka_unit_test(verbs_are_compared_whole),
        cmocka_unit_test(proxy_headers_are_recognised),
        cmocka_unit_test(http_is_recognised),
        cmocka_unit_test(forbidden_octets_are_found_anywhere),
        cmocka_unit_test(arguments_are_wanted_or_not),
        cmocka_unit_test(nothing_is_left_of_the_command_before),
        cmocka_unit_test(client_names_have_no_space_and_no_controls),
        cmocka_unit_test(mail_takes_a_reverse_path),
        cmocka_unit_test(rcpt_takes_a_forward_path),
        cmocka_unit_test(lenient_takes_spaces_and_missing_brackets),
        cmocka_unit_test(utf8_needs_smtputf8),
        cmocka_unit_test(parameters_follow_their_grammar),
        cmocka_unit_test(known_values_are_checked),
        cmocka_unit_test(long_values_have_limits),
        cmocka_unit_test(values_arrive),
        cmocka_unit_test(numbers_saturate),
        cmocka_unit_test(bdat_takes_a_size_and_last),
        cmocka_unit_test(cut_lines_are_safe),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    guard_free(&guard);
    return failed;
}
