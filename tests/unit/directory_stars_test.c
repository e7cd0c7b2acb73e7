/* gateway/policy/directory: stars and tags: what wins, what means nothing, what is carried to
 * others, circles and copies. */
#include "gateway/policy/directory.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "tests/unit/directory_scene.h"

/* A recipient of that very name goes before "jane+*", alias or not; "jane+*" as a recipient is not
 * that name. */
static void names_go_before_tags(void **state)
{
    (void)state;
    begin();
    alias("alice+*@a.example", "shop@else.example");
    assert_string_equal(who("alice@a.example"), "alice@a.example");
    assert_string_equal(who("alice+x@a.example"), ">shop@else.example");
    alias("bob+*@a.example", "bobs@else.example");
    assert_string_equal(who("bob@a.example"), ">bobs@else.example");
    assert_string_equal(who("bob+x@a.example"), ">bobs@else.example");
    assert_true(directory_add_recipient(directory, 0, BYTES("bob")));
    assert_string_equal(who("bob@a.example"), "bob@a.example");
    assert_string_equal(who("bob+x@a.example"), ">bobs@else.example");
    alias("bob@a.example", "named@else.example");
    assert_string_equal(who("bob@a.example"), ">named@else.example");
    assert_string_equal(who("bob+x@a.example"), ">bobs@else.example");
    end();
}

static void stars_that_mean_nothing(void **state)
{
    (void)state;
    static const char *const bad[][2] = {
        {"sales-*@a.example", "alice@a.example"   },
        {"+*@a.example",      "alice@a.example"   },
        {"a*b@a.example",     "alice@a.example"   },
        {"*+*@a.example",     "alice@a.example"   },
        {"**@a.example",      "alice@a.example"   },
        {"*@a.example",       "bob-*@else.example"},
        {"*@a.example",       "+*@else.example"   },
        {"bob+*@a.example",   "a*+*@else.example" },
        {"bob@a.example",     "*.x@else.example"  },
    };
    static const char *const patterns[] = {"sales-*", "+*", "a*b", "*+*", "**", "*a"};
    const char *error;
    begin();
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_false(directory_add_alias(directory, bytes_of_string(bad[i][0]),
                                         bytes_of_string(bad[i][1]), &error));
        assert_non_null(strstr(error, "a * stands alone"));
    }
    for (size_t i = 0; i < sizeof(patterns) / sizeof(patterns[0]); i++)
        assert_false(directory_add_recipient(directory, 0, bytes_of_string(patterns[i])));
    alias("\"sales-*\"@a.example", "\"a*b\"@else.example"); /* a star in quotes is a star */
    assert_true(directory_add_recipient(directory, 0, BYTES("\"x*\"")));
    assert_string_equal(who("sales-*@a.example"), ">\"a*b\"@else.example");
    assert_string_equal(who("x*@a.example"), "x*@a.example");
    assert_string_equal(who("sales-x@a.example"), "?1");
    end();
}

/* What a star carries to others must not be a way through their server. */
static void routes_are_not_carried(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "u%x@c.example",     "x.example!u@c.example", "\"u@x.example\"@c.example",
        "\"u%x\"@c.example", "me+a%b@a.example",      "me+a!b@a.example",
    };
    begin();
    alias("*@c.example", "*@else.example");
    alias("me+*@a.example", "bob+*@else.example");
    assert_string_equal(who("u@c.example"), ">u@else.example");
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_string_equal(who(bad[i]), "?8");
    alias("half%price@c.example", "alice@a.example"); /* a name of ours */
    assert_string_equal(who("half%price@c.example"), "alice@a.example");
    alias("fixed@c.example", "u%x@else.example"); /* the owner's own wish */
    assert_string_equal(who("fixed@c.example"), ">u%x@else.example");
    end();
    begin();
    alias("*@c.example", "*@b.example"); /* between domains of ours */
    assert_string_equal(who("u%x@c.example"), "u%x@b.example");
    end();
}

/* A circle is one, though mail with a tag finds a way out. */
static void circles_beside_tags(void **state)
{
    (void)state;
    char text[400];
    begin();
    alias("x@a.example", "y@a.example");
    alias("y@a.example", "x@a.example");
    alias("x+*@a.example", "alice@a.example");
    assert_true(directory_alias_loop(directory, text, sizeof(text)));
    assert_non_null(strstr(text, "x@a.example -> "));
    assert_string_equal(who("x@a.example"), "?3");
    assert_string_equal(who("x+t@a.example"), "alice@a.example");
    end();
    begin(); /* and the other way round: only with tags */
    alias("x+*@a.example", "y+1@a.example");
    alias("y+*@a.example", "x+1@a.example");
    alias("x@a.example", "alice@a.example");
    assert_true(directory_alias_loop(directory, text, sizeof(text)));
    assert_string_equal(who("x@a.example"), "alice@a.example");
    assert_string_equal(who("x+t@a.example"), "?3");
    end();
    begin();
    alias("x@a.example", "x+1@a.example");
    alias("x+*@a.example", "alice@a.example");
    assert_false(directory_alias_loop(directory, text, sizeof(text)));
    assert_string_equal(who("x@a.example"), "alice@a.example");
    end();
}

/* No copy can stay where nothing is delivered. */
static void copies_without_a_target(void **state)
{
    (void)state;
    static const char *const ways[][2] = {
        {"x@c.example",   "X@C.example"  },
        {"*@c.example",   "*@c.example"  },
        {"x@c.example",   "*@c.example"  },
        {"x+*@c.example", "x+*@c.example"},
        {"x+*@c.example", "*@c.example"  },
        {"x+*@c.example", "x@c.example"  },
        {"*@c.example",   "box@c.example"},
    };
    char text[400], want[400];
    for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
        begin();
        alias("x@a.example", "x@a.example");
        alias(ways[i][0], "joe@else.example");
        alias(ways[i][0], ways[i][1]);
        assert_false(directory_alias_copy(directory, text, sizeof(text)));
        directory_set_flags(directory, 2, DIRECTORY_NO_TARGET);
        assert_true(directory_alias_copy(directory, text, sizeof(text)));
        snprintf(want, sizeof(want), "%s -> %s", ways[i][0], ways[i][1]);
        assert_string_equal(text, want);
        end();
    }
    begin();
    directory_set_flags(directory, 2, DIRECTORY_NO_TARGET);
    alias("x@c.example", "x@a.example");
    alias("x@a.example", "x@a.example");
    alias("y@c.example", "x@c.example");
    alias("y+*@c.example", "y@c.example");
    alias("z+*@c.example", "x+*@c.example");
    alias("*@c.example", "*@b.example");
    assert_false(directory_alias_copy(directory, text, sizeof(text)));
    end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_go_before_tags),    cmocka_unit_test(stars_that_mean_nothing),
        cmocka_unit_test(routes_are_not_carried),  cmocka_unit_test(circles_beside_tags),
        cmocka_unit_test(copies_without_a_target),
    };
    return cmocka_run_group_tests_name("directory_stars", tests, set_up, tear_down);
}
