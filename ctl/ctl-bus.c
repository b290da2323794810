/* SPDX-License-Identifier: MIT */

#include <ctype.h>

#include "ctl-bus.h"
#include "string-util.h"


/* sd-bus has remote connections for the system bus only. The bridge at the other end can do both, but that of systemd
 * 252 takes --user and connects to the system bus all the same: the shell there tells it the address. */
static int open_user_remote(sd_bus **ret, const char *host) {
        _cleanup_(sd_bus_unrefp) sd_bus *bus = NULL;
        _cleanup_(strbuf_done) StrBuf address = {};
        int r;

        r = strbuf_puts(&address, "unixexec:path=ssh,argv1=-xT,argv2=--,argv3=");
        for (const char *p = host; *p && r >= 0; p++)
                r = isalnum((unsigned char) *p) ? strbuf_append(&address, p, 1)
                                                : strbuf_printf(&address, "%%%02x", (unsigned) (unsigned char) *p);
        if (r >= 0)
                r = strbuf_puts(&address, ",argv4=systemd-stdio-bridge,argv5=-punix:path=$XDG_RUNTIME_DIR/bus");
        if (r >= 0)
                r = sd_bus_new(&bus);
        if (r >= 0)
                r = sd_bus_set_address(bus, address.text);
        if (r >= 0)
                r = sd_bus_set_bus_client(bus, true);
        if (r >= 0)
                r = sd_bus_start(bus);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(bus);
        return 0;
}

static int open_bus(Ctl *c, sd_bus **ret) {
        if (c->host)
                return c->scope == SCOPE_USER ? open_user_remote(ret, c->host)
                                              : sd_bus_open_system_remote(ret, c->host);
        if (c->machine)
                return c->scope == SCOPE_USER ? sd_bus_open_user_machine(ret, c->machine)
                                              : sd_bus_open_system_machine(ret, c->machine);
        return scope_open_bus(c->scope, ret);
}

int ctl_connect(Ctl *c, sd_bus_error *reterr) {
        _cleanup_(sd_bus_flush_close_unrefp) sd_bus *bus = NULL;
        int r;

        if (c->bus)
                return 0;
        r = open_bus(c, &bus);
        if (r < 0) {
                const char *where = c->host ?: c->machine;

                if (where)
                        return bus_error_setf(reterr, SD_BUS_ERROR_NO_SERVER,
                                              "no connection to the %s bus of '%s': %s", scope_to_string(c->scope),
                                              where, strerror(-r));
                return bus_error_setf(reterr, SD_BUS_ERROR_NO_SERVER, "no connection to the %s bus: %s%s",
                                      scope_to_string(c->scope), strerror(-r),
                                      c->scope == SCOPE_USER && geteuid() == 0 ? " (as root, mean --system?)" : "");
        }
        (void) sd_bus_set_allow_interactive_authorization(bus, true);
        /* The end of an event loop is not the end of what there is to say. */
        (void) sd_bus_set_close_on_exit(bus, false);
        c->bus = TAKE_PTR(bus);
        return 0;
}

void ctl_disconnect(Ctl *c) {
        c->bus = sd_bus_flush_close_unref(c->bus);
}

int ctl_new_call(Ctl *c, sd_bus_message **ret, sd_bus_error *reterr, const char *path, const char *interface,
                 const char *member) {
        int r = ctl_connect(c, reterr);

        return r < 0 ? r : sd_bus_message_new_method_call(c->bus, ret, PUFFO_BUS_NAME, path, interface, member);
}

int ctl_send_call(Ctl *c, sd_bus_message *m, uint64_t timeout_usec, sd_bus_error *reterr, sd_bus_message **ret_reply) {
        int r = sd_bus_call(c->bus, m, timeout_usec, reterr, ret_reply);

        /* What was lost cannot be used again; the next call makes a new one. */
        if (r < 0 && !sd_bus_is_open(c->bus))
                ctl_disconnect(c);
        return r;
}

