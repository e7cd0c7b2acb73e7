/* admin/metrics over a real spool and courier and made-up workers: sums, names, every sample of its
 * family, and what Prometheus's own promtool says of it. */
#include "gateway/admin/metrics.h"

#include <fcntl.h>
#include <setjmp.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include <cmocka.h>
#include <pthread.h>

#include "tests/support/house.h"

extern char **environ;

static const char *const pairs[] = {"example.org", "smtp:127.0.0.1:1", "box.example",
                                    "maildir:mail/%u", NULL};
static const struct house_plan plan = {
    .path = "metrics", .retry_min_s = 600, .retry_max_s = 600, .lifetime_s = 100000};

static struct house house;
static struct routes *routes;
static struct server_counters counters[2];
static struct worker workers[2];
static struct health health;
static struct metrics_sources sources;
static char *text;

static int set_up(void **state)
{
    static const struct expiry certificates[] = {
        {.label = "a \"quoted\" one", .is_rsa = true, .expires_s = 2000000000},
        {.label = "twice",                           .expires_s = 1900000001                         },
        {.label = "twice",                           .expires_s = 1900000000}
    };
    if (house_set_up(state) != 0)
        return -1;
    routes = house_routes(pairs);
    house_open(&house, &plan, routes);
    atomic_store(&health.phase, HEALTH_SERVING);
    atomic_store(&health.spool, house.spool);
    sources = (struct metrics_sources){
        .worker_count = 2,
        .spool = house.spool,
        .courier = house.courier,
        .admission = admission_new(10),
        .helpers = helpers_new(1, HELPERS_USUAL),
        .log = house.log,
        .health = &health,
        .census = queue_census_new(house.courier),
        .expiries = expiries_new(),
        .version = "1.2.3",
        .started_s = 1700000000,
        .connections_max = 10,
    };
    for (int i = 0; i < 2; i++)
        sources.workers[i] = (struct metrics_worker){&counters[i], &workers[i]};
    expiries_set(sources.expiries, certificates, 3);
    return 0;
}

static int tear_down(void **state)
{
    free(text);
    queue_census_free(sources.census);
    expiries_free(sources.expiries);
    helpers_free((struct helpers *)(uintptr_t)sources.helpers);
    admission_free((struct admission *)(uintptr_t)sources.admission);
    house_close(&house);
    routes_free(routes);
    return house_tear_down(state);
}

static void scrape(void)
{
    size_t len;
    free(text);
    text = metrics_text(&sources, &len);
    assert_non_null(text);
    assert_int_equal(strlen(text), len);
}

/* shows: is this a line of the page? */
static bool shows(const char *line)
{
    size_t len = strlen(line);
    for (const char *at = text; (at = strstr(at, line)) != NULL; at++)
        if ((at == text || at[-1] == '\n') && at[len] == '\n')
            return true;
    return false;
}

#define SHOWN(line)                                                                                \
    do {                                                                                           \
        if (!shows(line))                                                                          \
            fail_msg("missing: %s\n%s", line, text);                                               \
    } while (0)

static void counters_come_out(void **state)
{
    (void)state;
    counter_add(&counters[0].connections, 7);
    counter_add(&counters[0].closed, 3);
    counter_add(&counters[1].connections, 2);
    counter_add(&counters[0].messages, 5);
    counter_add(&counters[1].messages, 6);
    counter_add(&counters[0].replies[REPLY_NO_SUCH_USER], 4);
    counter_add(&counters[1].replies[REPLY_NO_SUCH_USER], 1);
    counter_add(&counters[1].passed[4], 8);
    counter_add(&counters[0].tls.versions[1], 9);
    counter_add(&counters[0].tls.failures[TLS_FAILURE_NONE], 2);
    counter_add(&counters[1].tls.silent, 5);
    histogram_add(&counters[0].phases[SERVER_PHASE_COMMIT], 1000);
    histogram_add(&counters[1].phases[SERVER_PHASE_COMMIT], 3000000);
    counter_add(&workers[1].turns, 11);
    scrape();
    SHOWN("ringmx_build_info{version=\"1.2.3\"} 1");
    SHOWN("ringmx_ready 1");
    SHOWN("ringmx_trouble{reason=\"disk_full\"} 0");
    SHOWN("ringmx_connections_total{worker=\"0\"} 7");
    SHOWN("ringmx_connections_total{worker=\"1\"} 2");
    SHOWN("ringmx_sessions{worker=\"0\"} 4");
    SHOWN("ringmx_messages_total{worker=\"1\"} 6");
    SHOWN("ringmx_replies_total{code=\"550\",reason=\"no_such_user\"} 5");
    SHOWN("ringmx_passed_replies_total{class=\"4xx\"} 8");
    SHOWN("ringmx_tls_handshakes_total{version=\"TLSv1.3\"} 9");
    SHOWN("ringmx_tls_failures_total{reason=\"unfinished\"} 2");
    SHOWN("ringmx_tls_failures_total{reason=\"silent\"} 5");
    SHOWN("ringmx_phase_duration_seconds_bucket{phase=\"commit\",le=\"0.001024\"} 1");
    SHOWN("ringmx_phase_duration_seconds_bucket{phase=\"commit\",le=\"+Inf\"} 2");
    SHOWN("ringmx_phase_duration_seconds_sum{phase=\"commit\"} 3.001000");
    SHOWN("ringmx_phase_duration_seconds_count{phase=\"commit\"} 2");
    SHOWN("ringmx_worker_turns_total{worker=\"1\"} 11");
    SHOWN("ringmx_certificate_expiry_timestamp_seconds"
          "{certificate=\"a \\\"quoted\\\" one\",kind=\"rsa\"} 2000000000");
    SHOWN("ringmx_certificate_expiry_timestamp_seconds{certificate=\"twice\",kind=\"ecdsa\"} "
          "1900000000");
    SHOWN("process_start_time_seconds 1700000000");
    assert_null(strstr(text, "1900000001"));
    assert_null(strstr(text, "ringmx_redis_"));
}

