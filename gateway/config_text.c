/* A reader of tokens that follows libconfuse's lexer, and the grammar above it:
 *
 *     file    = *( item )                      item = word "=" value / word [title] "{" *item "}"
 *     value   = text / "{" [ text *( "," text ) [","] ] "}"
 *
 * Sections do not nest. */
#include "gateway/config_text.h"

#include <stdarg.h>
#include <string.h>

#include "gateway/base/check.h"

enum { WORDS_MAX = 32 }; /* in one section; config.c has no section with half as many */

enum token_kind {
    TOKEN_END,
    TOKEN_WORD,   /* bare text */
    TOKEN_STRING, /* quoted text */
    TOKEN_MARK,   /* one of { } = , */
};

struct token {
    enum token_kind kind;
    char *start;
    size_t len;
    int line;
};

struct reader {
    char *at;
    char *end;
    char *passed;       /* end of the last token that `next` gave */
    struct token ahead; /* of `peek`, when has_ahead */
    bool has_ahead;
    bool broken; /* libconfuse would misunderstand the text */
    int line;
    struct config_errors *errors;
};

/* One level of the file: the words it knows, and the line where each was set. */
struct scope {
    const cfg_opt_t *words;
    const char *name; /* NULL: outside of all sections */
    int line;
    int set_line[WORDS_MAX];
};

static void item(struct reader *reader, const struct token *word, struct scope *scope,
                 struct scope *inner);
static struct token next(struct reader *reader);
static struct token scan(struct reader *reader);
static bool is_mark(const struct token *token, char mark);
__attribute__((format(printf, 3, 4))) static void broken(struct reader *reader, int line,
                                                         const char *format, ...);

void config_error(struct config_errors *errors, int line, const char *format, ...)
{
    va_list arguments;
    errors->count++;
    if (errors->out == NULL)
        return;
    if (line > 0)
        fprintf(errors->out, "%s:%d: ", errors->path, line);
    else
        fprintf(errors->out, "%s: ", errors->path);
    va_start(arguments, format);
    vfprintf(errors->out, format, arguments);
    va_end(arguments);
    fputc('\n', errors->out);
}

void config_error_paths(struct config_errors *errors, const char *path)
{
    if (!config_paths_add(errors->paths, path))
        config_error(errors, 0, "out of memory");
}

bool config_text_prepare(char *text, size_t len, const cfg_opt_t *words,
                         struct config_errors *errors)
{
    struct reader reader = {.at = text, .end = text + len, .line = 1, .errors = errors};
    struct scope outer = {.words = words};
    struct scope inner = {0};
    struct token token;
    while ((token = next(&reader)).kind != TOKEN_END) {
        bool inside = inner.name != NULL;
        if (token.kind == TOKEN_WORD)
            item(&reader, &token, inside ? &inner : &outer, &inner);
        else if (is_mark(&token, '}') && inside)
            inner = (struct scope){0};
        else
            broken(&reader, token.line, "expected a word, found %.*s", (int)token.len, token.start);
    }
    if (inner.name != NULL)
        broken(&reader, inner.line, "%s { is never closed", inner.name);
    return !reader.broken;
}

static void broken(struct reader *reader, int line, const char *format, ...)
{
    char message[512];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof(message), format, arguments);
    va_end(arguments);
    config_error(reader->errors, line, "%s", message);
    reader->broken = true;
}

static bool is_mark(const struct token *token, char mark)
{
    return token->kind == TOKEN_MARK && token->start[0] == mark;
}

static bool is_text(const struct token *token)
{
    return token->kind == TOKEN_WORD || token->kind == TOKEN_STRING;
}

static void blank(char *from, const char *to)
{
    for (char *at = from; at < to; at++)
        if (*at != '\n')
            *at = ' ';
}

static struct token next(struct reader *reader)
{
    struct token token = reader->has_ahead ? reader->ahead : scan(reader);
    reader->has_ahead = false;
    reader->passed = token.start + token.len;
    return token;
}

static struct token peek(struct reader *reader)
{
    if (!reader->has_ahead)
        reader->ahead = scan(reader);
    reader->has_ahead = true;
    return reader->ahead;
}

/* Passes everything up to the mark that closes an open "{". */
static void skip_block(struct reader *reader, int line)
{
    size_t depth = 1;
    while (depth > 0) {
        struct token token = next(reader);
        if (token.kind == TOKEN_END) {
            broken(reader, line, "{ is never closed");
            return;
        }
        depth += is_mark(&token, '{') ? 1 : 0;
        depth -= is_mark(&token, '}') ? 1 : 0;
    }
}

/* An unknown word may stand before anything that a word can stand before. */
static void skip_item(struct reader *reader)
{
    struct token token = peek(reader);
    if (is_mark(&token, '=')) {
        next(reader);
        token = peek(reader);
        if (is_text(&token))
            next(reader);
    } else if (token.kind == TOKEN_STRING) {
        next(reader);
        token = peek(reader);
    }
    if (is_mark(&token, '{')) {
        next(reader);
        skip_block(reader, token.line);
    }
}

/* Text after text, with commas between, up to "}". */
static void list(struct reader *reader, const char *name, int line)
{
    bool text_may_come = true;
    for (;;) {
        struct token token = next(reader);
        if (is_mark(&token, '}'))
            return;
        if (token.kind == TOKEN_END) {
            broken(reader, line, "the list of %s is never closed", name);
            return;
        }
        bool fits = text_may_come ? is_text(&token) : is_mark(&token, ',');
        if (!fits) {
            broken(reader, token.line, "unexpected %.*s in the list of %s", (int)token.len,
                   token.start, name);
            skip_block(reader, token.line);
            return;
        }
        text_may_come = !text_may_come;
    }
}