int ctl_new_agent_call(Ctl *c, const char *id, sd_bus_message **ret, sd_bus_error *reterr, const char *member) {
        _cleanup_free_ char *path = NULL;
        int r;

        if (!agent_id_is_valid(id))
                return sd_bus_error_set(reterr, PUFFO_ERROR_NO_SUCH_AGENT, "no agent has such an id");
        r = sd_bus_path_encode(PUFFO_BUS_AGENT_PREFIX, id, &path);
        return r < 0 ? r : ctl_new_call(c, ret, reterr, path, PUFFO_BUS_AGENT_INTERFACE, member);
}

/* An object that is not there is an agent that is not there. */
static int explain_agent_error(sd_bus_error *reterr, int r) {
        if (r < 0 && sd_bus_error_has_name(reterr, SD_BUS_ERROR_UNKNOWN_OBJECT)) {
                sd_bus_error_free(reterr);
                return sd_bus_error_set(reterr, PUFFO_ERROR_NO_SUCH_AGENT,
                                        "there is none of that name; 'puffoctl agent list' shows all");
        }
        return r;
}

/* What a repetition would answer otherwise than the first time. */
static bool may_repeat(const char *member) {
        return !streq(member, "Delete") && !streq(member, "Archive");
}

int ctl_call_agent(Ctl *c, const char *id, sd_bus_error *reterr, sd_bus_message **ret_reply, uint64_t timeout_usec,
                   const char *member, const char *types, ...) {
        int r;

        for (unsigned attempt = 0;; attempt++) {
                _cleanup_bus_message_ sd_bus_message *m = NULL;
                va_list ap;

                r = ctl_new_agent_call(c, id, &m, reterr, member);
                if (r < 0)
                        return r;
                if (types) {
                        va_start(ap, types);
                        r = sd_bus_message_appendv(m, types, ap);
                        va_end(ap);
                        if (r < 0)
                                return r;
                }
                r = ctl_send_call(c, m, timeout_usec, reterr, ret_reply);
                /* puffod went away over it and is started again by the next call. */
                if (r >= 0 || attempt >= 2 || !may_repeat(member) ||
                    !sd_bus_error_has_name(reterr, SD_BUS_ERROR_NO_REPLY))
                        return explain_agent_error(reterr, r);
                sd_bus_error_free(reterr);
        }
}

int ctl_call_manager(Ctl *c, sd_bus_error *reterr, sd_bus_message **ret_reply, uint64_t timeout_usec,
                     const char *member, const char *types, ...) {
        _cleanup_bus_message_ sd_bus_message *m = NULL;
        va_list ap;
        int r;

        r = ctl_new_call(c, &m, reterr, PUFFO_BUS_PATH, PUFFO_BUS_MANAGER_INTERFACE, member);
        if (r < 0)
                return r;
        if (types) {
                va_start(ap, types);
                r = sd_bus_message_appendv(m, types, ap);
                va_end(ap);
                if (r < 0)
                        return r;
        }
        return ctl_send_call(c, m, timeout_usec, reterr, ret_reply);
}

int ctl_get_properties(Ctl *c, const char *path, const char *interface, bool start, sd_bus_error *reterr,
                       json_object **ret) {
        _cleanup_bus_message_ sd_bus_message *m = NULL, *reply = NULL;
        int r;

        r = ctl_new_call(c, &m, reterr, path, "org.freedesktop.DBus.Properties", "GetAll");
        if (r >= 0)
                r = sd_bus_message_set_auto_start(m, start);
        if (r >= 0)
                r = sd_bus_message_append(m, "s", interface);
        if (r >= 0)
                r = ctl_send_call(c, m, CTL_CALL_TIMEOUT_USEC, reterr, &reply);
        return r < 0 ? r : bus_message_to_json(reply, ret);
}

int ctl_get_agent(Ctl *c, const char *id, sd_bus_error *reterr, json_object **ret) {
        _cleanup_free_ char *path = NULL;
        int r;

        if (!agent_id_is_valid(id))
                return sd_bus_error_set(reterr, PUFFO_ERROR_NO_SUCH_AGENT, "no agent has such an id");
        r = sd_bus_path_encode(PUFFO_BUS_AGENT_PREFIX, id, &path);
        if (r >= 0)
                r = ctl_get_properties(c, path, PUFFO_BUS_AGENT_INTERFACE, /* start= */ true, reterr, ret);
        return explain_agent_error(reterr, r);
}

