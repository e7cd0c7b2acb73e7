/* TLS at the start and at a reload: certificates, contexts, and what is to be said about them. */
#include "gateway/gateway_inside.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "gateway/config_warnings.h"

static void say_certificate(struct gateway *gateway, const struct config_certificate *certificate)
{
    char text[512];
    struct tm time;
    struct log_line line = log_begin(gateway->log_port, LOG_INFO, "certificate");
    log_string(&line, "label", certificate->label);
    log_string(&line, "path", certificate_path(certificate->certificate));
    (void)certificate_names(certificate->certificate, text, sizeof(text));
    log_string(&line, "names", text);
    if (gmtime_r(&(time_t){certificate_expires(certificate->certificate)}, &time) != NULL &&
        strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &time) > 0)
        log_string(&line, "expires", text);
    log_string(&line, "kind", certificate_is_rsa(certificate->certificate) ? "rsa" : "ecdsa");
    log_end(&line);
}

void gateway_tls_say_warnings(struct gateway *gateway, const struct config *config)
{
    char *text = NULL;
    size_t len;
    FILE *out = open_memstream(&text, &len);
    if (out == NULL)
        return;
    config_tls_warnings(config, time(NULL), out);
    fclose(out);
    gateway_say_lines(gateway, LOG_WARN, "tls_warning", text);
    free(text);
}

static void tell_expiries(struct gateway *gateway, const struct config *config)
{
    size_t count = config->certificate_count;
    struct expiry *list = calloc(count + 1, sizeof(*list));
    if (gateway->expiries == NULL)
        gateway->expiries = expiries_new();
    if (list == NULL || gateway->expiries == NULL) {
        free(list);
        return;
    }
    for (size_t i = 0; i < count; i++) {
        const struct certificate *certificate = config->certificates[i].certificate;
        snprintf(list[i].label, sizeof(list[i].label), "%s", config->certificates[i].label);
        list[i].is_rsa = certificate_is_rsa(certificate);
        list[i].expires_s = certificate_expires(certificate);
    }
    expiries_set(gateway->expiries, list, (uint32_t)count);
    free(list);
}

void gateway_tls_say(struct gateway *gateway, const struct config *config)
{
    tell_expiries(gateway, config);
    for (size_t i = 0; i < config->certificate_count; i++)
        say_certificate(gateway, &config->certificates[i]);
    gateway_tls_say_warnings(gateway, config);
}

struct contexts *gateway_tls_contexts(struct gateway *gateway, struct config *config, FILE *errors)
{
    char error[1024];
    struct ticket_secret secret = gateway->ticket_secret;
    secret.epoch_s = config->ticket_lifetime_s;
    if (!config_certificates_make(config, gateway->path, errors))
        return NULL;
    struct contexts_options options = {
        .config = config,
        .running = gateway->initial,
        .present = gateway->contexts,
        .tickets = config->ticket_path != NULL ? &config->ticket_secret : &secret,
        .worker_count = (uint32_t)gateway->hand_count,
        .offload = gateway->helpers != NULL,
    };
    struct contexts *contexts = contexts_new(&options, error, sizeof(error));
    explicit_bzero(&secret, sizeof(secret));
    if (contexts == NULL) {
        fprintf(errors, "TLS: %s\n", error);
        return NULL;
    }
    config->server.listeners = contexts->listeners;
    config->server.listener_count = contexts->listener_count;
    return contexts;
}

bool gateway_tls_start(struct gateway *gateway)
{
    char *text = NULL;
    size_t len;
    const struct config *config = gateway->initial;
    FILE *errors = open_memstream(&text, &len);
    if (errors == NULL)
        return false;
    ticket_secret_random(&gateway->ticket_secret, config->ticket_lifetime_s);
    if (config_has_tls(config) && config->tls_helpers > 0) {
        gateway->helpers = helpers_new(config->tls_helpers, HELPERS_LOW);
        if (gateway->helpers == NULL)
            fprintf(errors, "helper threads: %s\n", strerror(errno));
    }
    if (gateway->helpers != NULL || !config_has_tls(config) || config->tls_helpers == 0)
        gateway->contexts = gateway_tls_contexts(gateway, gateway->initial, errors);
    fclose(errors);
    gateway_say_lines(gateway, LOG_ERROR, "start_failed", text);
    free(text);
    if (gateway->contexts == NULL)
        return false;
    gateway_tls_say(gateway, config);
    return true;
}
