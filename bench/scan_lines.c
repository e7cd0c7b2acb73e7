/* Commands and addresses, and a run over them: see scan_lines.h. */
#include "bench/scan_lines.h"

#include "bench/words.h"
#include "parser/address.h"
#include "parser/command.h"

#include <stdio.h>
#include <stdlib.h>

enum { LINE_MAX_OCTETS = 512, ADDRESS_MAX_OCTETS = 128, LINES_A_RUN = 256 };

static const char *const names[] = {"anna",         "j.smith", "info",        "bounces+4711",
                                    "Maria.Garcia", "x",       "no-reply",    "kontakt",
                                    "newsletter",   "o'brien", "list-request"};
static const char *const domains[] = {"example.org", "mail.example.net", "mx7.eu-west.example.com",
                                      "xn--bcher-kva.example", "a-rather-long-name.example.co.uk"};
static const char *const names_utf8[] = {"m\xc3\xbcller", "\xd0\xb8\xd0\xb2\xd0\xb0\xd0\xbd",
                                         "\xe7\x94\xb0\xe4\xb8\xad"};

/* Written by hand: forms that are rare or wrong. */
static const char *const odd_addresses[] = {
    "\"very.(),:;<>[]\\\".VERY.\\\"very@\\\\ \\\"very\\\".unusual\"@strange.example.com",
    "\"\"@example.org",
    "user@[192.0.2.1]",
    "user@[IPv6:2001:db8::1]",
    "user@[IPv6:::ffff:192.0.2.1]",
    "user%example.com@example.org",
    "!#$%&'*+-/=?^_`{|}~@example.org",
    "a@b",
    ".user@example.org",
    "user.@example.org",
    "us..er@example.org",
    "user@-example.org",
    "user@example-.org",
    "user@example..org",
    "user@[300.0.2.1]",
    "user@[IPv6:2001:db8::1::2]",
    "user",
    "@example.org",
    "user@",
    "us er@example.org",
    "\"unfinished@example.org",
    "user@a.label.that.goes.on.for.more.than.sixty-three.octets."
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.example",
};

static const char *const other_commands[] = {
    "EHLO mail.example.org",
    "DATA",
    "RSET",
    "NOOP",
    "QUIT",
    "BDAT 4096 LAST",
    "HELO [192.0.2.7]",
    "BDAT 65536",
    "VRFY anna",
    "ehlo mx7.eu-west.example.com",
    "STARTTLS",
    "LHLO localhost",
};

#define PICK(array, number) ((array)[(number) % (sizeof(array) / sizeof((array)[0]))])

/* Each writes line `number` of its kind. */

static int plain_address(char *out, uint32_t number)
{
    return snprintf(out, ADDRESS_MAX_OCTETS, "%s%u@%s", PICK(names, number), number * 7 % 1000,
                    PICK(domains, number / 3));
}

static int utf8_address(char *out, uint32_t number)
{
    return snprintf(out, ADDRESS_MAX_OCTETS, "%s%u@%s", PICK(names_utf8, number), number % 100,
                    PICK(domains, number / 3));
}

static int odd_address(char *out, uint32_t number)
{
    return snprintf(out, LINE_MAX_OCTETS, "%s", PICK(odd_addresses, number));
}

static int mail_plain(char *out, uint32_t number)
{
    char address[ADDRESS_MAX_OCTETS];
    plain_address(address, number);
    return snprintf(out, LINE_MAX_OCTETS, "MAIL FROM:<%s>", number % 16 == 0 ? "" : address);
}

static int mail_parameters(char *out, uint32_t number)
{
    char address[ADDRESS_MAX_OCTETS];
    plain_address(address, number);
    return snprintf(out, LINE_MAX_OCTETS, "MAIL FROM:<%s> SIZE=%u%s", address, number * 977 % 90000,
                    number % 2 == 0 ? " BODY=8BITMIME" : "");
}

static int mail_all(char *out, uint32_t number)
{
    char address[ADDRESS_MAX_OCTETS];
    utf8_address(address, number);
    return snprintf(
        out, LINE_MAX_OCTETS,
        "MAIL FROM:<%s> SIZE=%u BODY=8BITMIME RET=HDRS ENVID=QQ%u+3D%u SMTPUTF8 AUTH=<>", address,
        number * 977 % 90000, number, number * 31);
}

static int rcpt_plain(char *out, uint32_t number)
{
    char address[ADDRESS_MAX_OCTETS];
    plain_address(address, number * 5);
    return snprintf(out, LINE_MAX_OCTETS, "RCPT TO:<%s>", address);
}

