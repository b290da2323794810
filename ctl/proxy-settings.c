/* SPDX-License-Identifier: MIT */

/* The state directory: config.yaml (agent-proxy §13), as far as it concerns the service's address, and what enable has
 * to remember. */

#include "file-util.h"
#include "proxy.h"
#include "string-util.h"
#include "yaml-util.h"

#define SETTINGS_SIZE_MAX MIB(1)

void proxy_settings_done(ProxySettings *s) {
        free(s->ip);
        free(s->port);
        *s = (ProxySettings) {};
}

static int read_text(YamlNode *root, const char *key, const char *name, char **ret, char **reterr) {
        YamlNode *n = yaml_mapping_get(root, key);

        if (!n || yaml_node_is_null(n))
                return 0;
        if (!yaml_node_scalar(n)) {
                *reterr = asprintf_new("%s:%u: %s: expected a text", name, yaml_node_line(n), key);
                return *reterr ? -EBADMSG : -ENOMEM;
        }
        *ret = strdup(yaml_node_scalar(n));
        return *ret ? 0 : -ENOMEM;
}

int proxy_settings_parse(const char *name, const char *text, size_t size, ProxySettings *ret, char **reterr) {
        _cleanup_(yaml_document_freep) YamlDocument *d = NULL;
        _cleanup_(proxy_settings_done) ProxySettings s = {};
        _cleanup_free_ char *problem = NULL;
        YamlNode *root, *key;
        int r;

        r = yaml_document_parse(&d, text, size, &problem);
        if (r == -EBADMSG) {
                *reterr = strjoin(name, ":", strempty(problem));
                return *reterr ? r : -ENOMEM;
        }
        if (r < 0)
                return r;
        root = yaml_document_root(d);
        r = read_text(root, "ip", name, &s.ip, reterr);
        if (r >= 0)
                r = read_text(root, "port", name, &s.port, reterr);
        if (r < 0)
                return r;
        key = yaml_mapping_get(root, "api_key");
        s.has_key = key && !yaml_node_is_null(key) && !isempty(yaml_node_scalar(key));

        *ret = s;
        s = (ProxySettings) {};
        return 0;
}

/* From <directory>/config.yaml; no file, no settings. */
static int proxy_settings_load(const char *directory, ProxySettings *ret, char **reterr) {
        _cleanup_free_ char *path = path_join(directory, "config.yaml");
        char *text = NULL;
        size_t size;
        int r;

        *ret = (ProxySettings) {};
        if (!path)
                return -ENOMEM;
        r = file_read(path, SETTINGS_SIZE_MAX, &text, &size);
        /* In system mode it is not everybody's to read; whoever may go on there is root. */
        if (r == -ENOENT || r == -EACCES)
                return 0;
        if (r < 0) {
                *reterr = asprintf_new("cannot read '%s': %s", path, strerror(-r));
                return *reterr ? -EBADMSG : -ENOMEM;
        }
        r = proxy_settings_parse(path, text, size, ret, reterr);
        explicit_bzero(text, size);
        free(text);
        return r;
}

int proxy_read_address(Ctl *c, const Arguments *a, const HomePaths *p, ProxyAddress *ret, bool *ret_has_key) {
        const char *ip = arguments_value(a, "ip"), *port = arguments_value(a, "port");
        _cleanup_(proxy_settings_done) ProxySettings settings = {};
        _cleanup_free_ char *error = NULL;
        int r;

        r = proxy_settings_load(p->proxy_state, &settings, &error);
        if (r == -EBADMSG)
                return ctl_fail(c, "%s", error);
        if (r >= 0)
                r = proxy_address_parse(ip, port, ret, &error);
        if (r == -EINVAL)
                return ctl_refuse(c, "%s", error);
        if (r >= 0) {
                proxy_address_done(ret);
                r = proxy_address_parse(ip ?: settings.ip, port ?: settings.port, ret, &error);
        }
        if (r == -EINVAL)
                return ctl_fail(c, "%s/config.yaml: %s", p->proxy_state, error);
        /* The gateway reads that file in user mode only. */
        *ret_has_key = settings.has_key && c->scope == SCOPE_USER;
        return r < 0 ? ctl_oom(c) : EXIT_SUCCESS;
}

int proxy_refuse_open_address(const Ctl *c, const ProxyAddress *address) {
        return ctl_fail(c,
                        "agents run commands: %s is reachable from outside and needs a key (set AGENT_PROXY_API_KEY)",
                        address->ip);
}

static char* linger_mark(const char *directory) {
        return path_join(directory, "linger-was-off");
}

int proxy_linger_remember(const char *directory) {
        _cleanup_free_ char *mark = linger_mark(directory);

        return mark ? file_write_atomic(mark, "", 0, 0600) : -ENOMEM;
}

bool proxy_linger_is_remembered(const char *directory) {
        _cleanup_free_ char *mark = linger_mark(directory);

        return mark && access(mark, F_OK) == 0;
}

int proxy_linger_forget(const char *directory) {
        _cleanup_free_ char *mark = linger_mark(directory);

        if (!mark)
                return -ENOMEM;
        return unlink(mark) < 0 && errno != ENOENT ? -errno : 0;
}
