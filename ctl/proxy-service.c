/* SPDX-License-Identifier: MIT */

/* The service as systemd sees it: units, drop-ins, jobs. */

#include <arpa/inet.h>
#include <stdarg.h>

#include "event-util.h"
#include "file-util.h"
#include "proxy.h"
#include "string-util.h"

#define SYSTEMD "org.freedesktop.systemd1"
#define SYSTEMD_PATH "/org/freedesktop/systemd1"
#define SYSTEMD_MANAGER "org.freedesktop.systemd1.Manager"
#define IP_DEFAULT "127.0.0.1"
#define PORT_DEFAULT 7011U
#define JOB_TIMEOUT_USEC (5 * 60 * USEC_PER_SEC)
#define JOBS_MAX 8

const char *const proxy_units[] = {
                "puffo-gateway.socket",  "puffod.socket",  "puffod-credentials.socket",
                "puffo-gateway.service", "puffod.service", NULL,
};

/* --- addresses and drop-ins --- */

void proxy_address_done(ProxyAddress *a) {
        a->ip = mfree(a->ip);
}

static int refuse(char **reterr, char *text) {
        *reterr = text;
        return text ? -EINVAL : -ENOMEM;
}

int proxy_address_parse(const char *ip, const char *port, ProxyAddress *ret, char **reterr) {
        struct in6_addr six;
        struct in_addr four;
        ProxyAddress a = { .port = PORT_DEFAULT };

        ip = ip ?: IP_DEFAULT;
        if (inet_pton(AF_INET, ip, &four) == 1)
                a.loopback = ntohl(four.s_addr) >> 24 == 127;
        else if (inet_pton(AF_INET6, ip, &six) == 1) {
                a.ipv6 = true;
                a.loopback = IN6_IS_ADDR_LOOPBACK(&six);
        } else
                return refuse(reterr, asprintf_new("'%s' is no IP address", ip));
        if (port && (parse_u32(port, &a.port) < 0 || a.port < 1 || a.port > 65535))
                return refuse(reterr, asprintf_new("'%s' is no port: a number from 1 to 65535 is expected", port));

        a.ip = strdup(ip);
        if (!a.ip)
                return -ENOMEM;
        *ret = a;
        return 0;
}

bool proxy_address_is_default(const ProxyAddress *a) {
        return streq(a->ip, IP_DEFAULT) && a->port == PORT_DEFAULT;
}

char* proxy_address_url(const ProxyAddress *a) {
        return asprintf_new(a->ipv6 ? "http://[%s]:%u" : "http://%s:%u", a->ip, a->port);
}

/* The empty assignment drops the addresses of the unit itself. FreeBind: the address may come up after us. */
char* proxy_listen_drop_in(const ProxyAddress *a) {
        return asprintf_new(a->ipv6 ? "# Written by agent-proxy "
                                      "enable.\n[Socket]\nListenStream=\nListenStream=[%s]:%u\nFreeBind=yes\n"
                                    : "# Written by agent-proxy "
                                      "enable.\n[Socket]\nListenStream=\nListenStream=%s:%u\nFreeBind=yes\n",
                            a->ip, a->port);
}

/* Paths in unit files are subject to specifiers. */
char* proxy_key_drop_in(const char *key_file) {
        _cleanup_(strbuf_done) StrBuf b = {};
        int r = strbuf_puts(&b, "# Written by agent-proxy enable.\n[Service]\nLoadCredential=api-key:");

        for (; *key_file && r >= 0; key_file++)
                r = strbuf_append(&b, *key_file == '%' ? "%%" : key_file, *key_file == '%' ? 2 : 1);
        if (r >= 0)
                r = strbuf_puts(&b, "\n");
        return r < 0 ? NULL : strbuf_take(&b);
}

int proxy_drop_in_directory(Scope scope, char **ret) {
        const char *config = getenv("XDG_CONFIG_HOME"), *home = getenv("HOME");

        if (scope == SCOPE_SYSTEM)
                *ret = strdup("/etc/systemd/system");
        else if (!isempty(config) && *config == '/')
                *ret = path_join(config, "systemd/user");
        else if (!isempty(home))
                *ret = path_join(home, ".config/systemd/user");
        else
                return -ENXIO;
        return *ret ? 0 : -ENOMEM;
}

int proxy_put_drop_in(const char *directory, const char *unit, const char *name, const char *text) {
        _cleanup_free_ char *folder = strjoin(directory, "/", unit, ".d"), *path = NULL, *old = NULL;
        int r;

        path = folder ? path_join(folder, name) : NULL;
        if (!path)
                return -ENOMEM;
        if (!text) {
                if (unlink(path) < 0)
                        return errno == ENOENT || errno == ENOTDIR ? 0 : -errno;
                (void) rmdir(folder);
                return 1;
        }

        if (file_read(path, KIB(64), &old, NULL) >= 0 && streq(old, text))
                return 0;
        r = directory_make(folder, 0755);
        if (r >= 0)
                r = file_write_atomic(path, text, strlen(text), 0644);
        return r < 0 ? r : 1;
}

/* --- the service manager --- */

int systemd_call(Ctl *c, sd_bus_error *reterr, sd_bus_message **ret_reply, const char *member, const char *types,
                 ...) {
        _cleanup_bus_message_ sd_bus_message *m = NULL;
        va_list ap;
        int r;

        r = ctl_connect(c, reterr);
        if (r >= 0)
                r = sd_bus_message_new_method_call(c->bus, &m, SYSTEMD, SYSTEMD_PATH, SYSTEMD_MANAGER, member);
        if (r >= 0)
                r = sd_bus_message_set_allow_interactive_authorization(m, 1);
        if (r >= 0 && types) {
                va_start(ap, types);
                r = sd_bus_message_appendv(m, types, ap);
                va_end(ap);
        }
        return r < 0 ? r : sd_bus_call(c->bus, m, 0, reterr, ret_reply);
}

