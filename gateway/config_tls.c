/* Certificates and secrets are loaded together with the configuration, and contexts are made for
 * trial, so that whatever is wrong with them is told before anything begins to use them. */
#include "gateway/config_tls.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "gateway/config_file.h"
#include "gateway/config_value.h"
#include "gateway/config_warnings.h"
#include "parser/address.h"

enum {
    ERROR_SIZE = 1024,
    DAY_S = 86400,
    EXPIRY_WARNING_S = 14 * DAY_S,
};

static const char *const modes[] = {[SERVER_TLS_NONE] = "none",
                                    [SERVER_TLS_STARTTLS] = "starttls",
                                    [SERVER_TLS_REQUIRED] = "required",
                                    [SERVER_TLS_IMPLICIT] = "implicit",
                                    NULL};
static const char *const versions[] = {[TLS_1_2] = "1.2", [TLS_1_3] = "1.3", NULL};

/* --- certificates --- */

/* file returns the path in a word of a section certificate { }, owned, or NULL when it was told why
 * there is none. */
static char *file(cfg_t *section, const char *word, const char *folder,
                  struct config_errors *errors)
{
    const struct config_value *value = config_value_at(section, word, 0);
    if (value == NULL || value->text[0] == '\0') {
        config_error(errors, value != NULL ? value->line : section->line,
                     value != NULL ? "certificate \"%s\": %s is empty"
                                   : "certificate \"%s\" has no %s",
                     cfg_title(section), word);
        return NULL;
    }
    char *path = config_value_path(value->text, folder);
    if (path == NULL)
        config_error(errors, value->line, "out of memory");
    else
        config_error_paths(errors, path);
    return path;
}

static bool is_missing(const char *path)
{
    struct stat status;
    return lstat(path, &status) != 0 && errno == ENOENT;
}

static bool has_folder(const char *path)
{
    struct stat status;
    const char *slash = strrchr(path, '/');
    char *folder = slash == NULL ? strdup(".") : strndup(path, (size_t)(slash - path) + 1);
    bool found = folder != NULL && stat(folder, &status) == 0 && S_ISDIR(status.st_mode);
    free(folder);
    return found;
}

static void check_self_signed(const struct config_certificate *self, struct config_errors *errors)
{
    enum address_domain_kind kind;
    bool valid = address_domain(bytes_of_string(self->label), false, &kind) == ADDRESS_OK;
    if (!valid || kind != ADDRESS_NAME)
        config_error(errors, self->line,
                     "certificate \"%s\": a self-signed one is for the name in its title, and "
                     "that is not a domain name",
                     self->label);
    if (!has_folder(self->chain) || !has_folder(self->key))
        config_error(errors, self->line, "certificate \"%s\": the folder of %s does not exist",
                     self->label, has_folder(self->chain) ? self->key : self->chain);
}

static void fill_certificate(struct config_certificate *self, cfg_t *section, const char *folder,
                             struct config_errors *errors)
{
    char error[ERROR_SIZE];
    const struct config_value *chain = config_value_at(section, "chain", 0);
    const struct config_value *key = config_value_at(section, "key", 0);
    self->line = section->line;
    self->label = strdup(cfg_title(section));
    self->self_signed = config_word_choice(section, "self_signed", config_booleans, false, errors);
    self->chain = file(section, "chain", folder, errors);
    self->key = file(section, "key", folder, errors);
    if (self->chain == NULL || self->key == NULL || self->label == NULL)
        return;
    if (self->self_signed && is_missing(self->chain) && is_missing(self->key)) {
        check_self_signed(self, errors);
        return;
    }
    self->certificate = certificate_load(self->chain, self->key, error, sizeof(error));
    if (self->certificate == NULL)
        config_error(errors, strstr(error, self->key) != NULL ? key->line : chain->line,
                     "certificate \"%s\": %s", self->label, error);
}

/* make makes and loads a certificate whose files are missing. Another section may have made them a
 * moment ago. */
