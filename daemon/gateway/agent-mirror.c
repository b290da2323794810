/* SPDX-License-Identifier: MIT */

#include <sodium.h>

#include "agent-mirror.h"
#include "bus-util.h"
#include "event-util.h"
#include "log.h"
#include "string-util.h"

#define WAIT_USEC (5 * USEC_PER_SEC)
#define RETRY_USEC (250 * USEC_PER_MSEC)
#define LOAD_TIMEOUT_USEC (25 * USEC_PER_SEC)

struct AgentWaiter {
        AgentMirror *mirror;            /* NULL once it is called */
        AgentWaiter *next, *previous;
        sd_event_source *timer;
        agent_waiter_t callback;
        void *userdata;
};

struct AgentMirror {
        sd_event *event;                /* borrowed, as the bus */
        sd_bus *bus;
        MirroredAgent **agents;
        size_t n;
        bool loaded;
        char *owner;                    /* unique name of puffod on the bus; NULL: it is not known to be there */
        sd_bus_slot *match_added, *match_removed, *match_changed, *match_owner;
        sd_bus_slot *load_slot;         /* GetManagedObjects under way */
        sd_bus_slot *refresh_slot;      /* GetAll of the agent at refresh_path under way, never two at once */
        char *refresh_path;
        sd_event_source *retry;         /* armed only while somebody waits */
        AgentWaiter *waiters;
        void (*changed)(void *userdata);
        void *changed_userdata;
};

/* First 8 hex digits of SHA-256 of the id. */
static void agent_id_hash(const char *id, char ret[static 9]) {
        unsigned char hash[crypto_hash_sha256_BYTES];

        (void) crypto_hash_sha256(hash, (const unsigned char*) id, strlen(id));
        (void) sodium_bin2hex(ret, 9, hash, 4);
}

static MirroredAgent* mirrored_agent_free(MirroredAgent *a) {
        if (!a)
                return NULL;
        free(a->id);
        free(a->path);
        free(a->role);
        free(a->name);
        free(a->state);
        free(a->status);
        free(a->status_text);
        free(a->workspace);
        return mfree(a);
}
DEFINE_TRIVIAL_CLEANUP_FUNC(MirroredAgent*, mirrored_agent_free);

bool mirrored_agent_is_ready(const MirroredAgent *a) {
        return streq_ptr(a->state, "ready") || streq_ptr(a->state, "busy");
}

static int agent_compare(const void *x, const void *y) {
        const MirroredAgent *a = *(MirroredAgent *const*) x, *b = *(MirroredAgent *const*) y;
        bool a_manager = streq(a->id, "manager"), b_manager = streq(b->id, "manager");

        if (a_manager != b_manager)
                return a_manager ? -1 : 1;
        return strcmp(a->id, b->id);
}

static void mirror_clear(AgentMirror *m) {
        for (size_t i = 0; i < m->n; i++)
                mirrored_agent_free(m->agents[i]);
        m->agents = mfree(m->agents);
        m->n = 0;
}

static void mirror_remove(AgentMirror *m, const char *path) {
        for (size_t i = 0; i < m->n; i++)
                if (streq(m->agents[i]->path, path)) {
                        mirrored_agent_free(m->agents[i]);
                        memmove(m->agents + i, m->agents + i + 1, (m->n - i - 1) * sizeof(*m->agents));
                        m->n--;
                        return;
                }
}

/* Takes the agent, on failure too. */
static int mirror_add(AgentMirror *m, MirroredAgent *agent) {
        _cleanup_(mirrored_agent_freep) MirroredAgent *a = agent;
        MirroredAgent **grown;

        if (!a->id || !agent_id_is_valid(a->id))
                return -EBADMSG;
        agent_id_hash(a->id, a->hash);

        mirror_remove(m, a->path);
        grown = reallocarray(m->agents, m->n + 1, sizeof(*grown));
        if (!grown)
                return -ENOMEM;
        m->agents = grown;
        m->agents[m->n++] = TAKE_PTR(a);
        qsort(m->agents, m->n, sizeof(*m->agents), agent_compare);
        return 0;
}

static int read_string_property(sd_bus_message *message, char **field) {
        const char *s;
        int r;

        r = sd_bus_message_read(message, "v", "s", &s);
        if (r < 0)
                return r;
        r = free_and_strdup(field, s);
        return r < 0 ? r : 0;
}

