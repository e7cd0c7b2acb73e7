/* A directory of a few domains, filled and asked line by line; for its unit tests. */
#ifndef TESTS_UNIT_DIRECTORY_SCENE_H
#define TESTS_UNIT_DIRECTORY_SCENE_H

#include "gateway/policy/directory.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { NOW_S = 1800000000 };

static struct directory_expansion expansion;
static struct directory *directory;

static int set_up(void **state)
{
    (void)state;
    return directory_expansion_init(&expansion, 100) ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    directory_expansion_free(&expansion);
    return 0;
}

static void add_user(const char *domain_name, const char *user)
{
    struct address address;
    char text[300];
    snprintf(text, sizeof(text), "x@%s", domain_name);
    assert_int_equal(address_mailbox(bytes_of_string(text), true, &address), ADDRESS_OK);
    int domain = directory_add_domain(directory, address.domain);
    assert_true(domain >= 0);
    for (char *at = strdup(user), *start = at, *next; at != NULL; at = next) {
        next = strchr(at, ' ');
        if (next != NULL)
            *next++ = '\0';
        if (*at != '\0')
            assert_true(directory_add_recipient(directory, domain, bytes_of_string(at)));
        if (next == NULL)
            free(start);
    }
}

static void alias(const char *from, const char *to)
{
    const char *error = NULL;
    bool added = directory_add_alias(directory, bytes_of_string(from), bytes_of_string(to), &error);
    if (!added)
        print_message("%s -> %s: %s\n", from, to, error);
    assert_true(added);
}

static enum directory_verdict expand(const char *path)
{
    struct address address;
    size_t used;
    enum address_result parsed = address_forward_path(bytes_of_string(path), true, &address, &used);
    assert_true(parsed == ADDRESS_OK || parsed == ADDRESS_LONG_LOCAL);
    return directory_expand(directory, &address, NOW_S, &expansion);
}

/* Targets in their order, divided by spaces; a foreign one begins with ">"; "?" and the verdict
 * when there is none. */
static const char *who(const char *mailbox)
{
    static char text[4096];
    char path[400];
    size_t len = 0;
    snprintf(path, sizeof(path), "<%s>", mailbox);
    enum directory_verdict verdict = expand(path);
    if (verdict != DIRECTORY_ACCEPT) {
        snprintf(text, sizeof(text), "?%d", verdict);
        return text;
    }
    assert_true(expansion.target_count > 0);
    for (uint32_t i = 0; i < expansion.target_count; i++)
        len += (size_t)snprintf(text + len, sizeof(text) - len, "%s%s%.*s", i == 0 ? "" : " ",
                                expansion.targets[i].forwarded ? ">" : "",
                                (int)expansion.targets[i].mailbox.len,
                                (const char *)expansion.targets[i].mailbox.data);
    return text;
}

static void begin(void)
{
    directory = directory_new();
    assert_non_null(directory);
    add_user("a.example", "alice bob+* carol");
    add_user("b.example", "*");
    add_user("c.example", "");
    add_user("m\xc3\xbcller.example", "frank");
}

static void end(void)
{
    directory_free(directory);
    directory = NULL;
}

#endif
