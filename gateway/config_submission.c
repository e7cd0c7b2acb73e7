/* Roles, users, senders and keys: see config_submission.h. */
#include "gateway/config_submission.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#include "gateway/config_file.h"
#include "gateway/config_warnings.h"
#include "parser/address.h"
#include "tls/signature.h"

enum { PENDING_MAX = 1000, SHOWN_MAX = 80, PRIORITY_OFF = -10 };

static const char *const roles[] = {
    [CONFIG_ROLE_MX] = "mx", [CONFIG_ROLE_SUBMISSION] = "submission", NULL};
static const char *const auths[] = {[false] = "tls", [true] = "plaintext", NULL};

void config_submission_listener(struct config_listener *listener, cfg_t *section,
                                struct config_errors *errors)
{
    const struct config_value *auth = config_value_at(section, "auth", 0);
    listener->line = section->line;
    listener->role =
        (enum config_role)config_word_choice(section, "role", roles, CONFIG_ROLE_MX, errors);
    listener->auth_clear = config_word_choice(section, "auth", auths, false, errors) == true;
    if (auth != NULL && listener->role != CONFIG_ROLE_SUBMISSION)
        config_error(errors, auth->line, "listener.auth needs role = submission");
}

bool config_has_submission(const struct config *config)
{
    for (size_t i = 0; i < config->listener_count; i++)
        if (config->listeners[i].role == CONFIG_ROLE_SUBMISSION)
            return true;
    return false;
}

static void add_user(void *user, struct bytes line, int number, struct config_errors *errors)
{
    const char *error;
    if (!users_add(user, line, &error)) /* the line itself is not shown: it may hold a password */
        config_error(errors, number, "auth.users: %s", error);
}

static void fill_users(struct config *config, cfg_t *section, const char *folder,
                       struct config_errors *errors)
{
    const struct config_value *value = config_value_at(section, "users", 0);
    if (value == NULL)
        return;
    size_t len = strlen(value->text);
    struct config_value *marked = malloc(sizeof(*marked) + len + 2);
    config->users = users_new();
    if (marked == NULL || config->users == NULL) {
        config_error(errors, value->line, "out of memory");
        free(marked);
        return;
    }
    marked->line = value->line;
    marked->text[0] = '@';
    memcpy(marked->text + 1, value->text, len + 1);
    config_file_lines(marked, "users", folder, add_user, config->users, errors);
    free(marked);
    config->users_path = config_value_path(value->text, folder);
    if (config->users_path == NULL)
        config_error(errors, value->line, "out of memory");
}

static void fill_dovecot(struct config *config, cfg_t *section, struct config_errors *errors)
{
    const struct config_value *value = config_value_at(section, "dovecot", 0);
    if (value == NULL)
        return;
    config->has_dovecot = true;
    config->dovecot.pending_max = PENDING_MAX;
    if (strncmp(value->text, "unix:", 5) != 0) {
        if (!listener_parse(value->text, &config->dovecot.address))
            config_error(errors, value->line,
                         "auth.dovecot: \"%s\" is not an address like \"192.0.2.1:12345\" or "
                         "\"unix:/run/dovecot/auth-client\"",
                         value->text);
        return;
    }
    size_t len = strlen(value->text + 5);
    if (len == 0 || len >= sizeof(((struct sockaddr_un *)0)->sun_path))
        config_error(errors, value->line, "auth.dovecot: a path has 1 to %zu octets",
                     sizeof(((struct sockaddr_un *)0)->sun_path) - 1);
    config->dovecot_path = strdup(value->text + 5);
    if (config->dovecot_path == NULL)
        config_error(errors, value->line, "out of memory");
    config->dovecot.path = config->dovecot_path;
}