static void make(struct config_certificate *self, struct config_errors *errors)
{
    char error[ERROR_SIZE];
    bool there = !is_missing(self->chain) || !is_missing(self->key);
    if (!there) {
        self->made =
            certificate_make_self_signed(self->label, self->chain, self->key, error, sizeof(error));
        there = self->made;
    }
    if (there)
        self->certificate = certificate_load(self->chain, self->key, error, sizeof(error));
    if (self->certificate == NULL)
        config_error(errors, self->line, "certificate \"%s\": %s", self->label, error);
}

bool config_certificates_make(struct config *config, const char *path, FILE *out)
{
    struct config_errors errors = {.path = path, .out = out};
    size_t missing = 0;
    for (size_t i = 0; i < config->certificate_count; i++)
        if (config->certificates[i].certificate == NULL) {
            make(&config->certificates[i], &errors);
            missing++;
        }
    if (missing > 0 && errors.count == 0)
        config_tls_try(config, &errors);
    return errors.count == 0;
}

/* --- the secret of tickets --- */

static void fill_tickets(struct config *config, cfg_t *root, const char *folder,
                         struct config_errors *errors)
{
    char error[ERROR_SIZE];
    cfg_t *section = cfg_getsec(root, "tls");
    config->ticket_path = config_word_path(section, "ticket_secret", folder, errors);
    if (config->ticket_path == NULL)
        return;
    /* A lifetime out of its bounds was told already. */
    uint32_t epoch_s = config->ticket_lifetime_s > 0 ? config->ticket_lifetime_s : 1;
    if (!ticket_secret_load(&config->ticket_secret, config->ticket_path, epoch_s, error,
                            sizeof(error)))
        config_error(errors, config_value_at(section, "ticket_secret", 0)->line,
                     "tls.ticket_secret: %s", error);
}

void config_tls_fill(struct config *config, cfg_t *root, const char *folder,
                     struct config_errors *errors)
{
    unsigned count = cfg_size(root, "certificate");
    config->certificates = calloc(count, sizeof(*config->certificates));
    if (config->certificates == NULL && count > 0) {
        config_error(errors, 0, "out of memory");
        return;
    }
    config->certificate_count = count;
    for (unsigned i = 0; i < count; i++)
        fill_certificate(&config->certificates[i], cfg_getnsec(root, "certificate", i), folder,
                         errors);
    fill_tickets(config, root, folder, errors);
}

void config_tls_free(struct config *config)
{
    for (size_t i = 0; i < config->certificate_count; i++) {
        certificate_drop(config->certificates[i].certificate);
        free(config->certificates[i].label);
        free(config->certificates[i].chain);
        free(config->certificates[i].key);
    }
    free(config->certificates);
    free(config->ticket_path);
    explicit_bzero(&config->ticket_secret, sizeof(config->ticket_secret));
}

/* --- listeners --- */

/* A word that would change nothing was meant otherwise. */
static void needs_tls(cfg_t *section, const char *word, struct config_errors *errors)
{
    const struct config_value *value = config_value_at(section, word, 0);
    if (value != NULL)
        config_error(errors, value->line, "listener.%s: this listener has no TLS", word);
}

void config_tls_listener(struct config_listener *listener, cfg_t *root, cfg_t *section,
                         const char *folder, struct config_errors *errors)
{
    static const char *const words[] = {"client_ca", "tls_min", "tls"};
    bool possible = cfg_size(root, "certificate") > 0;
    int fallback = possible ? SERVER_TLS_STARTTLS : SERVER_TLS_NONE;
    listener->tls = (enum server_tls)config_word_choice(section, "tls", modes, fallback, errors);
    listener->tls_min =
        (enum tls_version)config_word_choice(section, "tls_min", versions, TLS_1_2, errors);
    listener->tls_line = section->line;
    for (size_t i = sizeof(words) / sizeof(words[0]); i-- > 0;)
        if (config_value_at(section, words[i], 0) != NULL)
            listener->tls_line = config_value_at(section, words[i], 0)->line;
    if (listener->tls == SERVER_TLS_NONE) {
        needs_tls(section, "tls_min", errors);
        needs_tls(section, "client_ca", errors);
    } else if (!possible) {
        config_error(errors, config_value_at(section, "tls", 0)->line,
                     "listener.tls: %s needs a certificate: add certificate \"NAME\" { chain = ... "
                     "key = ... }",
                     modes[listener->tls]);
    }
    listener->client_ca = config_word_path(section, "client_ca", folder, errors);
}