static int read_property(sd_bus_message *message, const char *name, MirroredAgent *a) {
        const struct {
                const char *name;
                char **field;
        } strings[] = {
                { "Id", &a->id }, { "Role", &a->role }, { "Name", &a->name }, { "State", &a->state },
                { "Status", &a->status }, { "StatusText", &a->status_text }, { "Workspace", &a->workspace },
        };

        for (size_t i = 0; i < ELEMENTSOF(strings); i++)
                if (streq(strings[i].name, name))
                        return read_string_property(message, strings[i].field);
        if (streq(name, "MainPID"))
                return sd_bus_message_read(message, "v", "u", &a->pid);
        if (streq(name, "Owner"))
                return sd_bus_message_read(message, "v", "u", &a->owner);
        if (streq(name, "CreatedAt"))
                return sd_bus_message_read(message, "v", "t", &a->created_usec);
        return sd_bus_message_skip(message, "v");
}

/* a{sv} */
static int read_properties(sd_bus_message *message, MirroredAgent *a) {
        const char *name;
        int r;

        r = sd_bus_message_enter_container(message, 'a', "{sv}");
        if (r < 0)
                return r;
        while ((r = sd_bus_message_enter_container(message, 'e', "sv")) > 0) {
                r = sd_bus_message_read(message, "s", &name);
                if (r >= 0)
                        r = read_property(message, name, a);
                if (r >= 0)
                        r = sd_bus_message_exit_container(message);
                if (r < 0)
                        return r;
        }
        return r < 0 ? r : sd_bus_message_exit_container(message);
}

/* a{sa{sv}}, the interfaces of one object. Objects that are no agents are passed over. */
static int read_interfaces(AgentMirror *m, sd_bus_message *message, const char *path) {
        _cleanup_(mirrored_agent_freep) MirroredAgent *a = new0(MirroredAgent, 1);
        const char *interface;
        bool found = false;
        int r;

        if (!a)
                return -ENOMEM;
        a->owner = (uid_t) -1;
        r = sd_bus_message_enter_container(message, 'a', "{sa{sv}}");
        if (r < 0)
                return r;
        while ((r = sd_bus_message_enter_container(message, 'e', "sa{sv}")) > 0) {
                r = sd_bus_message_read(message, "s", &interface);
                if (r < 0)
                        return r;
                if (streq(interface, PUFFO_BUS_AGENT_INTERFACE)) {
                        found = true;
                        r = read_properties(message, a);
                } else
                        r = sd_bus_message_skip(message, "a{sv}");
                if (r >= 0)
                        r = sd_bus_message_exit_container(message);
                if (r < 0)
                        return r;
        }
        if (r >= 0)
                r = sd_bus_message_exit_container(message);
        if (r < 0)
                return r;
        if (!found)
                return 0;

        a->path = strdup(path);
        return a->path ? mirror_add(m, TAKE_PTR(a)) : -ENOMEM;
}

static int read_managed_objects(AgentMirror *m, sd_bus_message *message) {
        const char *path;
        int r;

        r = sd_bus_message_enter_container(message, 'a', "{oa{sa{sv}}}");
        if (r < 0)
                return r;
        while ((r = sd_bus_message_enter_container(message, 'e', "oa{sa{sv}}")) > 0) {
                r = sd_bus_message_read(message, "o", &path);
                if (r >= 0)
                        r = read_interfaces(m, message, path);
                if (r >= 0)
                        r = sd_bus_message_exit_container(message);
                if (r < 0)
                        return r;
        }
        return r < 0 ? r : sd_bus_message_exit_container(message);
}

static void mirror_changed(AgentMirror *m) {
        if (m->changed)
                m->changed(m->changed_userdata);
}

/* Each callback may free any waiter and add new ones: so one at a time, always from the front. */
static void mirror_wake_waiters(AgentMirror *m, bool loaded) {
        while (m->waiters) {
                AgentWaiter *w = m->waiters;
                agent_waiter_t callback = w->callback;
                void *userdata = w->userdata;

                m->waiters = w->next;
                if (w->next)
                        w->next->previous = NULL;
                w->mirror = NULL;
                w->timer = sd_event_source_disable_unref(w->timer);
                callback(loaded, userdata);
        }
}

static int mirror_load(AgentMirror *m);

static int mirror_on_retry(sd_event_source *s, uint64_t usec, void *userdata) {
        (void) mirror_load(userdata);
        return 0;
}