static void value(struct reader *reader, const cfg_opt_t *word)
{
    struct token token = peek(reader);
    if (!is_mark(&token, '=')) {
        broken(reader, token.line, "%s must be followed by = and a value", word->name);
        skip_item(reader);
        return;
    }
    next(reader);
    token = peek(reader);
    if (!is_text(&token) && !is_mark(&token, '{')) {
        broken(reader, token.line, "%s has no value", word->name);
        return;
    }
    next(reader);
    if (!is_mark(&token, '{'))
        return;
    if ((word->flags & CFGF_LIST) == 0)
        broken(reader, token.line, "%s takes one value, not a list", word->name);
    list(reader, word->name, token.line);
}

static void section(struct reader *reader, const struct token *start, const cfg_opt_t *word,
                    struct scope *inner)
{
    bool named = (word->flags & CFGF_TITLE) != 0;
    struct token token = peek(reader);
    if (named && is_text(&token)) {
        next(reader);
        token = peek(reader);
        named = false;
    }
    if (named || !is_mark(&token, '{')) {
        broken(reader, token.line,
               named ? "%s must be followed by a name and {" : "%s must be followed by {",
               word->name);
        skip_item(reader);
        return;
    }
    next(reader);
    *inner = (struct scope){.words = word->subopts, .name = word->name, .line = start->line};
}

static const cfg_opt_t *find(const cfg_opt_t *words, const struct token *name)
{
    for (const cfg_opt_t *word = words; word->name != NULL; word++)
        if (strlen(word->name) == name->len && memcmp(word->name, name->start, name->len) == 0)
            return word;
    return NULL;
}

static void item(struct reader *reader, const struct token *name, struct scope *scope,
                 struct scope *inner)
{
    const cfg_opt_t *word = find(scope->words, name);
    if (word == NULL) {
        config_error(reader->errors, name->line, "unknown word %.*s%s%s", (int)name->len,
                     name->start, scope->name != NULL ? " in " : "",
                     scope->name != NULL ? scope->name : "");
        skip_item(reader);
        blank(name->start, reader->passed);
        return;
    }
    size_t index = (size_t)(word - scope->words);
    CHECK(index < WORDS_MAX);
    if (scope->set_line[index] != 0 && (word->flags & CFGF_MULTI) == 0)
        config_error(reader->errors, name->line, "%s is already set in line %d", word->name,
                     scope->set_line[index]);
    scope->set_line[index] = name->line;
    if (word->type == CFGT_SEC)
        section(reader, name, word, inner);
    else
        value(reader, word);
}

/* Blanks, line ends and comments. */
static void skip_space(struct reader *reader)
{
    while (reader->at < reader->end) {
        char *start = reader->at;
        size_t left = (size_t)(reader->end - start);
        if (*start == '\n') {
            reader->line++;
            reader->at++;
        } else if (*start == ' ' || *start == '\t' || *start == '\r') {
            reader->at++;
        } else if (*start == '#' || (left > 1 && memcmp(start, "//", 2) == 0)) {
            char *line_end = memchr(start, '\n', left);
            reader->at = line_end != NULL ? line_end : reader->end;
            blank(start, reader->at);
        } else if (left > 1 && memcmp(start, "/*", 2) == 0) {
            char *close = memmem(start + 2, left - 2, "*/", 2);
            if (close == NULL)
                broken(reader, reader->line, "comment is never closed");
            reader->at = close != NULL ? close + 2 : reader->end;
            for (char *at = start; at < reader->at; at++)
                reader->line += *at == '\n';
            blank(start, reader->at);
        } else {
            return;
        }
    }
}

static void string(struct reader *reader, struct token *token)
{
    char quote = *reader->at++;
    while (reader->at < reader->end && *reader->at != quote && *reader->at != '\n') {
        bool escape = *reader->at == '\\' && reader->end - reader->at > 1 && reader->at[1] != '\n';
        reader->at += escape ? 2 : 1;
    }
    if (reader->at < reader->end && *reader->at == quote)
        reader->at++;
    else
        broken(reader, token->line, "a quote is opened, but not closed in the same line");
}

/* libconfuse ends a bare text at + * ( and ) and, for most of them, forgets them without a word. */
static void bare(struct reader *reader, const struct token *token)
{
    bool odd = false;
    while (reader->at < reader->end) {
        char c = *reader->at;
        bool comment = c == '/' && reader->end - reader->at > 1 &&
                       (reader->at[1] == '/' || reader->at[1] == '*');
        if (comment || (c != '\0' && strchr(" \t\r\n#\"'{}=,", c) != NULL))
            break;
        odd |= (unsigned char)c < ' ' || c == 127 || strchr("+*()", c) != NULL;
        reader->at++;
    }
    if (odd)
        broken(reader, token->line, "put %.*s in quotes", (int)(reader->at - token->start),
               token->start);
}

static struct token scan(struct reader *reader)
{
    skip_space(reader);
    struct token token = {.start = reader->at, .line = reader->line};
    if (reader->at == reader->end)
        return token;
    char c = *reader->at;
    if (c == '"' || c == '\'') {
        token.kind = TOKEN_STRING;
        string(reader, &token);
    } else if (c != '\0' && strchr("{}=,", c) != NULL) {
        token.kind = TOKEN_MARK;
        reader->at++;
    } else {
        token.kind = TOKEN_WORD;
        bare(reader, &token);
    }
    token.len = (size_t)(reader->at - token.start);
    return token;
}
