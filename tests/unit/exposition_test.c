/* The text that admin/exposition writes: the format, quoting, and that different values stay
 * different. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "gateway/admin/exposition.h"

static char *text;
static size_t len;
static struct exposition out;

static int begin(void **state)
{
    (void)state;
    out.out = open_memstream(&text, &len);
    return out.out == NULL;
}

static int end(void **state)
{
    (void)state;
    free(text);
    return 0;
}

static void wrote(const char *expected)
{
    fclose(out.out);
    assert_string_equal(text, expected);
}

static void single(void **state)
{
    (void)state;
    exposition_single(&out, "a_total", EXPOSITION_COUNTER, "How many.", UINT64_MAX);
    exposition_single(&out, "b_bytes", EXPOSITION_GAUGE, "How much.", 0);
    wrote("# HELP a_total How many.\n# TYPE a_total counter\na_total 18446744073709551615\n"
          "# HELP b_bytes How much.\n# TYPE b_bytes gauge\nb_bytes 0\n");
}

static void labels(void **state)
{
    (void)state;
    exposition_family(&out, "a", EXPOSITION_GAUGE, "Help.");
    exposition_count(&out, 1, "x", "1", "y", "", NULL);
    exposition_seconds(&out, 12000345, "z", "q", NULL);
    exposition_seconds(&out, 0, NULL);
    wrote(
        "# HELP a Help.\n# TYPE a gauge\na{x=\"1\",y=\"\"} 1\na{z=\"q\"} 12.000345\na 0.000000\n");
}

static void values_are_quoted(void **state)
{
    (void)state;
    exposition_family(&out, "a", EXPOSITION_GAUGE, "Help.");
    exposition_count(&out, 1, "x", "\"\\\n", NULL);
    exposition_count(&out, 2, "x", "b\xc3\xbc\xff\x01", NULL);
    exposition_count(&out, 3, "x", "\\xc3", NULL);
    wrote("# HELP a Help.\n# TYPE a gauge\na{x=\"\\\"\\\\\\n\"} 1\n"
          "a{x=\"b\\\\xc3\\\\xbc\\\\xff\\\\x01\"} 2\na{x=\"\\\\xc3\"} 3\n");
}

static void buckets_add_up(void **state)
{
    (void)state;
    struct histogram histogram = {0};
    struct histogram_snapshot snapshot = {0};
    histogram_add(&histogram, 16);
    histogram_add(&histogram, 30);
    histogram_add(&histogram, UINT64_MAX / 2);
    histogram.sum_us = 1500000;
    histogram_collect(&histogram, &snapshot);
    exposition_family(&out, "h_seconds", EXPOSITION_HISTOGRAM, "Help.");
    exposition_histogram(&out, &snapshot, "phase", "x");
    exposition_histogram(&out, &snapshot, NULL, NULL);
    fclose(out.out);
    assert_non_null(strstr(text, "# TYPE h_seconds histogram\n"
                                 "h_seconds_bucket{phase=\"x\",le=\"1.6e-05\"} 1\n"
                                 "h_seconds_bucket{phase=\"x\",le=\"2.4e-05\"} 1\n"
                                 "h_seconds_bucket{phase=\"x\",le=\"3.2e-05\"} 2\n"));
    assert_non_null(strstr(text, "h_seconds_bucket{phase=\"x\",le=\"100.663296\"} 2\n"
                                 "h_seconds_bucket{phase=\"x\",le=\"+Inf\"} 3\n"
                                 "h_seconds_sum{phase=\"x\"} 1.500000\n"
                                 "h_seconds_count{phase=\"x\"} 3\n"
                                 "h_seconds_bucket{le=\"1.6e-05\"} 1\n"));
    assert_non_null(strstr(text, "h_seconds_bucket{le=\"+Inf\"} 3\nh_seconds_sum 1.500000\n"
                                 "h_seconds_count 3\n"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(single, begin, end),
        cmocka_unit_test_setup_teardown(labels, begin, end),
        cmocka_unit_test_setup_teardown(values_are_quoted, begin, end),
        cmocka_unit_test_setup_teardown(buckets_add_up, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