typedef struct Jobs {
        char *paths[JOBS_MAX];
        size_t n, n_left;
        bool failed;
} Jobs;

static void jobs_done(Jobs *j) {
        for (size_t i = 0; i < j->n; i++)
                free(j->paths[i]);
}

/* Removals may overtake the reply that names the job: they are looked at when it is known. */
static int on_job_removed(sd_bus_message *m, void *userdata, sd_bus_error *reterr_error) {
        const char *path, *unit, *result;
        Jobs *j = userdata;

        if (sd_bus_message_read(m, "uoss", NULL, &path, &unit, &result) < 0)
                return 0;
        for (size_t i = 0; i < j->n; i++)
                if (streq(j->paths[i], path)) {
                        j->n_left--;
                        j->failed |= !streq(result, "done");
                }
        return 0;
}

static int start_jobs(Ctl *c, sd_bus_error *reterr, const char *member, const char *const *units, Jobs *j) {
        for (; *units; units++) {
                _cleanup_bus_message_ sd_bus_message *reply = NULL;
                const char *path;
                int r;

                r = systemd_call(c, reterr, &reply, member, "ss", *units, "replace");
                if (r < 0 && streq(member, "StopUnit") &&
                    sd_bus_error_has_name(reterr, "org.freedesktop.systemd1.NoSuchUnit")) {
                        sd_bus_error_free(reterr);
                        continue;
                }
                if (r >= 0)
                        r = sd_bus_message_read(reply, "o", &path);
                if (r < 0)
                        return r;
                assert(j->n < JOBS_MAX);
                j->paths[j->n] = strdup(path);
                if (!j->paths[j->n])
                        return -ENOMEM;
                j->n++;
                j->n_left++;
        }
        return 0;
}

int systemd_run_jobs(Ctl *c, sd_bus_error *reterr, const char *member, const char *const *units) {
        _cleanup_(sd_bus_slot_unrefp) sd_bus_slot *slot = NULL;
        uint64_t deadline = now_boottime_usec() + JOB_TIMEOUT_USEC;
        _cleanup_(jobs_done) Jobs jobs = {};
        int r;

        /* A connection that has not subscribed is told nothing of jobs. */
        r = systemd_call(c, reterr, NULL, "Subscribe", NULL);
        if (r < 0 && sd_bus_error_has_name(reterr, "org.freedesktop.systemd1.AlreadySubscribed")) {
                sd_bus_error_free(reterr);
                r = 0;
        }
        if (r >= 0)
                r = sd_bus_match_signal(c->bus, &slot, SYSTEMD, SYSTEMD_PATH, SYSTEMD_MANAGER, "JobRemoved",
                                        on_job_removed, &jobs);
        if (r >= 0)
                r = start_jobs(c, reterr, member, units, &jobs);
        while (r >= 0 && jobs.n_left > 0) {
                uint64_t now = now_boottime_usec();

                if (now >= deadline)
                        return sd_bus_error_set(reterr, SD_BUS_ERROR_TIMEOUT, "the service manager takes too long");
                r = sd_bus_process(c->bus, NULL);
                if (r == 0)
                        r = sd_bus_wait(c->bus, deadline - now);
        }
        if (r < 0)
                return r;
        if (jobs.failed)
                return bus_error_setf(
                                reterr, PUFFO_ERROR_FAILED, "a unit did not %s; see 'systemctl%s status puffo*'",
                                streq(member, "StopUnit") ? "stop" : "start", c->scope == SCOPE_USER ? " --user" : "");
        return 0;
}

int systemd_unit_state(Ctl *c, const char *unit, char **ret_state, uint32_t *ret_pid) {
        _cleanup_bus_error_ sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_free_ char *path = NULL, *state = NULL;
        uint32_t pid = 0;
        int r;

        r = ctl_connect(c, &error);
        if (r >= 0)
                r = sd_bus_path_encode("/org/freedesktop/systemd1/unit", unit, &path);
        if (r >= 0)
                r = sd_bus_get_property_string(c->bus, SYSTEMD, path, "org.freedesktop.systemd1.Unit", "ActiveState",
                                               &error, &state);
        if (r < 0)
                return r;
        if (endswith(unit, ".service"))
                (void) sd_bus_get_property_trivial(c->bus, SYSTEMD, path, "org.freedesktop.systemd1.Service",
                                                   "MainPID", NULL, 'u', &pid);
        *ret_state = TAKE_PTR(state);
        *ret_pid = pid;
        return 0;
}

const char* proxy_state_of_unit(const char *active, const char *sub, const char *text) {
        static const char *const words[] = { "starting", "ready", "busy" };

        if (streq(active, "activating"))
                return streq(sub, "auto-restart") ? "restarting" : "starting";
        if (streq(active, "deactivating"))
                return "stopping";
        if (streq(active, "failed"))
                return "failed";
        if (!streq(active, "active"))
                return "stopped";
        if (isempty(text))
                return "active";
        for (size_t i = 0; i < ELEMENTSOF(words); i++)
                if (startswith(text, words[i]))
                        return words[i];
        return "failed"; /* then the text is the cause */
}
