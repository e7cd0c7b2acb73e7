/* Each server_listener owns its list of contexts, one reference for each worker, whether it is the
 * only one that has them or not. */
#include "gateway/contexts.h"

#include <stdio.h>
#include <stdlib.h>

static bool make(struct contexts *contexts, const struct contexts_options *options, uint32_t index,
                 const struct config_listener **found, char *error, size_t error_size);

struct contexts *contexts_new(const struct contexts_options *options, char *error,
                              size_t error_size)
{
    /* For each socket its words; NULL: it has none, and keeps what it has. */
    const struct config_listener *found[LIMIT_LISTENERS];
    struct contexts *contexts = calloc(1, sizeof(*contexts));
    if (contexts == NULL) {
        snprintf(error, error_size, "out of memory");
        return NULL;
    }
    contexts->worker_count = options->worker_count;
    for (uint32_t i = 0; i < options->running->listener_count; i++) {
        found[i] = config_listener_find(options->config, &options->running->listeners[i]);
        contexts->listener_count = i + 1;
        if (make(contexts, options, i, found, error, error_size))
            continue;
        contexts_free(contexts);
        return NULL;
    }
    return contexts;
}

void contexts_free(struct contexts *contexts)
{
    for (uint32_t i = 0; contexts != NULL && i < contexts->listener_count; i++) {
        struct tls_context **list = contexts->listeners[i].contexts;
        for (uint32_t n = 0; list != NULL && n < contexts->worker_count; n++)
            tls_context_drop(list[n]);
        free(list);
        networks_free(contexts->kept[i][0]);
        networks_free(contexts->kept[i][1]);
    }
    free(contexts);
}

/* share lets a socket use the contexts of another. */
static void share(struct server_listener *listener, const struct server_listener *other,
                  uint32_t count)
{
    for (uint32_t n = 0; n < count; n++)
        listener->contexts[n] = tls_context_keep(other->contexts[n]);
}

/* keep lets a socket believe whom it believes now: the configuration that said so may be freed. */
static bool keep(struct contexts *contexts, const struct server_listener *present, uint32_t index,
                 char *error, size_t error_size)
{
    struct networks **kept = contexts->kept[index];
    kept[0] = present->proxy == NULL ? NULL : networks_copy(present->proxy);
    kept[1] = present->xclient == NULL ? NULL : networks_copy(present->xclient);
    contexts->listeners[index].proxy = kept[0];
    contexts->listeners[index].xclient = kept[1];
    bool good = (kept[0] != NULL) == (present->proxy != NULL) &&
                (kept[1] != NULL) == (present->xclient != NULL);
    if (!good)
        snprintf(error, error_size, "out of memory");
    return good;
}

/* make fills the listener of socket `index`; those before it are done. */
static bool make(struct contexts *contexts, const struct contexts_options *options, uint32_t index,
                 const struct config_listener **found, char *error, size_t error_size)
{
    struct server_listener *self = &contexts->listeners[index];
    const struct server_listener *other = NULL;
    const struct config_listener *words =
        found[index] != NULL ? found[index] : &options->running->listeners[index];
    self->submission = options->running->listeners[index].role == CONFIG_ROLE_SUBMISSION;
    self->auth_clear = words->auth_clear;
    self->proxy = words->proxy;
    self->xclient = words->xclient;
    if (found[index] != NULL && config_has_tls(options->running))
        self->tls = found[index]->tls;
    if (found[index] == NULL && options->present != NULL) {
        other = &options->present->listeners[index];
        self->tls = other->tls;
        if (!keep(contexts, other, index, error, error_size))
            return false;
    }
    if (self->tls == SERVER_TLS_NONE)
        return true;
    self->contexts = calloc(options->worker_count, sizeof(struct tls_context *));
    if (self->contexts == NULL) {
        snprintf(error, error_size, "out of memory");
        return false;
    }
    for (uint32_t i = 0; i < index && found[index] != NULL && other == NULL; i++)
        if (found[i] != NULL && contexts->listeners[i].tls != SERVER_TLS_NONE &&
            config_tls_alike(found[i], found[index]))
            other = &contexts->listeners[i];
    if (other != NULL) {
        share(self, other, options->worker_count);
        return true;
    }
    for (uint32_t n = 0; n < options->worker_count; n++) {
        self->contexts[n] = config_tls_context(options->config, found[index], options->tickets,
                                               options->offload, error, error_size);
        if (self->contexts[n] == NULL)
            return false;
    }
    return true;
}