bool config_has_tls(const struct config *config)
{
    for (size_t i = 0; i < config->listener_count; i++)
        if (config->listeners[i].tls != SERVER_TLS_NONE)
            return true;
    return false;
}

bool config_tls_alike(const struct config_listener *a, const struct config_listener *b)
{
    bool same_ca = a->client_ca == NULL || b->client_ca == NULL
                       ? a->client_ca == b->client_ca
                       : strcmp(a->client_ca, b->client_ca) == 0;
    return a->tls_min == b->tls_min && a->role == b->role && same_ca;
}

/* --- contexts --- */

struct tls_context *config_tls_context(const struct config *config,
                                       const struct config_listener *listener,
                                       const struct ticket_secret *tickets, bool offload,
                                       char *error, size_t error_size)
{
    struct certificate **certificates = calloc(config->certificate_count, sizeof(*certificates));
    size_t count = 0;
    for (size_t i = 0; i < config->certificate_count && certificates != NULL; i++)
        if (config->certificates[i].certificate != NULL)
            certificates[count++] = config->certificates[i].certificate;
    struct tls_server_options options = {
        .certificates = certificates,
        .certificate_count = count,
        .version_min = listener->tls_min,
        .client_ca = listener->client_ca,
        .tickets = tickets,
        .offload = offload,
        .exporter = listener->role == CONFIG_ROLE_SUBMISSION, /* for SCRAM-SHA-256-PLUS */
    };
    struct tls_context *context = NULL;
    if (count == 0)
        snprintf(error, error_size, "%s",
                 certificates == NULL ? "out of memory" : "no certificate");
    else
        context = tls_context_server(&options, error, error_size);
    free(certificates);
    return context;
}

void config_tls_try(const struct config *config, struct config_errors *errors)
{
    char error[ERROR_SIZE];
    bool possible = false;
    for (size_t i = 0; i < config->certificate_count; i++)
        possible |= config->certificates[i].certificate != NULL;
    for (size_t i = 0; i < config->listener_count && possible; i++) {
        const struct config_listener *listener = &config->listeners[i];
        bool tried = listener->tls == SERVER_TLS_NONE;
        for (size_t k = 0; k < i && !tried; k++)
            tried = config->listeners[k].tls != SERVER_TLS_NONE &&
                    config_tls_alike(&config->listeners[k], listener);
        if (tried)
            continue;
        struct tls_context *context =
            config_tls_context(config, listener, NULL, false, error, sizeof(error));
        if (context == NULL)
            config_error(errors, listener->tls_line, "listener \"%s\": %s", listener->name, error);
        tls_context_drop(context);
    }
}

/* --- what is no mistake, but should not stay so --- */

static void warn_of_expiry(const struct certificate *certificate, int64_t now_s, FILE *out)
{
    int64_t expires_s = certificate_expires(certificate);
    int64_t left_s = expires_s - now_s;
    char date[32] = "";
    struct tm time;
    if (left_s > EXPIRY_WARNING_S)
        return;
    if (gmtime_r(&(time_t){expires_s}, &time) != NULL)
        strftime(date, sizeof(date), "%Y-%m-%dT%H:%M:%SZ", &time);
    if (left_s < 0)
        fprintf(out, "certificate %s: expired at %s\n", certificate_path(certificate), date);
    else
        fprintf(out, "certificate %s: expires in %d days, at %s\n", certificate_path(certificate),
                (int)(left_s / DAY_S), date);
}

void config_tls_warnings(const struct config *config, int64_t now_s, FILE *out)
{
    for (size_t i = 0; i < config->certificate_count; i++) {
        const struct config_certificate *self = &config->certificates[i];
        if (self->certificate == NULL)
            continue;
        if (certificate_is_self_signed(self->certificate))
            fprintf(out,
                    "self-signed certificate: %s%s: no client can verify it: replace it and its "
                    "key with those of a certificate authority\n",
                    self->chain, self->made ? " was made now" : "");
        warn_of_expiry(self->certificate, now_s, out);
        config_file_warn_of_mode("key", self->key, out);
    }
    if (config->ticket_path != NULL)
        config_file_warn_of_mode("ticket secret", config->ticket_path, out);
}