static int rcpt_dsn(char *out, uint32_t number)
{
    char address[ADDRESS_MAX_OCTETS];
    plain_address(address, number * 5);
    return snprintf(out, LINE_MAX_OCTETS, "RCPT TO:<%s> NOTIFY=%s ORCPT=rfc822;%s", address,
                    number % 3 == 0 ? "NEVER" : "SUCCESS,FAILURE,DELAY", address);
}

static int other(char *out, uint32_t number)
{
    return snprintf(out, LINE_MAX_OCTETS, "%s", PICK(other_commands, number));
}

/* A connection with two messages, as senders with PIPELINING have it: what makes up the mix. */
static int mix(char *out, uint32_t number)
{
    switch (number % 10) {
    case 0: return snprintf(out, LINE_MAX_OCTETS, "EHLO %s", PICK(domains, number / 10));
    case 1: return mail_parameters(out, number);
    case 2: return rcpt_plain(out, number);
    case 4: return mail_plain(out, number);
    case 5: return rcpt_plain(out, number);
    case 6: return rcpt_plain(out, number + 1);
    case 7: return rcpt_dsn(out, number);
    case 9: return snprintf(out, LINE_MAX_OCTETS, "QUIT");
    default: return snprintf(out, LINE_MAX_OCTETS, "DATA");
    }
}

static const struct kind {
    const char *name;
    enum scan_lines_parser parser;
    int (*make)(char *out, uint32_t number);
    bool all_good;
} kinds[] = {
    {"mix of two transactions",     SCAN_LINES_COMMAND, mix,             true },
    {"MAIL",                        SCAN_LINES_COMMAND, mail_plain,      true },
    {"MAIL SIZE BODY",              SCAN_LINES_COMMAND, mail_parameters, true },
    {"MAIL with everything, UTF-8", SCAN_LINES_COMMAND, mail_all,        true },
    {"RCPT",                        SCAN_LINES_COMMAND, rcpt_plain,      true },
    {"RCPT NOTIFY ORCPT",           SCAN_LINES_COMMAND, rcpt_dsn,        true },
    {"other commands",              SCAN_LINES_COMMAND, other,           true },
    {"address",                     SCAN_LINES_ADDRESS, plain_address,   true },
    {"address in UTF-8",            SCAN_LINES_ADDRESS, utf8_address,    true },
    {"odd and wrong addresses",     SCAN_LINES_ADDRESS, odd_address,     false},
};
enum { KINDS = sizeof(kinds) / sizeof(kinds[0]) };

static bool parse(enum scan_lines_parser parser, struct bytes line)
{
    if (parser == SCAN_LINES_ADDRESS) {
        struct address address;
        return address_mailbox(line, true, &address) == ADDRESS_OK;
    }
    struct command command;
    return command_parse(line, false, false, &command) == COMMAND_OK;
}

static void make_set(struct scan_lines *set, const struct kind *kind)
{
    char line[LINE_MAX_OCTETS];
    size_t good = 0;
    set->name = kind->name;
    set->parser = kind->parser;
    for (uint32_t i = 0; i < SCAN_LINES; i++) {
        int len = kind->make(line, i);
        char *copy = strdup(line);
        if (copy == NULL)
            words_die("no memory");
        set->lines[i] = bytes_make(copy, (size_t)len);
        set->octets += (size_t)len;
        bool taken = parse(kind->parser, set->lines[i]);
        if (kind->all_good && !taken)
            words_die("the parser refuses: %s", copy);
        good += taken;
    }
    set->good = (double)good / SCAN_LINES;
}

struct scan_lines *scan_lines_sets(size_t *count)
{
    struct scan_lines *sets = calloc(KINDS, sizeof(*sets));
    if (sets == NULL)
        words_die("no memory");
    for (size_t i = 0; i < KINDS; i++)
        make_set(&sets[i], &kinds[i]);
    *count = KINDS;
    return sets;
}

static volatile uint64_t answer; /* so that no work can be left out */

uint64_t scan_lines_run(void *lines)
{
    struct scan_lines *set = lines;
    uint64_t good = 0;
    for (size_t i = 0; i < LINES_A_RUN; i++) {
        good += parse(set->parser, set->lines[set->next]);
        set->next = (set->next + 1) % SCAN_LINES;
    }
    answer = answer + good;
    return LINES_A_RUN;
}
