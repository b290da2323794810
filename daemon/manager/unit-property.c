/* SPDX-License-Identifier: MIT */

#include "bus-util.h"
#include "string-util.h"
#include "unit-property.h"

#define MOUNT_RECURSIVE ((uint64_t) 16384)      /* MS_REC */

int unit_manager_call(Manager *m, const char *member, sd_bus_message **ret) {
        return sd_bus_message_new_method_call(m->bus, ret, SYSTEMD, SYSTEMD_PATH, SYSTEMD_MANAGER, member);
}

int unit_append_string(sd_bus_message *m, const char *name, const char *value) {
        return sd_bus_message_append(m, "(sv)", name, "s", value);
}

int unit_append_time(sd_bus_message *m, const char *name, uint64_t usec) {
        return sd_bus_message_append(m, "(sv)", name, "t", usec);
}

/* "$" would be expanded by the service manager. */
static char* escape_argument(const char *s) {
        _cleanup_(strbuf_done) StrBuf b = {};

        for (; *s; s++)
                if (strbuf_append(&b, "$$", *s == '$' ? 2 : 0) < 0 || (*s != '$' && strbuf_append(&b, s, 1) < 0))
                        return NULL;
        return strbuf_take(&b);
}

int unit_append_command(sd_bus_message *m, const char *const *argv) {
        int r;

        r = sd_bus_message_open_container(m, 'r', "sv");
        if (r >= 0)
                r = sd_bus_message_append(m, "s", "ExecStart");
        if (r >= 0)
                r = sd_bus_message_open_container(m, 'v', "a(sasb)");
        if (r >= 0)
                r = sd_bus_message_open_container(m, 'a', "(sasb)");
        if (r >= 0)
                r = sd_bus_message_open_container(m, 'r', "sasb");
        if (r >= 0)
                r = sd_bus_message_append(m, "s", argv[0]);
        if (r >= 0)
                r = sd_bus_message_open_container(m, 'a', "s");
        for (; *argv && r >= 0; argv++) {
                _cleanup_free_ char *escaped = escape_argument(*argv);

                r = escaped ? sd_bus_message_append(m, "s", escaped) : -ENOMEM;
        }
        if (r >= 0)
                r = sd_bus_message_close_container(m);
        if (r >= 0)
                r = sd_bus_message_append(m, "b", 0);
        for (int i = 0; i < 4 && r >= 0; i++)
                r = sd_bus_message_close_container(m);
        return r;
}

int unit_append_flags(sd_bus_message *m, const char *const *names) {
        int r = 0;

        for (; *names && r >= 0; names++)
                r = sd_bus_message_append(m, "(sv)", *names, "b", 1);
        return r;
}

int unit_append_strings(sd_bus_message *m, const char *name, const char *const *values) {
        return bus_append_strings(m, 'r', name, (char *const *) values);
}

int unit_append_bind(sd_bus_message *m, bool writable, const char *source, const char *target, bool optional) {
        return sd_bus_message_append(m, "(sv)", writable ? "BindPaths" : "BindReadOnlyPaths", "a(ssbt)", 1, source,
                                     target, (int) optional, MOUNT_RECURSIVE);
}

int unit_append_tmpfs(sd_bus_message *m, const char *path, const char *options) {
        return sd_bus_message_append(m, "(sv)", "TemporaryFileSystem", "a(ss)", 1, path, options);
}
