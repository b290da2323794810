/* SPDX-License-Identifier: MIT */

#include <math.h>

#include "config-field.h"
#include "price.h"
#include "string-util.h"

#define SECTION "pricing"
#define PRICE_MAX 1000000
#define PRICES_MAX 100U
#define MODEL_SIZE_MAX 128U

void price_list_done(PriceList *l) {
        for (size_t i = 0; i < l->n; i++)
                free(l->prices[i].model);
        free(l->prices);
        *l = (PriceList) {};
}

static int price_list_add(PriceList *l, const Price *p) {
        Price *grown = reallocarray(l->prices, l->n + 1, sizeof(Price));

        if (!grown)
                return -ENOMEM;
        l->prices = grown;
        grown[l->n] = *p;
        grown[l->n].model = strdup(p->model);
        if (!grown[l->n].model)
                return -ENOMEM;
        l->n++;
        return 0;
}

int price_list_extend(PriceList *l, const PriceList *other) {
        for (size_t i = 0; i < other->n; i++) {
                int r = price_list_add(l, other->prices + i);

                if (r < 0)
                        return r;
        }
        return 0;
}

static int price_load(const char *model, const char *path, const YamlNode *n, Price *ret, char **reterr) {
        Price p = { .model = (char*) model, .input = -1, .output = -1, .cache_read = -1, .cache_write = -1 };
        const struct { const char *key; double *value; } t[] = {
                { "input", &p.input }, { "output", &p.output }, { "cache_read", &p.cache_read },
                { "cache_write", &p.cache_write },
        };
        static const char expected[] =
                "expected {input: …, output: …, cache_read: …, cache_write: …} in dollars per million tokens";

        if (yaml_node_kind(n) != YAML_MAPPING)
                return config_error(reterr, path, yaml_node_line(n), SECTION, model, expected);
        for (size_t i = 0; i < yaml_node_size(n); i++) {
                unsigned line;
                const char *key = yaml_mapping_key(n, i, &line);
                const YamlNode *v = yaml_mapping_get(n, key);
                size_t k;

                for (k = 0; k < ELEMENTSOF(t) && !streq(key, t[k].key); k++)
                        ;
                if (k == ELEMENTSOF(t) || yaml_node_to_double(v, t[k].value) < 0 || !isfinite(*t[k].value) ||
                    *t[k].value < 0 || *t[k].value > PRICE_MAX)
                        return config_error(reterr, path, line, SECTION, model, expected);
        }
        if (p.input < 0 || p.output < 0)
                return config_error(reterr, path, yaml_node_line(n), SECTION, model, expected);
        if (p.cache_read < 0)
                p.cache_read = p.input;
        if (p.cache_write < 0)
                p.cache_write = p.input;
        *ret = p;
        return 0;
}

int price_list_load(PriceList *l, const char *path, const YamlNode *root, char **reterr) {
        const YamlNode *section = yaml_mapping_get(root, SECTION);

        if (!section || yaml_node_is_null(section))
                return 0;
        if (yaml_node_kind(section) != YAML_MAPPING || yaml_node_size(section) > PRICES_MAX)
                return config_error(reterr, path, yaml_node_line(section), SECTION, NULL,
                                    "expected indented lines of 'model: {input: …, output: …}', at most 100");
        for (size_t i = 0; i < yaml_node_size(section); i++) {
                _cleanup_free_ char *shown = NULL;
                unsigned line;
                const char *model = yaml_mapping_key(section, i, &line);
                Price p;
                int r;

                shown = str_printable(model, 60);
                if (!shown)
                        return -ENOMEM;
                if (strlen(model) > MODEL_SIZE_MAX)
                        return config_error(reterr, path, line, SECTION, shown, "too long for a model's name");
                r = price_load(shown, path, yaml_mapping_get(section, model), &p, reterr);
                if (r < 0)
                        return r;
                p.model = (char*) model;
                r = price_list_add(l, &p);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int price_to_json(const Price *p, json_object *list) {
        const struct { const char *key; double value; } t[] = {
                { "input", p->input }, { "output", p->output }, { "cache_read", p->cache_read },
                { "cache_write", p->cache_write },
        };
        _cleanup_json_ json_object *o = json_object_new_object();

        if (!o)
                return -ENOMEM;
        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                json_object *v = json_object_new_double(t[i].value);
                int r = v ? json_put(o, t[i].key, v) : -ENOMEM;

                if (r < 0)
                        return r;
        }
        return json_put(list, p->model, TAKE_PTR(o));
}

int price_list_to_json(const PriceList *l, json_object **ret) {
        _cleanup_json_ json_object *list = json_object_new_object();

        if (!list)
                return -ENOMEM;
        for (size_t i = 0; i < l->n; i++) {
                int r = price_to_json(l->prices + i, list);

                if (r < 0)
                        return r;
        }
        *ret = TAKE_PTR(list);
        return 0;
}

static double get_price(json_object *o, const char *key, double fallback) {
        json_object *v = json_get(o, key);
        double d = json_object_is_type(v, json_type_double) || json_object_is_type(v, json_type_int)
                           ? json_object_get_double(v) : fallback;

        return isfinite(d) && d >= 0 && d <= PRICE_MAX ? d : fallback;
}

int price_list_add_json(PriceList *l, json_object *o) {
        if (!json_object_is_type(o, json_type_object))
                return 0;
        json_object_object_foreach(o, model, v) {
                Price p = { .model = model, .input = get_price(v, "input", -1), .output = get_price(v, "output", -1) };
                int r;

                if (p.input < 0 || p.output < 0)
                        continue;
                p.cache_read = get_price(v, "cache_read", p.input);
                p.cache_write = get_price(v, "cache_write", p.input);
                r = price_list_add(l, &p);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* "-20250929", "-2024-08-06", "@20250929", "-latest": the same model. "-mini" is another one. */
static bool is_date(const char *s) {
        return streq(s, "-latest") ||
               ((*s == '-' || *s == '@') && strlen(s) >= 9 && strspn(s + 1, "0123456789-") == strlen(s + 1));
}

const Price* price_list_find(const PriceList *l, const char *model) {
        for (size_t i = 0; i < l->n; i++)
                if (streq(l->prices[i].model, model))
                        return l->prices + i;
        for (size_t i = 0; i < l->n; i++) {
                const char *rest = startswith(model, l->prices[i].model);

                if (rest && is_date(rest))
                        return l->prices + i;
        }
        return NULL;
}