static int mirror_on_loaded(sd_bus_message *reply, void *userdata, sd_bus_error *reterr_error) {
        const sd_bus_error *error = sd_bus_message_get_error(reply);
        AgentMirror *m = userdata;
        int r;

        m->load_slot = sd_bus_slot_unref(m->load_slot);
        r = error ? 0 : free_and_strdup(&m->owner, sd_bus_message_get_sender(reply));
        if (r < 0)
                log_warning_errno(r, "Failed to read the list of agents: %m");
        else if (error) {
                r = -sd_bus_error_get_errno(error);
                log_fields(m->waiters ? LOG_DEBUG : LOG_WARNING, r, NULL, "Failed to get the agents from puffod: %s",
                           error->message ?: error->name);
        } else {
                mirror_clear(m);
                r = read_managed_objects(m, reply);
                if (r < 0)
                        log_warning_errno(r, "Failed to read the list of agents: %m");
        }
        if (r < 0) {
                /* Without anybody waiting its reappearance on the bus is what we hear. */
                if (m->waiters)
                        (void) event_arm_timer(m->event, &m->retry, RETRY_USEC, 1, mirror_on_retry, m);
                return 0;
        }
        m->loaded = true;
        mirror_changed(m);
        mirror_wake_waiters(m, true);
        return 0;
}

static int mirror_load(AgentMirror *m) {
        _cleanup_bus_message_ sd_bus_message *q = NULL;
        int r;

        if (m->load_slot)
                return 0;
        r = sd_bus_message_new_method_call(m->bus, &q, PUFFO_BUS_NAME, PUFFO_BUS_PATH,
                                           "org.freedesktop.DBus.ObjectManager", "GetManagedObjects");
        if (r < 0)
                return r;
        return sd_bus_call_async(m->bus, &m->load_slot, q, mirror_on_loaded, m, LOAD_TIMEOUT_USEC);
}

bool agent_mirror_is_puffod(AgentMirror *m, sd_bus_message *message) {
        return m->owner && streq_ptr(sd_bus_message_get_sender(message), m->owner);
}

static int mirror_on_added(sd_bus_message *message, void *userdata, sd_bus_error *reterr_error) {
        AgentMirror *m = userdata;
        const char *path;
        int r;

        if (!agent_mirror_is_puffod(m, message))
                return 0;
        r = sd_bus_message_read(message, "o", &path);
        if (r >= 0)
                r = read_interfaces(m, message, path);
        if (r < 0)
                log_warning_errno(r, "Failed to read a new agent, ignoring: %m");
        mirror_changed(m);
        return 0;
}

static int mirror_on_removed(sd_bus_message *message, void *userdata, sd_bus_error *reterr_error) {
        AgentMirror *m = userdata;
        const char *path, *interface;

        if (!agent_mirror_is_puffod(m, message) || sd_bus_message_read(message, "o", &path) < 0 ||
            sd_bus_message_enter_container(message, 'a', "s") < 0)
                return 0;
        while (sd_bus_message_read(message, "s", &interface) > 0)
                if (streq(interface, PUFFO_BUS_AGENT_INTERFACE))
                        mirror_remove(m, path);
        mirror_changed(m);
        return 0;
}

static void mirror_refresh_stale(AgentMirror *m);

static int mirror_on_refreshed(sd_bus_message *reply, void *userdata, sd_bus_error *reterr_error) {
        const sd_bus_error *error = sd_bus_message_get_error(reply);
        AgentMirror *m = userdata;
        MirroredAgent *a = agent_mirror_find_path(m, m->refresh_path);
        int r;

        m->refresh_slot = sd_bus_slot_unref(m->refresh_slot);
        r = error ? -sd_bus_error_get_errno(error) : a ? read_properties(reply, a) : 0;
        if (r < 0 && a)
                log_warning_errno(r, "Failed to read agent '%s' again, ignoring: %m", a->id);
        mirror_refresh_stale(m);
        mirror_changed(m);
        return 0;
}

static void mirror_refresh_stale(AgentMirror *m) {
        MirroredAgent *a = NULL;
        int r;

        for (size_t i = 0; i < m->n && !a; i++)
                if (m->agents[i]->stale)
                        a = m->agents[i];
        if (!a || m->refresh_slot)
                return;

        a->stale = false;
        r = free_and_strdup(&m->refresh_path, a->path);
        if (r >= 0)
                r = sd_bus_call_method_async(m->bus, &m->refresh_slot, PUFFO_BUS_NAME, a->path,
                                             "org.freedesktop.DBus.Properties", "GetAll", mirror_on_refreshed, m, "s",
                                             PUFFO_BUS_AGENT_INTERFACE);
        if (r < 0)
                log_warning_errno(r, "Failed to ask for agent '%s' again, ignoring: %m", a->id);
}

