/* SPDX-License-Identifier: MIT */

#include <sodium.h>

#include "file-util.h"
#include "gateway-settings.h"
#include "string-util.h"
#include "yaml-util.h"

#define SYNC_TIMEOUT_DEFAULT_SECONDS 290
#define SYNC_TIMEOUT_MAX_SECONDS 3600
#define KEY_FILE_MAX KIB(64)
#define CONFIG_FILE_MAX MIB(1)

int gateway_settings_new(GatewaySettings **ret) {
        GatewaySettings *s = new0(GatewaySettings, 1);

        if (!s)
                return -ENOMEM;
        s->sync_timeout_usec = SYNC_TIMEOUT_DEFAULT_SECONDS * USEC_PER_SEC;
        s->interrupt_on_disconnect = true;
        *ret = s;
        return 0;
}

GatewaySettings* gateway_settings_free(GatewaySettings *s) {
        if (!s)
                return NULL;
        api_keys_done(&s->keys);
        strv_free(s->host_names);
        return mfree(s);
}

static int bad_value(const char *name, const YamlNode *n, const char *key, const char *expected, char **reterr) {
        *reterr = asprintf_new("%s:%u: %s: expected %s", name, yaml_node_line(n), key, expected);
        return *reterr ? -EBADMSG : -ENOMEM;
}

