/* SRS: its domain, and its secrets, one a line, which stay in memory no longer than it takes to
 * make the keys of them. */
#include "gateway/config_srs.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/config_file.h"
#include "gateway/config_warnings.h"
#include "parser/address.h"

enum { DAY_S = 86400, SECRET_LEN_MIN = 8, SECRET_LEN_MAX = 1024 };

/* split cuts the file into lines without CR; empty ones count for nothing. Returns how many there
 * are, which may be more than fit. */
static uint32_t split(struct bytes text, struct bytes *secrets)
{
    uint32_t count = 0;
    while (text.len > 0) {
        size_t end = bytes_find(text, '\n');
        struct bytes line = bytes_slice(text, 0, end);
        text = bytes_skip(text, end + 1);
        if (line.len > 0 && line.data[line.len - 1] == '\r')
            line.len--;
        if (line.len > 0 && count++ < SRS_SECRETS_MAX)
            secrets[count - 1] = line;
    }
    return count;
}

static bool lengths_fit(const struct bytes *secrets, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        if (secrets[i].len < SECRET_LEN_MIN || secrets[i].len > SECRET_LEN_MAX)
            return false;
    return true;
}

static void make(struct config *config, struct srs_options *options, struct bytes text, int line,
                 struct config_errors *errors)
{
    struct bytes secrets[SRS_SECRETS_MAX];
    options->secrets = secrets;
    options->secret_count = split(text, secrets);
    if (options->secret_count == 0)
        config_error(errors, line, "srs.secret: %s has no secret in it", config->srs_secret);
    else if (options->secret_count > SRS_SECRETS_MAX)
        config_error(errors, line, "srs.secret: %s has more than %d secrets", config->srs_secret,
                     SRS_SECRETS_MAX);
    else if (!lengths_fit(secrets, options->secret_count))
        config_error(errors, line, "srs.secret: %s: a secret has %d to %d octets",
                     config->srs_secret, SECRET_LEN_MIN, SECRET_LEN_MAX);
    else if ((config->srs = srs_new(options)) == NULL)
        config_error(errors, line, "srs: out of memory");
}

void config_srs_fill(struct config *config, cfg_t *root, const char *folder,
                     struct config_errors *errors)
{
    static struct budget failures; /* of the process: a reload does not fill it again */
    static const struct config_bounds hash = {CONFIG_COUNT, 4, 20, 1};
    static const struct config_bounds age = {CONFIG_TIME, DAY_S, 365 * DAY_S, DAY_S};
    cfg_t *section = cfg_getsec(root, "srs");
    const struct config_value *domain = config_value_at(section, "domain", 0);
    const struct config_value *secret = config_value_at(section, "secret", 0);
    struct srs_options options = {0};
    enum address_domain_kind kind;
    size_t len;
    uint64_t age_s = config_word_number(section, "max_age", &age, 21 * DAY_S, errors);
    options.max_age_days = (uint32_t)(age_s / DAY_S);
    options.hash_length = (uint32_t)config_word_number(section, "hash_length", &hash, 4, errors);
    options.failures = &failures;
    if (domain == NULL && secret == NULL && config_value_at(section, "max_age", 0) == NULL &&
        config_value_at(section, "hash_length", 0) == NULL)
        return;
    if (domain == NULL || secret == NULL) {
        config_error(errors, section->line, "srs has no %s", domain == NULL ? "domain" : "secret");
        return;
    }
    options.domain = bytes_of_string(domain->text);
    if (address_domain(options.domain, false, &kind) != ADDRESS_OK || kind != ADDRESS_NAME) {
        config_error(errors, domain->line, "srs.domain: \"%s\" is not a domain name", domain->text);
        return;
    }
    config->srs_secret = config_word_path(section, "secret", folder, errors);
    if (config->srs_secret == NULL)
        return;
    char *text = config_file_read(config->srs_secret, &len);
    if (text == NULL) {
        config_error(errors, secret->line, "srs.secret: %s: %s", config->srs_secret,
                     strerror(errno));
        return;
    }
    make(config, &options, bytes_make(text, len), secret->line, errors);
    explicit_bzero(text, len);
    free(text);
    if (config->srs != NULL)
        directory_set_srs(config->directory, config->srs);
}

void config_srs_warnings(const struct config *config, FILE *out)
{
    if (config->srs_secret != NULL)
        config_file_warn_of_mode("SRS secret", config->srs_secret, out);
}