/* as: names of what has changed, without the values, which are not for everybody on the bus. */
static int read_invalidated(sd_bus_message *message, MirroredAgent *a) {
        const char *name;
        int r;

        r = sd_bus_message_enter_container(message, 'a', "s");
        if (r < 0)
                return r;
        while ((r = sd_bus_message_read(message, "s", &name)) > 0)
                a->stale |= streq(name, "StatusText") || streq(name, "Workspace");
        return r < 0 ? r : sd_bus_message_exit_container(message);
}

static int mirror_on_changed(sd_bus_message *message, void *userdata, sd_bus_error *reterr_error) {
        AgentMirror *m = userdata;
        const char *interface;
        MirroredAgent *a;
        bool busy;
        int r;

        a = agent_mirror_find_path(m, strempty(sd_bus_message_get_path(message)));
        if (!a || !agent_mirror_is_puffod(m, message))
                return 0;
        r = sd_bus_message_read(message, "s", &interface);
        if (r >= 0 && !streq(interface, PUFFO_BUS_AGENT_INTERFACE))
                return 0;
        busy = streq_ptr(a->state, "busy");
        if (r >= 0)
                r = read_properties(message, a);
        if (busy && !streq_ptr(a->state, "busy"))
                a->turn_usec = now_realtime_usec();
        if (r >= 0)
                r = read_invalidated(message, a);
        mirror_refresh_stale(m);
        if (r < 0)
                log_warning_errno(r, "Failed to read a change of agent '%s', ignoring: %m", a->id);
        mirror_changed(m);
        return 0;
}

static int mirror_on_owner(sd_bus_message *message, void *userdata, sd_bus_error *reterr_error) {
        AgentMirror *m = userdata;
        const char *name, *before, *now;

        if (!streq_ptr(sd_bus_message_get_sender(message), "org.freedesktop.DBus") ||
            sd_bus_message_read(message, "sss", &name, &before, &now) < 0)
                return 0;
        m->loaded = false;
        if (free_and_strdup(&m->owner, isempty(now) ? NULL : now) < 0)
                m->owner = mfree(m->owner);     /* the list itself will tell again */
        m->load_slot = sd_bus_slot_unref(m->load_slot);
        m->refresh_slot = sd_bus_slot_unref(m->refresh_slot);
        /* When it has only gone, systemd brings it back and we hear of that; who asks meanwhile waits, and starts it.
         */
        if (!isempty(now) || m->waiters)
                (void) mirror_load(m);
        return 0;
}

static int mirror_on_match(sd_bus_message *reply, void *userdata, sd_bus_error *reterr_error) {
        const sd_bus_error *error = sd_bus_message_get_error(reply);

        if (error)
                log_error("Failed to listen to signals on the bus: %s", error->message ?: error->name);
        return 0;
}

int agent_mirror_new(AgentMirror **ret, sd_event *event, sd_bus *bus) {
        _cleanup_(agent_mirror_freep) AgentMirror *m = new0(AgentMirror, 1);
        int r;

        if (!m)
                return -ENOMEM;
        m->event = event;
        m->bus = bus;

        /* Before the list is asked for, so that no change falls between. */
        r = sd_bus_match_signal_async(bus, &m->match_added, PUFFO_BUS_NAME, PUFFO_BUS_PATH,
                                      "org.freedesktop.DBus.ObjectManager", "InterfacesAdded", mirror_on_added,
                                      mirror_on_match, m);
        if (r < 0)
                return r;
        r = sd_bus_match_signal_async(bus, &m->match_removed, PUFFO_BUS_NAME, PUFFO_BUS_PATH,
                                      "org.freedesktop.DBus.ObjectManager", "InterfacesRemoved", mirror_on_removed,
                                      mirror_on_match, m);
        if (r < 0)
                return r;
        r = sd_bus_match_signal_async(bus, &m->match_changed, PUFFO_BUS_NAME, NULL, "org.freedesktop.DBus.Properties",
                                      "PropertiesChanged", mirror_on_changed, mirror_on_match, m);
        if (r < 0)
                return r;
        r = sd_bus_add_match_async(bus, &m->match_owner,
                                   "type='signal',sender='org.freedesktop.DBus',path='/org/freedesktop/DBus',"
                                   "interface='org.freedesktop.DBus',member='NameOwnerChanged',"
                                   "arg0='" PUFFO_BUS_NAME "'",
                                   mirror_on_owner, mirror_on_match, m);
        if (r < 0)
                return r;
        r = mirror_load(m);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(m);
        return 0;
}