static int parse_host_names(GatewaySettings *s, const char *name, const YamlNode *n, char **reterr) {
        size_t size = yaml_node_kind(n) == YAML_SEQUENCE ? yaml_node_size(n) : 1;

        for (size_t i = 0; i < size; i++) {
                const YamlNode *item = yaml_node_kind(n) == YAML_SEQUENCE ? yaml_sequence_get(n, i) : n;
                const char *text = yaml_node_scalar(item);
                int r;

                if (isempty(text) || text[strcspn(text, ":/ ")] != 0)
                        return bad_value(name, item, "host_names", "a list of host names without port", reterr);
                r = strv_extend(&s->host_names, text);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int parse_on_disconnect(GatewaySettings *s, const char *name, const YamlNode *n, char **reterr) {
        const char *text = strempty(yaml_node_scalar(n));

        if (!streq(text, "interrupt") && !streq(text, "continue"))
                return bad_value(name, n, "on_disconnect", "'interrupt' or 'continue'", reterr);
        s->interrupt_on_disconnect = streq(text, "interrupt");
        return 0;
}

int gateway_settings_parse(GatewaySettings *s, const char *name, const char *text, size_t size, bool with_key,
                           char **reterr) {
        _cleanup_(yaml_document_freep) YamlDocument *d = NULL;
        _cleanup_free_ char *problem = NULL;
        const YamlNode *root, *n;
        int64_t seconds;
        int r;

        r = yaml_document_parse(&d, text, size, &problem);
        if (r < 0) {
                *reterr = problem ? strjoin(name, ":", problem) : NULL;
                return r;
        }
        root = yaml_document_root(d);

        n = yaml_mapping_get(root, "sync_timeout");
        if (n && !yaml_node_is_null(n)) {
                if (yaml_node_to_int(n, &seconds) < 0 || seconds < 1 || seconds > SYNC_TIMEOUT_MAX_SECONDS)
                        return bad_value(name, n, "sync_timeout", "seconds, 1 to 3600", reterr);
                s->sync_timeout_usec = (uint64_t) seconds * USEC_PER_SEC;
        }
        n = yaml_mapping_get(root, "on_disconnect");
        if (n && !yaml_node_is_null(n)) {
                r = parse_on_disconnect(s, name, n, reterr);
                if (r < 0)
                        return r;
        }
        n = yaml_mapping_get(root, "strict_tools");
        if (n && !yaml_node_is_null(n) && yaml_node_to_bool(n, &s->strict_tools) < 0)
                return bad_value(name, n, "strict_tools", "true or false", reterr);
        n = yaml_mapping_get(root, "buffer_until_item_done");
        if (n && !yaml_node_is_null(n) && yaml_node_to_bool(n, &s->buffer_until_item_done) < 0)
                return bad_value(name, n, "buffer_until_item_done", "true or false", reterr);
        n = yaml_mapping_get(root, "host_names");
        if (n && !yaml_node_is_null(n)) {
                r = parse_host_names(s, name, n, reterr);
                if (r < 0)
                        return r;
        }
        n = yaml_mapping_get(root, "api_key");
        if (with_key && n && !yaml_node_is_null(n)) {
                if (!yaml_node_scalar(n))
                        return bad_value(name, n, "api_key", "a text", reterr);
                r = api_keys_add(&s->keys, yaml_node_scalar(n));
                if (r < 0)
                        return r;
        }
        return 0;
}

/* > 0 when the file is there, even with nothing in it. */
static int load_key_file(GatewaySettings *s, const char *directory, const char *name, char **reterr) {
        _cleanup_free_ char *path = path_join(directory, name);
        char *text = NULL;
        size_t size;
        int r;

        if (!path)
                return -ENOMEM;
        r = file_read(path, KEY_FILE_MAX, &text, &size);
        if (r == -ENOENT)
                return 0;
        if (r < 0) {
                *reterr = asprintf_new("Failed to read the API key from %s: %s", path, strerror(-r));
                return r;
        }
        r = api_keys_add(&s->keys, text);
        sodium_memzero(text, size);
        free(text);
        return r < 0 ? r : 1;
}

/* > 0 when one of them decides: the credential, else the variable. */
static int load_environment_key(GatewaySettings *s, char **reterr) {
        const char *credentials = getenv("CREDENTIALS_DIRECTORY");
        char *value;
        int r;

        if (!isempty(credentials)) {
                r = load_key_file(s, credentials, "api-key", reterr);
                if (r != 0)
                        return r;
        }
        value = getenv("AGENT_PROXY_API_KEY");
        if (isempty(value))
                return 0;
        r = api_keys_add(&s->keys, value);
        sodium_memzero(value, strlen(value));
        (void) unsetenv("AGENT_PROXY_API_KEY");
        return r < 0 ? r : 1;
}

static int state_directory(char **ret) {
        const char *home = getenv("AGENT_PROXY_HOME"), *user = getenv("HOME");

        if (!isempty(home))
                *ret = strjoin(home, "/.state");
        else if (!isempty(user))
                *ret = strjoin(user, "/.agent_proxy/.state");
        else
                return -ENXIO;
        return *ret ? 0 : -ENOMEM;
}

static int load_state(GatewaySettings *s, bool with_key, char **reterr) {
        _cleanup_free_ char *directory = NULL, *path = NULL;
        char *text = NULL;
        size_t size;
        int r;

        r = state_directory(&directory);
        if (r == -ENXIO)
                return 0;
        if (r < 0)
                return r;
        if (with_key) {
                r = load_key_file(s, directory, "api-key", reterr);
                if (r < 0)
                        return r;
                with_key = r == 0;
        }

        path = path_join(directory, "config.yaml");
        if (!path)
                return -ENOMEM;
        r = file_read(path, CONFIG_FILE_MAX, &text, &size);
        if (r == -ENOENT)
                return 0;
        if (r < 0) {
                *reterr = asprintf_new("Failed to read %s: %s", path, strerror(-r));
                return r;
        }
        r = gateway_settings_parse(s, path, text, size, with_key, reterr);
        sodium_memzero(text, size);
        free(text);
        return r;
}

int gateway_settings_load(GatewaySettings **ret, Scope scope, char **reterr) {
        _cleanup_(gateway_settings_freep) GatewaySettings *s = NULL;
        int r;

        *reterr = NULL;
        r = gateway_settings_new(&s);
        if (r < 0)
                return r;
        r = load_environment_key(s, reterr);
        if (r < 0)
                return r;
        if (scope == SCOPE_USER) {
                r = load_state(s, r == 0, reterr);
                if (r < 0)
                        return r;
        }
        *ret = TAKE_PTR(s);
        return 0;
}
