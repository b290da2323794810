/* SPDX-License-Identifier: MIT */

#include "ctl-option.h"
#include "string-util.h"

void arguments_done(Arguments *a) {
        free(a->words);
        free(a->given);
        *a = (Arguments) {};
}

static int add_word(Arguments *a, const char *word) {
        const char **grown = reallocarray(a->words, a->n_words + 2, sizeof(char*));

        if (!grown)
                return -ENOMEM;
        a->words = grown;
        a->words[a->n_words++] = word;
        a->words[a->n_words] = NULL;
        return 0;
}

static int add_option(Arguments *a, const Option *option, const char *value) {
        GivenOption *grown = reallocarray(a->given, a->n_given + 1, sizeof(GivenOption));

        if (!grown)
                return -ENOMEM;
        a->given = grown;
        a->given[a->n_given++] = (GivenOption) { option, value };
        return 0;
}

static int refuse(char **reterr, const char *format, const char *what) {
        _cleanup_free_ char *shown = str_printable(what, 60), *a = NULL, *b = NULL;
        const char *gap = strstr(format, "%s");

        assert(gap);
        a = memdup0(format, (size_t) (gap - format));
        b = strdup(gap + 2);
        *reterr = shown && a && b ? strjoin(a, shown, b) : NULL;
        return *reterr ? -EINVAL : -ENOMEM;
}

bool option_value_is_optional(const Option *o) {
        return o->value && o->value[0] == '[' && endswith(o->value, "]");
}

static const Option* find_letter(const Option *const tables[], char letter) {
        for (; *tables; tables++)
                for (const Option *o = *tables; o->name; o++)
                        if (o->letter == letter)
                                return o;
        return NULL;
}

static const Option* find_name(const Option *const tables[], const char *name, size_t n) {
        for (; *tables; tables++)
                for (const Option *o = *tables; o->name; o++)
                        if (strlen(o->name) == n && strncmp(o->name, name, n) == 0)
                                return o;
        return NULL;
}

static int parse_long(Arguments *a, int argc, char *const argv[], int *index, const Option *const tables[],
                      char **reterr) {
        const char *name = argv[*index] + 2, *value = strchr(name, '=');
        size_t n = value ? (size_t) (value - name) : strlen(name);
        const Option *o = find_name(tables, name, n);

        if (!o)
                return refuse(reterr, "unknown option '%s'", argv[*index]);
        if (value) {
                if (!o->value)
                        return refuse(reterr, "option '--%s' takes no value", o->name);
                value++;
        } else if (o->value && !option_value_is_optional(o)) {
                if (*index + 1 >= argc)
                        return refuse(reterr, "option '--%s' needs a value", o->name);
                value = argv[++*index];
        }
        return add_option(a, o, value);
}

static int parse_letters(Arguments *a, int argc, char *const argv[], int *index, const Option *const tables[],
                         char **reterr) {
        for (const char *p = argv[*index] + 1; *p; p++) {
                const Option *o = find_letter(tables, *p);
                const char *value = NULL;
                int r;

                if (!o)
                        return refuse(reterr, "unknown option '-%s'", (const char[]) { *p, 0 });
                if (o->value && !option_value_is_optional(o)) {
                        if (p[1])
                                value = p + 1;
                        else if (*index + 1 < argc)
                                value = argv[++*index];
                        else
                                return refuse(reterr, "option '-%s' needs a value", (const char[]) { o->letter, 0 });
                }
                r = add_option(a, o, value);
                if (r < 0 || value)
                        return r;
        }
        return 0;
}

int arguments_parse(Arguments *a, int argc, char *const argv[], int *index, const Option *const tables[],
                    size_t max_words, size_t text_after, char **reterr) {
        bool only_words = false;
        int r = 0;

        *reterr = NULL;
        for (; *index < argc && a->n_words < max_words && r >= 0; (*index)++) {
                const char *s = argv[*index];

                if (!only_words && streq(s, "--")) {
                        only_words = true;
                        continue;
                }
                only_words = only_words || a->n_words >= text_after;
                if (!only_words && startswith(s, "--"))
                        r = parse_long(a, argc, argv, index, tables, reterr);
                else if (!only_words && s[0] == '-' && s[1])
                        r = parse_letters(a, argc, argv, index, tables, reterr);
                else
                        r = add_word(a, s);
        }
        return r;
}

/* The last of that name, or NULL. */
static const GivenOption* arguments_find(const Arguments *a, const char *name) {
        for (size_t i = a->n_given; i > 0; i--)
                if (streq(a->given[i - 1].option->name, name))
                        return a->given + i - 1;
        return NULL;
}

bool arguments_has(const Arguments *a, const char *name) {
        return arguments_find(a, name);
}

const char* arguments_value(const Arguments *a, const char *name) {
        const GivenOption *g = arguments_find(a, name);

        return g ? g->value : NULL;
}

char* arguments_join(const Arguments *a, size_t i) {
        _cleanup_(strbuf_done) StrBuf b = {};

        for (size_t k = i; k < a->n_words; k++)
                if ((k > i && strbuf_puts(&b, " ") < 0) || strbuf_puts(&b, a->words[k]) < 0)
                        return NULL;
        return strbuf_take(&b);
}
