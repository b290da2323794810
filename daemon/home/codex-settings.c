/* SPDX-License-Identifier: MIT */

#include "codex-settings.h"
#include "config-field.h"
#include "string-util.h"

#define DEPTH_MAX 8U

void codex_settings_done(CodexSettings *s) {
        free(s->program);
        free(s->model);
        free(s->model_provider);
        free(s->sandbox);
        free(s->url);
        (void) strv_free(s->config);
        *s = (CodexSettings) { .network = true };
}

static int refuse(char **reterr, const char *path, const YamlNode *n, const char *key, const char *problem) {
        return config_error(reterr, path, yaml_node_line(n), NULL, key, problem);
}

/* One of choices (NULL: anything) into *to. */
static int take_string(char **to, const YamlNode *root, const char *key, const char *const *choices, const char *path,
                       char **reterr) {
        const YamlNode *n = yaml_mapping_get(root, key);
        const char *value = n ? yaml_node_scalar(n) : NULL;
        _cleanup_free_ char *expected = NULL;

        if (!n || yaml_node_is_null(n))
                return 0;
        if (!value || !*value)
                return refuse(reterr, path, n, key, "a text is expected");
        for (const char *const *c = choices; c && *c; c++) {
                char *longer = strjoin(strempty(expected), expected ? ", " : "one of these is expected: ", *c);

                if (streq(*c, value))
                        choices = NULL;
                free(expected);
                expected = longer;
                if (!expected)
                        return -ENOMEM;
        }
        return choices ? refuse(reterr, path, n, key, expected) : free_and_strdup(to, value);
}

/* A value as -c takes it: TOML, and what is none counts as a text. */
static int scalar_text(const YamlNode *n, char **ret) {
        const char *value = strempty(yaml_node_scalar(n));

        *ret = yaml_node_is_string(n) ? toml_quote(value) : strdup(value);
        return *ret ? 0 : -ENOMEM;
}

static int sequence_text(const YamlNode *n, char **ret) {
        _cleanup_(strbuf_done) StrBuf b = {};
        int r = strbuf_puts(&b, "[");

        for (size_t i = 0; i < yaml_node_size(n) && r >= 0; i++) {
                const YamlNode *item = yaml_sequence_get(n, i);
                _cleanup_free_ char *text = NULL;

                if (yaml_node_kind(item) != YAML_SCALAR)
                        return -EINVAL;
                r = scalar_text(item, &text);
                if (r >= 0)
                        r = strbuf_printf(&b, "%s%s", i > 0 ? "," : "", text);
        }
        if (r >= 0)
                r = strbuf_puts(&b, "]");
        *ret = r >= 0 ? strbuf_take(&b) : NULL;
        return *ret ? 0 : -ENOMEM;
}

