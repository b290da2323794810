/* SPDX-License-Identifier: MIT */

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include "harness-driver.h"

#define LAUNCH_MAX MIB(1)
#define HEADER_SIZE 9U                  /* 8 hexadecimal digits and a line feed (daemon/sandbox/launch.h) */
#define PIPE_SIZE_DEFAULT KIB(64)

/* All that a program gets of the environment of who asks for it: whatever it has, its MCP servers and the commands of
 * the model have too. */
static const char *const inherited[] = {
        "PATH", "LANG", "LANGUAGE", "TZ", "AGENT_PROXY_AGENT", "AGENT_PROXY_URL",
        /* Those of certificates, which are shown to it (cli_certificates_find() of daemon/home). */
        "NODE_EXTRA_CA_CERTS", "SSL_CERT_FILE", "SSL_CERT_DIR", "CURL_CA_BUNDLE", "REQUESTS_CA_BUNDLE",
};
static const char *const proxies[] = {
        "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy",
};
static const char *const proxy_exceptions[] = { "NO_PROXY", "no_proxy" };

int launch_add(HarnessLaunch *l, const char *argument) {
        return strv_extend(&l->argv, argument);
}

int launch_add_value(HarnessLaunch *l, const char *flag, const char *value) {
        _cleanup_free_ char *s = strjoin(flag, "=", value);

        return s ? launch_add(l, s) : -ENOMEM;
}

int launch_set(HarnessLaunch *l, const char *name, const char *value) {
        _cleanup_free_ char *s = strjoin(name, "=", value);

        if (!s)
                return -ENOMEM;
        for (size_t i = 0; i < strv_length(l->env); i++) {
                const char *old = startswith(l->env[i], name);

                if (!old || *old != '=')
                        continue;
                free(l->env[i]);
                l->env[i] = TAKE_PTR(s);
                return 0;
        }
        return strv_extend(&l->env, s);
}

char* launch_model(const char *model) {
        size_t n;

        model = strempty(model);
        model += strspn(model, " \t");
        n = strcspn(model, "[");
        while (n > 0 && strchr(" \t", model[n - 1]))
                n--;
        return memdup0(model, n);
}

static const char* environment_get(char *const *environment, const char *name) {
        for (size_t i = 0; i < strv_length(environment); i++) {
                const char *value = startswith(environment[i], name);

                if (value && *value == '=')
                        return value + 1;
        }
        return NULL;
}

static int launch_inherit(HarnessLaunch *l, const HarnessSetup *s, const char *name) {
        const char *value = environment_get(s->environment, name);

        return value ? launch_set(l, name, value) : 0;
}

/* The sandbox's proxy in the place of all others; and never one on the way to what listens on this machine's own
 * loopback, as the model's endpoint does. */
static int launch_set_proxies(HarnessLaunch *l, const HarnessSetup *s) {
        bool any = s->proxy_socket;
        int r;

        for (size_t i = 0; i < ELEMENTSOF(proxies); i++) {
                const char *value = environment_get(s->environment, proxies[i]);

                if (s->proxy_socket)
                        value = "http://127.0.0.1:{proxy_port}";
                if (isempty(value))
                        continue;
                any = true;
                r = launch_set(l, proxies[i], value);
                if (r < 0)
                        return r;
        }
        for (size_t i = 0; i < ELEMENTSOF(proxy_exceptions) && any; i++) {
                const char *old = s->proxy_socket ? NULL : environment_get(s->environment, proxy_exceptions[i]);
                _cleanup_free_ char *value = strjoin(strempty(old), isempty(old) ? "" : ",", "127.0.0.1,localhost");

                r = value ? launch_set(l, proxy_exceptions[i], value) : -ENOMEM;
                if (r < 0)
                        return r;
        }
        return 0;
}

static int launch_set_common(HarnessLaunch *l, const HarnessSetup *s) {
        int r;

        r = launch_set(l, "HOME", s->home);
        for (size_t i = 0; i < ELEMENTSOF(inherited) && r >= 0; i++)
                r = launch_inherit(l, s, inherited[i]);
        for (size_t i = 0; i < strv_length(s->environment) && r >= 0; i++)
                if (startswith(s->environment[i], "LC_") && strchr(s->environment[i], '='))
                        r = strv_extend(&l->env, s->environment[i]);
        return r < 0 ? r : launch_set_proxies(l, s);
}