static void fill_auth(struct config *config, cfg_t *section, const char *folder,
                      struct config_errors *errors)
{
    enum address_domain_kind kind;
    const struct config_value *domain = config_value_at(section, "domain", 0);
    const struct config_value *users = config_value_at(section, "users", 0);
    fill_users(config, section, folder, errors);
    fill_dovecot(config, section, errors);
    if (users != NULL && config->has_dovecot)
        config_error(errors, users->line, "auth: users and dovecot: there can be but one of them");
    if (domain == NULL)
        return;
    if (address_domain(bytes_of_string(domain->text), false, &kind) != ADDRESS_OK ||
        kind != ADDRESS_NAME)
        config_error(errors, domain->line, "auth.domain: \"%s\" is not a domain name",
                     domain->text);
    config->auth_domain = strdup(domain->text);
    if (config->auth_domain == NULL)
        config_error(errors, domain->line, "out of memory");
    config->authentication.domain = config->auth_domain;
}

/* --- senders --- */

static int shown(struct bytes text)
{
    return (int)(text.len < SHOWN_MAX ? text.len : SHOWN_MAX);
}

static void add_sender(struct config *config, struct bytes user, struct bytes pattern, int line,
                       struct config_errors *errors)
{
    const char *error;
    if (!senders_add(config->senders, user, pattern, &error))
        config_error(errors, line, "sender \"%.*s\": \"%.*s\": %s", shown(user),
                     (const char *)user.data, shown(pattern), (const char *)pattern.data, error);
    else if (config->users != NULL && config->sender_unknown == NULL &&
             !users_has(config->users, user))
        config->sender_unknown = strndup((const char *)user.data, user.len); /* but a warning */
}

/* A line of submission.senders: "user: address, address". */
static void add_sender_line(void *user, struct bytes line, int number, struct config_errors *errors)
{
    size_t colon = bytes_find(line, ':');
    struct bytes name = config_file_trimmed(bytes_slice(line, 0, colon));
    if (name.len == 0 || colon == line.len) {
        config_error(errors, number, "senders: a line is \"user: address, address\"");
        return;
    }
    struct bytes rest = bytes_skip(line, colon + 1);
    for (bool more = true; more;) {
        size_t comma = bytes_find(rest, ',');
        more = comma < rest.len;
        add_sender(user, name, config_file_trimmed(bytes_slice(rest, 0, comma)), number, errors);
        rest = bytes_skip(rest, more ? comma + 1 : comma);
    }
}

static void fill_senders(struct config *config, cfg_t *root, const char *folder,
                         struct config_errors *errors)
{
    const struct config_value *file = config_value_at(cfg_getsec(root, "submission"), "senders", 0);
    config->senders = senders_new(config->auth_domain);
    if (config->senders == NULL) {
        config_error(errors, 0, "out of memory");
        return;
    }
    for (unsigned i = 0; i < cfg_size(root, "sender"); i++) {
        cfg_t *section = cfg_getnsec(root, "sender", i);
        if (cfg_size(section, "addresses") == 0)
            config_error(errors, section->line, "sender \"%s\" has no addresses",
                         cfg_title(section));
        for (unsigned j = 0; j < cfg_size(section, "addresses"); j++) {
            const struct config_value *value = config_value_at(section, "addresses", j);
            add_sender(config, bytes_of_string(cfg_title(section)), bytes_of_string(value->text),
                       value->line, errors);
        }
    }
    if (file != NULL && file->text[0] != '@')
        config_error(errors, file->line, "submission.senders: a file is \"@FILE\"");
    else if (file != NULL)
        config_file_lines(file, "senders", folder, add_sender_line, config, errors);
}

/* --- keys --- */

static struct signature_key *read_key(struct config *config, const struct config_value *value,
                                      const char *name, const char *folder,
                                      struct config_errors *errors)
{
    size_t len = 0;
    char error[256] = "out of memory";
    struct signature_key *key = NULL;
    char *path = config_value_path(name, folder);
    char *pem = path == NULL ? NULL : config_file_read(path, &len);
    if (path != NULL)
        config_error_paths(errors, path);
    if (path != NULL && !config_paths_add(&config->dkim_paths, path))
        config_error(errors, value->line, "out of memory");
    if (path != NULL && pem == NULL)
        snprintf(error, sizeof(error), "%s", strerror(errno));
    if (pem != NULL)
        key = signature_key_read(pem, len, error, sizeof(error));
    if (key == NULL)
        config_error(errors, value->line, "dkim.keys: %s: %s", path != NULL ? path : name, error);
    if (pem != NULL)
        crypto_wipe(pem, len);
    free(pem);
    free(path);
    return key;
}