static void trouble_shows(void **state)
{
    (void)state;
    atomic_store(&health.phase, HEALTH_DRAINING);
    scrape();
    SHOWN("ringmx_ready 0");
    SHOWN("ringmx_trouble{reason=\"draining\"} 1");
    atomic_store(&health.phase, HEALTH_SERVING);
}

static void deliveries_and_queue_come_out(void **state)
{
    (void)state;
    house_stage(&house, "a@example.org b@example.org c@box.example", BYTES("12345"));
    house_commit(&house);
    WAIT_FOR(&house, delivered, 1);
    WAIT_FOR(&house, connecting.failed, 1);
    for (int i = 0; i < 1000 && (text == NULL || strstr(text, "_dead{destination=\"smtp:127.0.0.1:"
                                                              "1\"} 1") == NULL);
         i++) {
        usleep(queue_census_step(sources.census) * 1000);
        scrape();
    }
    SHOWN("ringmx_deliveries_total{outcome=\"delivered\"} 1");
    SHOWN("ringmx_delivery_connects_total 1");
    SHOWN("ringmx_queue_messages 1");
    SHOWN("ringmx_queue_destination_recipients{destination=\"smtp:127.0.0.1:1\"} 2");
    SHOWN("ringmx_queue_destination_bytes{destination=\"smtp:127.0.0.1:1\"} 5");
    SHOWN("ringmx_queue_aged_recipients{age_max=\"60\"} 2");
    SHOWN("ringmx_queue_aged_recipients{age_max=\"+Inf\"} 0");
    SHOWN("ringmx_destinations{state=\"dead\"} 1");
    SHOWN("ringmx_spool_state{state=\"open\"} 1");
    assert_null(strstr(text, "ringmx_spool_commits_total 0\n"));
    assert_null(strstr(text, "ringmx_spool_sync_duration_seconds_count 0\n"));
}

static void redis_comes_out_of_workers_that_have_one(void **state)
{
    (void)state;
    const struct redis_snapshot redis = {.asked = 5, .answered = 4, .away = 1, .connected = true};
    counter_publish(counters[1].redis, &redis, sizeof(redis));
    atomic_store(&counters[1].has_redis, true);
    scrape();
    SHOWN("ringmx_redis_connections 1");
    SHOWN("ringmx_redis_connections_wanted 1");
    SHOWN("ringmx_redis_results_total{result=\"away\"} 1");
}

/* Each family has its help and type once and before its samples, and no sample comes twice. */
static void families_are_whole(void **state)
{
    (void)state;
    char name[128] = "", seen[65536] = "";
    size_t samples = 0;
    scrape();
    char *rest = text, *line;
    while ((line = strsep(&rest, "\n")) != NULL && *line != '\0') {
        char key[512];
        if (sscanf(line, "# HELP %127s", name) == 1) {
            snprintf(key, sizeof(key), "|%s|", name);
            assert_null(strstr(seen, key));
            size_t used = strlen(seen);
            snprintf(seen + used, sizeof(seen) - used, "%s", key);
            line = strsep(&rest, "\n");
            snprintf(key, sizeof(key), "# TYPE %s ", name);
        } else {
            samples++;
            snprintf(key, sizeof(key), "%s", name);
        }
        if (strncmp(line, key, strlen(key)) != 0)
            fail_msg("%s is no part of %s", line, name);
    }
    assert_true(samples > 300);
}

/* Whoever reads the page checks it as it does. */
static void promtool_finds_nothing(void **state)
{
    (void)state;
    char *arguments[] = {(char[]){"promtool"}, (char[]){"check"}, (char[]){"metrics"}, NULL};
    posix_spawn_file_actions_t actions;
    pid_t child;
    int status;
    scrape();
    FILE *page = fopen("page", "we");
    assert_non_null(page);
    fputs(text, page);
    fclose(page);
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "page", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, STDERR_FILENO, STDOUT_FILENO);
    int error = posix_spawnp(&child, arguments[0], &actions, NULL, arguments, environ);
    posix_spawn_file_actions_destroy(&actions);
    if (error != 0) {
        print_message("skipped: no promtool (package prometheus)\n");
        skip();
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

static atomic_bool stopping;

static void *count_on(void *argument)
{
    struct server_counters *own = argument;
    while (!atomic_load(&stopping)) {
        counter_add(&own->messages, 1);
        histogram_add(&own->phases[SERVER_PHASE_TEXT], 500);
        usleep(1);
    }
    return NULL;
}

/* For ThreadSanitizer: workers, courier and writer go on meanwhile. */
static void scrapes_disturb_nobody(void **state)
{
    (void)state;
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, count_on, &counters[0]), 0);
    for (int i = 0; i < 50; i++) {
        house_stage(&house, "c@box.example", BYTES("x"));
        (void)queue_census_step(sources.census);
        scrape();
    }
    house_commit(&house);
    atomic_store(&stopping, true);
    pthread_join(thread, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(counters_come_out),
        cmocka_unit_test(trouble_shows),
        cmocka_unit_test(deliveries_and_queue_come_out),
        cmocka_unit_test(redis_comes_out_of_workers_that_have_one),
        cmocka_unit_test(families_are_whole),
        cmocka_unit_test(promtool_finds_nothing),
        cmocka_unit_test(scrapes_disturb_nobody),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