static int put_strings(json_object *o, const char *key, char *const *l) {
        json_object *list = json_object_new_array();
        int r;

        if (!list)
                return -ENOMEM;
        r = json_put(o, key, list);
        for (size_t i = 0; i < strv_length(l) && r >= 0; i++) {
                json_object *s = json_object_new_string(l[i]);

                r = s ? 0 : -ENOMEM;
                if (r >= 0 && json_object_array_add(list, s) < 0) {
                        (void) json_object_put(s);
                        r = -ENOMEM;
                }
        }
        return r;
}

static int put_environment(json_object *o, char *const *env) {
        json_object *list = json_object_new_object();
        int r;

        if (!list)
                return -ENOMEM;
        r = json_put(o, "env", list);
        for (size_t i = 0; i < strv_length(env) && r >= 0; i++) {
                const char *value = strchr(env[i], '=');
                _cleanup_free_ char *name = memdup0(env[i], (size_t) (value - env[i]));

                r = name ? json_put_string(list, name, value + 1) : -ENOMEM;
        }
        return r;
}

static bool text_is_fit(const char *s) {
        return utf8_is_valid(s, strlen(s));
}

static int launch_to_json(const HarnessLaunch *l, const HarnessSetup *s, char **ret) {
        _cleanup_json_ json_object *o = json_object_new_object();
        const char *text;
        size_t size;
        int r;

        /* JSON has no bytes that are none. */
        for (size_t i = 0; i < strv_length(l->argv); i++)
                if (!text_is_fit(l->argv[i]))
                        return -EINVAL;
        for (size_t i = 0; i < strv_length(l->env); i++)
                if (!text_is_fit(l->env[i]))
                        return -EINVAL;
        if (!text_is_fit(s->working_directory))
                return -EINVAL;

        if (!o)
                return -ENOMEM;
        r = put_strings(o, "argv", l->argv);
        if (r >= 0)
                r = put_environment(o, l->env);
        if (r >= 0)
                r = json_put_string(o, "cwd", s->working_directory);
        if (r >= 0)
                r = json_put_string(o, "model_socket", s->model_socket);
        if (r >= 0)
                r = json_put_string(o, "proxy_socket", s->proxy_socket);
        if (r >= 0 && l->port_argument > 0)
                r = json_put_int(o, "port_argument", (int64_t) l->port_argument);
        if (r < 0)
                return r;

        text = json_text(o, &size);
        if (!text)
                return -ENOMEM;
        if (size > LAUNCH_MAX)
                return -E2BIG;
        *ret = memdup0(text, size);
        return *ret ? 0 : -ENOMEM;
}

int harness_launch(const HarnessSetup *s, char **ret_json) {
        _cleanup_(strv_freep) char **argv = NULL, **env = NULL;
        HarnessLaunch l = {};
        const HarnessDriver *driver;
        int r;

        assert(s && s->program && s->home && s->workspace && s->working_directory && ret_json);

        if (*s->program != '/' || *s->home != '/' || *s->workspace != '/' || *s->working_directory != '/')
                return -EINVAL;
        if (!isempty(s->model_token) && isempty(s->model_socket))
                return -EINVAL;
        driver = harness_driver_get(s->kind);
        if (!driver)
                return -EOPNOTSUPP;

        r = launch_add(&l, s->program);
        if (r >= 0)
                r = launch_set_common(&l, s);
        if (r >= 0)
                r = driver->launch(s, &l);
        argv = l.argv;
        env = l.env;
        return r < 0 ? r : launch_to_json(&l, s, ret_json);
}

int harness_send_launch(int fd, const char *launch) {
        size_t size = strlen(launch);
        char header[HEADER_SIZE + 1];

        if (size > LAUNCH_MAX)
                return -E2BIG;
        (void) snprintf(header, sizeof(header), "%08x\n", (unsigned) size);
        if (size + HEADER_SIZE > PIPE_SIZE_DEFAULT && fcntl(fd, F_SETPIPE_SZ, (int) (size + HEADER_SIZE)) < 0)
                return -E2BIG;
        if (write(fd, header, HEADER_SIZE) != (ssize_t) HEADER_SIZE || write(fd, launch, size) != (ssize_t) size)
                return -E2BIG;
        return 0;
}
