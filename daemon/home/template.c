/* SPDX-License-Identifier: MIT */

#include "string-util.h"
#include "template.h"

#define NESTING_MAX 8U
#define NAME_CHARS "abcdefghijklmnopqrstuvwxyz_"

typedef struct Template {
        const TemplateFact *facts;
        struct {
                bool shown, has_else;
        } levels[NESTING_MAX];
        size_t n_levels;
        StrBuf out;
} Template;

static const char* fact_value(const Template *t, const char *name, size_t n) {
        for (const TemplateFact *f = t->facts; f->name; f++)
                if (strlen(f->name) == n && memcmp(f->name, name, n) == 0)
                        return f->value;
        return NULL;
}

static bool is_shown(const Template *t) {
        for (size_t i = 0; i < t->n_levels; i++)
                if (!t->levels[i].shown)
                        return false;
        return true;
}

static int put_line(Template *t, const char *line, size_t n) {
        const StrBuf *out = &t->out;
        int r = 0;

        if (n == 0 && (out->size == 0 || (out->size >= 2 && memcmp(out->text + out->size - 2, "\n\n", 2) == 0)))
                return 0;
        while (n > 0 && r >= 0) {
                const char *at = memchr(line, '@', n), *value = NULL;
                size_t plain = at ? (size_t) (at - line) : n, name = 0;

                if (at)
                        name = strspn(at + 1, NAME_CHARS);
                if (name > 0 && plain + name + 1 < n && at[name + 1] == '@') {
                        value = fact_value(t, at + 1, name);
                        if (!value)
                                return -EINVAL;
                } else if (at)
                        plain++;
                r = strbuf_append(&t->out, line, plain);
                if (r >= 0 && value)
                        r = strbuf_puts(&t->out, value);
                if (value)
                        plain += name + 2;
                line += plain;
                n -= plain;
        }
        return r < 0 ? r : strbuf_append(&t->out, "\n", 1);
}

/* What follows "@if ". */
static int condition(Template *t, const char *s, size_t n) {
        bool negated = n > 0 && *s == '!', holds;
        size_t name;

        s += negated;
        n -= negated;
        name = MIN(strspn(s, NAME_CHARS), n);
        if (name == 0)
                return -EINVAL;
        holds = !!fact_value(t, s, name) != negated;
        if (n == name) {
                if (t->n_levels == NESTING_MAX)
                        return -EINVAL;
                t->levels[t->n_levels].shown = holds;
                t->levels[t->n_levels++].has_else = false;
                return 0;
        }
        if (n < name + 2 || s[name] != ':' || s[name + 1] != ' ')
                return -EINVAL;
        return holds && is_shown(t) ? put_line(t, s + name + 2, n - name - 2) : 0;
}

static int take_line(Template *t, const char *line, size_t n) {
        if (n > strlen("@if ") && startswith(line, "@if "))
                return condition(t, line + strlen("@if "), n - strlen("@if "));
        if (n == strlen("@else") && startswith(line, "@else")) {
                if (t->n_levels == 0 || t->levels[t->n_levels - 1].has_else)
                        return -EINVAL;
                t->levels[t->n_levels - 1].has_else = true;
                t->levels[t->n_levels - 1].shown = !t->levels[t->n_levels - 1].shown;
                return 0;
        }
        if (n == strlen("@end") && startswith(line, "@end")) {
                if (t->n_levels == 0)
                        return -EINVAL;
                t->n_levels--;
                return 0;
        }
        return is_shown(t) ? put_line(t, line, n) : 0;
}

int template_render(const char *text, const TemplateFact *facts, char **ret) {
        Template t = { .facts = facts };
        int r = 0;

        for (const char *line = text; *line && r >= 0; ) {
                size_t n = strcspn(line, "\n");

                r = take_line(&t, line, n);
                line += n + (line[n] == '\n');
        }
        if (r >= 0 && t.n_levels > 0)
                r = -EINVAL;
        if (r >= 0) {
                *ret = strbuf_take(&t.out);
                r = *ret ? 0 : -ENOMEM;
        }
        strbuf_done(&t.out);
        return r;
}