/* One {oa{sa{sv}}}; what is no agent is passed over. */
static int read_object(sd_bus_message *m, json_object *agents) {
        const char *path, *interface;
        int r;

        r = sd_bus_message_read(m, "o", &path);
        if (r >= 0)
                r = sd_bus_message_enter_container(m, 'a', "{sa{sv}}");
        while (r >= 0 && (r = sd_bus_message_enter_container(m, 'e', "sa{sv}")) > 0) {
                _cleanup_json_ json_object *properties = NULL;

                r = sd_bus_message_read(m, "s", &interface);
                if (r >= 0)
                        r = bus_message_to_json(m, &properties);
                if (r >= 0 && streq(interface, PUFFO_BUS_AGENT_INTERFACE)) {
                        if (json_put_string(properties, "path", path) < 0 ||
                            json_object_array_add(agents, properties) < 0)
                                return -ENOMEM;
                        TAKE_PTR(properties);
                }
                if (r >= 0)
                        r = sd_bus_message_exit_container(m);
        }
        return r < 0 ? r : sd_bus_message_exit_container(m);
}

int ctl_compare_agents(const void *a, const void *b) {
        const char *x = strempty(json_get_string(*(json_object *const *) a, "id"));
        const char *y = strempty(json_get_string(*(json_object *const *) b, "id"));

        if (streq(x, "manager") != streq(y, "manager"))
                return streq(x, "manager") ? -1 : 1;
        return strcmp(x, y);
}

int ctl_get_agents(Ctl *c, bool start, sd_bus_error *reterr, json_object **ret) {
        _cleanup_bus_message_ sd_bus_message *m = NULL, *reply = NULL;
        _cleanup_json_ json_object *agents = json_object_new_array();
        int r;

        if (!agents)
                return -ENOMEM;
        r = ctl_new_call(c, &m, reterr, PUFFO_BUS_PATH, "org.freedesktop.DBus.ObjectManager", "GetManagedObjects");
        if (r >= 0)
                r = sd_bus_message_set_auto_start(m, start);
        if (r >= 0)
                r = ctl_send_call(c, m, CTL_CALL_TIMEOUT_USEC, reterr, &reply);
        if (r >= 0)
                r = sd_bus_message_enter_container(reply, 'a', "{oa{sa{sv}}}");
        while (r >= 0 && (r = sd_bus_message_enter_container(reply, 'e', "oa{sa{sv}}")) > 0) {
                r = read_object(reply, agents);
                if (r >= 0)
                        r = sd_bus_message_exit_container(reply);
        }
        if (r < 0)
                return r;
        json_object_array_sort(agents, ctl_compare_agents);
        *ret = TAKE_PTR(agents);
        return 0;
}

bool ctl_daemon_is_down(int r, const sd_bus_error *e) {
        if (sd_bus_error_has_names(e, SD_BUS_ERROR_SERVICE_UNKNOWN, SD_BUS_ERROR_NAME_HAS_NO_OWNER,
                                   SD_BUS_ERROR_NO_SERVER, SYSTEMD_NO_SUCH_UNIT, SYSTEMD_UNIT_MASKED))
                return true;
        return e && e->name && startswith(e->name, "org.freedesktop.DBus.Error.Spawn.");
}

bool ctl_reply_was_lost(int r, const sd_bus_error *e) {
        if (sd_bus_error_is_set(e))
                return sd_bus_error_has_names(e, SD_BUS_ERROR_NO_REPLY, SD_BUS_ERROR_DISCONNECTED);
        return r == -ECONNRESET || r == -ENOTCONN || r == -EPIPE || r == -ECONNABORTED;
}

int ctl_need_descriptors(Ctl *c, const char *what) {
        _cleanup_bus_error_ sd_bus_error error = SD_BUS_ERROR_NULL;
        int r = ctl_connect(c, &error);

        if (r < 0)
                return ctl_fail_bus(c, r, &error, "cannot %s", what);
        if (sd_bus_can_send(c->bus, SD_BUS_TYPE_UNIX_FD) > 0)
                return 0;
        if (c->host)
                return ctl_fail(c, "cannot %s over -H: files are not passed through ssh (run it there: ssh %s %s …)",
                                what, c->host, c->program->name);
        return ctl_fail(c, "cannot %s: this connection to the bus does not pass files", what);
}