static bool key_is_plain(const char *key) {
        return *key && key[strspn(key, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-.")] == 0;
}

/* Tables in tables are keys with dots. -EINVAL: not for us. */
static int take_config(char ***to, const YamlNode *n, const char *prefix, unsigned depth) {
        for (size_t i = 0; i < yaml_node_size(n); i++) {
                const char *name = yaml_mapping_key(n, i, NULL);
                const YamlNode *value = yaml_mapping_get(n, name);
                _cleanup_free_ char *key = strjoin(prefix, *prefix ? "." : "", name), *text = NULL, *pair = NULL;
                int r;

                if (!key)
                        return -ENOMEM;
                if (!key_is_plain(name) || depth > DEPTH_MAX || yaml_node_is_null(value))
                        return -EINVAL;
                if (yaml_node_kind(value) == YAML_MAPPING) {
                        r = take_config(to, value, key, depth + 1);
                        if (r < 0)
                                return r;
                        continue;
                }
                r = yaml_node_kind(value) == YAML_SEQUENCE ? sequence_text(value, &text) : scalar_text(value, &text);
                if (r < 0)
                        return r;
                pair = strjoin(key, "=", text);
                r = pair ? strv_extend(to, pair) : -ENOMEM;
                if (r < 0)
                        return r;
        }
        return 0;
}

/* Who looks at these is the gateway; what is wrong with them it says. */
static int take_url(char **to, const YamlNode *root) {
        const YamlNode *n = yaml_mapping_get(root, "ip"), *port_node = yaml_mapping_get(root, "port");
        const char *ip = n ? yaml_node_scalar(n) : NULL;
        int64_t port = 7011;

        if (port_node)
                (void) yaml_node_to_int(port_node, &port);
        if (isempty(ip) || streq(ip, "0.0.0.0") || streq(ip, "::"))
                ip = "127.0.0.1";
        if (streq(ip, "127.0.0.1") && port == 7011)
                return 0;
        *to = asprintf_new(strchr(ip, ':') ? "http://[%s]:%" PRIi64 : "http://%s:%" PRIi64, ip, port);
        return *to ? 0 : -ENOMEM;
}

int codex_settings_load(CodexSettings *ret, const char *path, const YamlNode *root, char **reterr) {
        static const char *const drivers[] = { "app-server", "exec", NULL },
                          *const sandboxes[] = { "read-only", "workspace-write", "danger-full-access", NULL };
        const YamlNode *network = yaml_mapping_get(root, "network_access"),
                       *config = yaml_mapping_get(root, "codex_config");
        _cleanup_(codex_settings_done) CodexSettings s = { .network = true };
        _cleanup_free_ char *driver = NULL;
        int r;

        r = take_string(&s.program, root, "codex", NULL, path, reterr);
        if (r >= 0)
                r = take_string(&driver, root, "driver", drivers, path, reterr);
        if (r >= 0)
                r = take_string(&s.model, root, "model", NULL, path, reterr);
        if (r >= 0)
                r = take_string(&s.model_provider, root, "model_provider", NULL, path, reterr);
        if (r >= 0)
                r = take_string(&s.sandbox, root, "sandbox", sandboxes, path, reterr);
        if (r < 0)
                return r;
        if (network && !yaml_node_is_null(network) && yaml_node_to_bool(network, &s.network) < 0)
                return refuse(reterr, path, network, "network_access", "true or false is expected");
        if (config && !yaml_node_is_null(config)) {
                r = yaml_node_kind(config) == YAML_MAPPING ? take_config(&s.config, config, "", 1) : -EINVAL;
                if (r == -EINVAL)
                        return refuse(reterr, path, config, "codex_config",
                                      "a mapping of keys of Codex's config.toml to values is expected");
                if (r < 0)
                        return r;
        }
        r = take_url(&s.url, root);
        if (r < 0)
                return r;
        s.exec = streq_ptr(driver, "exec");
        *ret = s;
        s = (CodexSettings) {};
        return 0;
}

int codex_settings_to_json(const CodexSettings *s, json_object **ret) {
        const struct { const char *key, *value; } texts[] = {
                { "program", s->program }, { "model", s->model }, { "model_provider", s->model_provider },
                { "sandbox", s->sandbox }, { "url", s->url },
        };
        _cleanup_json_ json_object *o = json_object_new_object();
        json_object *list;
        int r = o ? 0 : -ENOMEM;

        for (size_t i = 0; i < ELEMENTSOF(texts) && r >= 0; i++)
                if (texts[i].value)
                        r = json_put_string(o, texts[i].key, texts[i].value);
        if (r >= 0 && s->exec)
                r = json_put_bool(o, "exec", true);
        if (r >= 0 && !s->network)
                r = json_put_bool(o, "network", false);
        if (r >= 0 && s->config) {
                list = json_object_new_array();
                r = list ? json_put(o, "config", list) : -ENOMEM;
                for (char **c = s->config; *c && r >= 0; c++) {
                        json_object *item = json_object_new_string(*c);

                        if (!item || json_object_array_add(list, item) < 0) {
                                (void) json_object_put(item);
                                r = -ENOMEM;
                        }
                }
        }
        if (r < 0)
                return r;
        *ret = json_object_object_length(o) > 0 ? TAKE_PTR(o) : NULL;
        return 0;
}

int codex_settings_from_json(CodexSettings *ret, json_object *o) {
        json_object *list = json_get(o, "config");
        _cleanup_(codex_settings_done) CodexSettings s = {
                .exec = json_get_bool(o, "exec", false), .network = json_get_bool(o, "network", true),
        };
        const struct { const char *key; char **value; } texts[] = {
                { "program", &s.program }, { "model", &s.model }, { "model_provider", &s.model_provider },
                { "sandbox", &s.sandbox }, { "url", &s.url },
        };
        int r = 0;

        for (size_t i = 0; i < ELEMENTSOF(texts) && r >= 0; i++)
                if (json_get_string(o, texts[i].key))
                        r = free_and_strdup(texts[i].value, json_get_string(o, texts[i].key));
        for (size_t i = 0; json_object_is_type(list, json_type_array) && i < json_object_array_length(list) && r >= 0;
             i++) {
                json_object *item = json_object_array_get_idx(list, i);

                if (json_object_is_type(item, json_type_string))
                        r = strv_extend(&s.config, json_object_get_string(item));
        }
        if (r < 0)
                return r;
        *ret = s;
        s = (CodexSettings) {};
        return 0;
}