/* A key is "SELECTOR:FILE". */
static void add_key(struct config *config, cfg_t *section, const struct config_value *value,
                    const char *folder, struct config_errors *errors)
{
    const char *error;
    const char *colon = strchr(value->text, ':');
    if (colon == NULL || colon == value->text || colon[1] == '\0') {
        config_error(errors, value->line, "dkim.keys: \"%s\" is not \"SELECTOR:FILE\"",
                     value->text);
        return;
    }
    struct signature_key *key = read_key(config, value, colon + 1, folder, errors);
    if (key == NULL)
        return;
    struct bytes selector = bytes_make(value->text, (size_t)(colon - value->text));
    if (dkim_keys_add(config->dkim, bytes_of_string(cfg_title(section)), selector, key, &error))
        return;
    config_error(errors, value->line, "dkim.keys: \"%s\": %s", value->text, error);
    signature_key_free(key);
}

static void fill_dkim(struct config *config, cfg_t *root, const char *folder,
                      struct config_errors *errors)
{
    if (cfg_size(root, "dkim") == 0)
        return;
    config->dkim = dkim_keys_new();
    if (config->dkim == NULL)
        config_error(errors, 0, "out of memory");
    for (unsigned i = 0; i < cfg_size(root, "dkim") && config->dkim != NULL; i++) {
        cfg_t *section = cfg_getnsec(root, "dkim", i);
        if (cfg_size(section, "keys") == 0)
            config_error(errors, section->line, "dkim \"%s\" has no keys", cfg_title(section));
        for (unsigned j = 0; j < cfg_size(section, "keys"); j++)
            add_key(config, section, config_value_at(section, "keys", j), folder, errors);
    }
}

/* --- the rest --- */

/* priority = -9 .. 9, or off. */
static void fill_priority(struct config *config, cfg_t *section, struct config_errors *errors)
{
    const struct config_value *value = config_value_at(section, "priority", 0);
    config->submission.priority_max = PRIORITY_OFF;
    if (value == NULL || strcmp(value->text, "off") == 0)
        return;
    const char *digit = value->text + (value->text[0] == '-');
    if (*digit < '0' || *digit > '9' || digit[1] != '\0')
        config_error(errors, value->line, "submission.priority: \"%s\" is not -9 to 9, or off",
                     value->text);
    else
        config->submission.priority_max =
            (int8_t)(digit == value->text ? *digit - '0' : '0' - *digit);
}

/* another_address: is this one of the listener { } that the one before is of? */
static bool another_address(const struct config *config, size_t at)
{
    return at > 0 && strcmp(config->listeners[at].name, config->listeners[at - 1].name) == 0;
}

static void check_listeners(const struct config *config, struct config_errors *errors)
{
    bool can_log_in = config->users != NULL || config->has_dovecot;
    for (size_t i = 0; i < config->listener_count; i++) {
        const struct config_listener *listener = &config->listeners[i];
        if (listener->role == CONFIG_ROLE_SUBMISSION && !can_log_in && !another_address(config, i))
            config_error(errors, listener->line,
                         "listener \"%s\" has role = submission, and nobody can log in: set "
                         "auth.users or auth.dovecot",
                         listener->name);
    }
}

static bool has_words(cfg_t *section)
{
    for (cfg_opt_t *word = section->opts; word->name != NULL; word++)
        if (cfg_opt_size(word) > 0)
            return true;
    return false;
}