AgentMirror* agent_mirror_free(AgentMirror *m) {
        if (!m)
                return NULL;
        mirror_wake_waiters(m, false);
        sd_event_source_disable_unref(m->retry);
        sd_bus_slot_unref(m->load_slot);
        sd_bus_slot_unref(m->refresh_slot);
        free(m->refresh_path);
        sd_bus_slot_unref(m->match_added);
        sd_bus_slot_unref(m->match_removed);
        sd_bus_slot_unref(m->match_changed);
        sd_bus_slot_unref(m->match_owner);
        mirror_clear(m);
        free(m->owner);
        return mfree(m);
}

void agent_mirror_watch(AgentMirror *m, void (*changed)(void *userdata), void *userdata) {
        m->changed = changed;
        m->changed_userdata = userdata;
}

bool agent_mirror_is_loaded(AgentMirror *m) {
        return m->loaded;
}

size_t agent_mirror_size(AgentMirror *m) {
        return m->n;
}

MirroredAgent* agent_mirror_get(AgentMirror *m, size_t i) {
        return i < m->n ? m->agents[i] : NULL;
}

MirroredAgent* agent_mirror_find(AgentMirror *m, const char *id) {
        for (size_t i = 0; i < m->n; i++)
                if (streq(m->agents[i]->id, id))
                        return m->agents[i];
        return NULL;
}

MirroredAgent* agent_mirror_resolve(AgentMirror *m, const char *text) {
        MirroredAgent *a = agent_mirror_find(m, text);
        _cleanup_free_ char *lower = a ? NULL : strdup(text);

        if (!lower)
                return a;
        for (char *p = lower; *p; p++)
                if (*p >= 'A' && *p <= 'Z')
                        *p = (char) (*p - 'A' + 'a');
        return agent_mirror_find(m, lower);
}

MirroredAgent* agent_mirror_find_path(AgentMirror *m, const char *path) {
        for (size_t i = 0; i < m->n; i++)
                if (streq(m->agents[i]->path, path))
                        return m->agents[i];
        return NULL;
}

MirroredAgent* agent_mirror_find_hash(AgentMirror *m, const char *hash) {
        for (size_t i = 0; i < m->n; i++)
                if (strncmp(m->agents[i]->hash, hash, 8) == 0)
                        return m->agents[i];
        return NULL;
}

static int waiter_on_timeout(sd_event_source *s, uint64_t usec, void *userdata) {
        AgentWaiter *w = userdata;
        AgentMirror *m = w->mirror;

        if (w->previous)
                w->previous->next = w->next;
        else
                m->waiters = w->next;
        if (w->next)
                w->next->previous = w->previous;
        w->mirror = NULL;
        w->callback(false, w->userdata);
        return 0;
}

int agent_mirror_wait(AgentMirror *m, AgentWaiter **ret, agent_waiter_t callback, void *userdata) {
        _cleanup_(agent_waiter_freep) AgentWaiter *w = NULL;
        int r;

        if (m->loaded) {
                *ret = NULL;
                callback(true, userdata);
                return 0;
        }
        w = new0(AgentWaiter, 1);
        if (!w)
                return -ENOMEM;
        w->callback = callback;
        w->userdata = userdata;
        r = event_arm_timer(m->event, &w->timer, WAIT_USEC, 1, waiter_on_timeout, w);
        if (r < 0)
                return r;
        r = mirror_load(m);
        if (r < 0)
                return r;

        w->mirror = m;
        w->next = m->waiters;
        if (w->next)
                w->next->previous = w;
        m->waiters = w;
        *ret = TAKE_PTR(w);
        return 0;
}

AgentWaiter* agent_waiter_free(AgentWaiter *w) {
        if (!w)
                return NULL;
        if (w->mirror) {
                if (w->previous)
                        w->previous->next = w->next;
                else
                        w->mirror->waiters = w->next;
                if (w->next)
                        w->next->previous = w->previous;
        }
        sd_event_source_disable_unref(w->timer);
        return mfree(w);
}
