/* SPDX-License-Identifier: MIT */

#include <sys/ioctl.h>

#include "ctl-table.h"
#include "event-util.h"
#include "string-util.h"

#define GAP 2U

typedef struct Cell {
        json_object *value;
        char *text;
        Colour colour;
} Cell;

struct Table {
        const Column *columns;
        size_t n_columns;
        Cell *cells;
        size_t n_cells;
};

int table_new(Table **ret, const Column *columns) {
        Table *t = new0(Table, 1);

        if (!t)
                return -ENOMEM;
        t->columns = columns;
        while (columns[t->n_columns].key)
                t->n_columns++;

        *ret = t;
        return 0;
}

Table* table_free(Table *t) {
        if (!t)
                return NULL;
        for (size_t i = 0; i < t->n_cells; i++) {
                json_object_put(t->cells[i].value);
                free(t->cells[i].text);
        }
        free(t->cells);
        return mfree(t);
}

int table_add(Table *t, json_object *value, const char *text, Colour colour) {
        _cleanup_json_ json_object *owned = value;
        _cleanup_free_ char *safe = NULL;
        Cell *grown;

        if (!text)
                text = value ? json_object_get_string(value) : "-";
        safe = str_printable(text, SIZE_MAX);
        if (!safe)
                return -ENOMEM;
        grown = reallocarray(t->cells, t->n_cells + 1, sizeof(Cell));
        if (!grown)
                return -ENOMEM;
        t->cells = grown;
        t->cells[t->n_cells++] = (Cell) { TAKE_PTR(owned), TAKE_PTR(safe), colour };
        return 0;
}

int table_add_coloured(Table *t, const char *s, Colour colour) {
        json_object *value = s ? json_object_new_string(s) : NULL;

        if (s && !value)
                return -ENOMEM;
        return table_add(t, value, isempty(s) ? "-" : s, colour);
}

int table_add_string(Table *t, const char *s) {
        return table_add_coloured(t, s, COLOUR_NONE);
}

int table_add_number(Table *t, uint64_t n) {
        json_object *value = json_object_new_uint64(n);

        return value ? table_add(t, value, NULL, COLOUR_NONE) : -ENOMEM;
}

int table_add_pid(Table *t, uint64_t pid) {
        return pid > 0 ? table_add_number(t, pid) : table_add(t, NULL, "-", COLOUR_NONE);
}

int table_add_age(Table *t, uint64_t usec) {
        json_object *value = json_object_new_uint64(usec);
        _cleanup_free_ char *text = text_age(usec, now_realtime_usec());

        if (!value || !text) {
                json_object_put(value);
                return -ENOMEM;
        }
        return table_add(t, value, text, COLOUR_NONE);
}

int table_add_bytes(Table *t, uint64_t n) {
        json_object *value = json_object_new_uint64(n);
        _cleanup_free_ char *text = text_bytes(n);

        if (!value || !text) {
                json_object_put(value);
                return -ENOMEM;
        }
        return table_add(t, value, text, COLOUR_NONE);
}

size_t table_n_rows(const Table *t) {
        return t->n_cells / t->n_columns;
}

static int print_tabs(const Table *t, FILE *f) {
        for (size_t i = 0; i < table_n_rows(t) * t->n_columns; i++) {
                const Column *c = t->columns + i % t->n_columns;

                if (c->title)
                        fputs(t->cells[i].text, f);
                for (size_t k = i % t->n_columns + 1; c->title && k < t->n_columns; k++)
                        if (t->columns[k].title) {
                                fputc('\t', f);
                                break;
                        }
                if (i % t->n_columns == t->n_columns - 1)
                        fputc('\n', f);
        }
        return ferror(f) ? -EIO : 0;
}

static void pad(FILE *f, size_t n) {
        while (n-- > 0)
                fputc(' ', f);
}

/* One line of an aligned table; texts and widths have one entry for each column. */
static int print_line(const Table *t, FILE *f, const Cell *cells, const size_t *widths, size_t limit) {
        size_t last = 0, used = 0;

        for (size_t k = 0; k < t->n_columns; k++)
                if (t->columns[k].title)
                        last = k;

        for (size_t k = 0; k <= last; k++) {
                _cleanup_free_ char *cut = NULL;
                size_t width;

                if (!t->columns[k].title)
                        continue;
                cut = k == last && limit > used + 3 ? text_ellipsize(cells[k].text, limit - used)
                                                    : strdup(cells[k].text);
                if (!cut)
                        return -ENOMEM;
                width = text_width(cut);
                if (t->columns[k].right)
                        pad(f, widths[k] - MIN(width, widths[k]));
                fprintf(f, "%s%s%s", colour_on(f, cells[k].colour), cut, colour_off(f, cells[k].colour));
                if (k < last) {
                        if (!t->columns[k].right)
                                pad(f, widths[k] - MIN(width, widths[k]));
                        pad(f, GAP);
                }
                used += widths[k] + GAP;
        }
        fputc('\n', f);
        return ferror(f) ? -EIO : 0;
}

static int print_aligned(const Table *t, FILE *f, bool heading, size_t limit) {
        _cleanup_free_ size_t *widths = new0(size_t, t->n_columns);
        _cleanup_free_ Cell *titles = new0(Cell, t->n_columns);
        int r = 0;

        if (!widths || !titles)
                return -ENOMEM;
        for (size_t k = 0; k < t->n_columns; k++) {
                titles[k] = (Cell) { .text = (char*) t->columns[k].title, .colour = COLOUR_HEADING };
                widths[k] = heading && t->columns[k].title ? text_width(t->columns[k].title) : 0;
                for (size_t i = 0; i < table_n_rows(t); i++)
                        widths[k] = MAX(widths[k], text_width(t->cells[i * t->n_columns + k].text));
        }

        if (heading)
                r = print_line(t, f, titles, widths, limit);
        for (size_t i = 0; i < table_n_rows(t) && r >= 0; i++)
                r = print_line(t, f, t->cells + i * t->n_columns, widths, limit);
        return r;
}

int table_print(const Table *t, FILE *f, TableStyle style, bool heading, size_t width) {
        return style == TABLE_TABS ? print_tabs(t, f) : print_aligned(t, f, heading, width);
}

int table_to_json(const Table *t, json_object **ret) {
        _cleanup_json_ json_object *rows = json_object_new_array();

        if (!rows)
                return -ENOMEM;
        for (size_t i = 0; i < table_n_rows(t); i++) {
                json_object *row = json_object_new_object();

                if (!row || json_object_array_add(rows, row) < 0) {
                        json_object_put(row);
                        return -ENOMEM;
                }
                for (size_t k = 0; k < t->n_columns; k++)
                        if (json_put(row, t->columns[k].key, json_object_get(t->cells[i * t->n_columns + k].value)) <
                            0)
                                return -ENOMEM;
        }

        *ret = TAKE_PTR(rows);
        return 0;
}

size_t terminal_width(FILE *f) {
        struct winsize size = {};

        if (!isatty(fileno(f)))
                return 0;
        return ioctl(fileno(f), TIOCGWINSZ, &size) >= 0 && size.ws_col > 0 ? size.ws_col : 80;
}