void config_submission_fill(struct config *config, cfg_t *root, const char *folder,
                            struct config_errors *errors)
{
    struct submission_rules *rules = &config->submission;
    config->submission_words =
        has_words(cfg_getsec(root, "submission")) || cfg_size(root, "sender") > 0;
    fill_auth(config, cfg_getsec(root, "auth"), folder, errors);
    fill_senders(config, root, folder, errors);
    fill_dkim(config, root, folder, errors);
    fill_priority(config, cfg_getsec(root, "submission"), errors);
    check_listeners(config, errors);
    if (rules->message_size_max == 0)
        rules->message_size_max = config->server.message_size_max;
    if (rules->recipients_max == 0)
        rules->recipients_max = config->server.recipients_max;
    rules->senders = config->senders;
    rules->dkim = config->dkim;
    config->authentication.users = config->users;
    if (config->users != NULL && config->ticket_path != NULL && errors->count == 0 &&
        !users_keep_salts(config->users,
                          bytes_make(config->ticket_secret.key, sizeof(config->ticket_secret.key))))
        config_error(errors, 0, "out of memory");
    if (config->users != NULL || config->has_dovecot)
        config->server.authentication = &config->authentication;
    if (config_has_submission(config))
        config->server.submission = rules;
}

/* warn_of_clear: auth = plaintext helps nobody where only others than loopback come. */
static void warn_of_clear(const struct config_listener *listener, FILE *out)
{
    char text[64];
    if (listener->auth_clear && !listener_is_loopback(&listener->address) &&
        !listener_is_any(&listener->address))
        fprintf(out,
                "listener \"%s\": auth = plaintext is for loopback, and nobody comes to %s from "
                "there\n",
                listener->name, listener_format(&listener->address, text));
}

static void warn_of_listeners(const struct config *config, FILE *out)
{
    for (size_t i = 0; i < config->listener_count; i++) {
        const struct config_listener *listener = &config->listeners[i];
        warn_of_clear(listener, out);
        if (listener->role == CONFIG_ROLE_SUBMISSION && listener->tls == SERVER_TLS_NONE &&
            !listener->auth_clear && !another_address(config, i))
            fprintf(out,
                    "listener \"%s\": nobody can log in: it has neither TLS nor auth = plaintext\n",
                    listener->name);
    }
}

/* warn_of_users: of what is in the file, and, where users have no domain, of what they may not. */
static void warn_of_users(const struct config *config, FILE *out)
{
    const char *path = config->users_path;
    struct bytes bare = users_bare(config->users);
    if (users_count(config->users) == 0)
        fprintf(out, "users %s: nobody is in it, so nobody can log in\n", path);
    else if (!users_anybody(config->users))
        fprintf(out, "users %s: all are locked, so nobody can log in\n", path);
    if (bare.len > 0 && config->auth_domain == NULL)
        fprintf(out, "users %s: \"%.*s\" has no domain, and so no address without auth.domain\n",
                path, shown(bare), (const char *)bare.data);
    if (config->sender_unknown != NULL)
        fprintf(out, "sender \"%s\": users %s has nobody of that name\n", config->sender_unknown,
                path);
    config_file_warn_of_mode("users", path, out);
}

void config_submission_warnings(const struct config *config, FILE *out)
{
    bool may_log_in = config->users != NULL || config->has_dovecot;
    warn_of_listeners(config, out);
    if (!config_has_submission(config) &&
        (may_log_in || config->dkim != NULL || config->submission_words))
        fputs("auth, submission, sender and dkim do nothing: no listener has role = submission\n",
              out);
    if (config->users != NULL && config->users_path != NULL) /* else a reload has kept them */
        warn_of_users(config, out);
    for (size_t i = 0; i < config->dkim_paths.count; i++)
        config_file_warn_of_mode("key", config->dkim_paths.all[i], out);
}

void config_submission_keep_users(struct config *loaded, struct config *old)
{
    if (!loaded->has_dovecot || old->users == NULL)
        return;
    loaded->users = old->users;
    old->users = NULL;
    loaded->authentication.users = loaded->users;
    if (loaded->auth_domain != NULL)
        return;
    loaded->auth_domain = old->auth_domain;
    old->auth_domain = NULL;
    loaded->authentication.domain = loaded->auth_domain;
}

void config_submission_free(struct config *config)
{
    users_free(config->users);
    senders_free(config->senders);
    dkim_keys_free(config->dkim);
    config_paths_free(&config->dkim_paths);
    free(config->users_path);
    free(config->sender_unknown);
    free(config->dovecot_path);
    free(config->auth_domain);
}
