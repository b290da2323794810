/* SPDX-License-Identifier: MIT */

#include <sys/queue.h>

#include "bus-util.h"
#include "log.h"
#include "string-util.h"
#include "unit-calls.h"

/* Of starts: puffod answers when the unit's job is done, and other starts may go first. */
#define START_TIMEOUT_USEC (120 * USEC_PER_SEC)
#define ID_SIZE 16U

typedef enum CallKind {
        CALL_START,
        CALL_WAIT,
        CALL_STOP,
        CALL_FREEZE,
        CALL_THAW,
        CALL_REFRESH,
} CallKind;

struct CliCall {
        UnitCalls *calls;
        CallKind kind;
        sd_bus_slot *slot;              /* NULL: to be made again with the next connection */
        char *invocation;
        void (*started)(int error, const char *text, const char *invocation, void *userdata);
        void (*waited)(int error, const CliEnd *end, void *userdata);
        void (*stopped)(int error, void *userdata);
        void (*frozen)(int error, bool frozen, void *userdata);
        void (*refreshed)(int error, const char *result, void *userdata);
        void *userdata;
        LIST_ENTRY(CliCall) list;
};

struct UnitCalls {
        ManagerLink *link;              /* NULL: there was none yet */
        CliBackend backend;
        LIST_HEAD(, CliCall) list;
};

static CliCall* call_free(CliCall *c) {
        if (!c)
                return NULL;
        LIST_REMOVE(c, list);
        sd_bus_slot_unref(c->slot);
        free(c->invocation);
        return mfree(c);
}
DEFINE_TRIVIAL_CLEANUP_FUNC(CliCall*, call_free);

static int call_new(UnitCalls *u, CallKind kind, void *userdata, CliCall **ret) {
        CliCall *c = new0(CliCall, 1);

        if (!c)
                return -ENOMEM;
        c->calls = u;
        c->kind = kind;
        c->userdata = userdata;
        LIST_INSERT_HEAD(&u->list, c, list);
        *ret = c;
        return 0;
}

/* ---- answers; each may free the call ---- */

static int hex_id(sd_bus_message *m, char ret[static 2 * ID_SIZE + 1]) {
        const uint8_t *id;
        size_t size;
        int r;

        r = sd_bus_message_read_array(m, 'y', (const void**) &id, &size);
        if (r < 0)
                return r;
        if (size != ID_SIZE)
                return -EBADMSG;
        for (size_t i = 0; i < size; i++)
                (void) snprintf(ret + 2 * i, 3, "%02x", id[i]);
        return 0;
}

static int read_started(sd_bus_message *m, char ret_id[static 2 * ID_SIZE + 1]) {
        const char *key, *notice = NULL;
        int r;

        ret_id[0] = 0;
        r = sd_bus_message_enter_container(m, 'a', "{sv}");
        while (r >= 0 && (r = sd_bus_message_enter_container(m, 'e', "sv")) > 0) {
                r = sd_bus_message_read(m, "s", &key);
                if (r >= 0 && streq(key, "InvocationID")) {
                        r = sd_bus_message_enter_container(m, 'v', "ay");
                        if (r >= 0)
                                r = hex_id(m, ret_id);
                        if (r >= 0)
                                r = sd_bus_message_exit_container(m);
                } else if (r >= 0 && streq(key, "Notice"))
                        r = sd_bus_message_read(m, "v", "s", &notice);
                else if (r >= 0)
                        r = sd_bus_message_skip(m, "v");
                if (r >= 0)
                        r = sd_bus_message_exit_container(m);
        }
        if (r >= 0 && !isempty(notice))
                log_notice("%s", notice);
        return r < 0 ? r : ret_id[0] ? 0 : -EBADMSG;
}

static int read_end(sd_bus_message *m, CliEnd *end) {
        const char *key;
        int r;

        r = sd_bus_message_enter_container(m, 'a', "{sv}");
        while (r >= 0 && (r = sd_bus_message_enter_container(m, 'e', "sv")) > 0) {
                r = sd_bus_message_read(m, "s", &key);
                if (r >= 0 && streq(key, "Result"))
                        r = sd_bus_message_read(m, "v", "s", &end->result);
                else if (r >= 0 && streq(key, "ExecMainCode"))
                        r = sd_bus_message_read(m, "v", "i", &end->code);
                else if (r >= 0 && streq(key, "ExecMainStatus"))
                        r = sd_bus_message_read(m, "v", "i", &end->status);
                else if (r >= 0 && streq(key, "MemoryMax"))
                        r = sd_bus_message_read(m, "v", "t", &end->memory_max);
                else if (r >= 0)
                        r = sd_bus_message_skip(m, "v");
                if (r >= 0)
                        r = sd_bus_message_exit_container(m);
        }
        return MIN(r, 0);
}

static void start_answered(CliCall *c, sd_bus_message *m, const sd_bus_error *e) {
        char id[2 * ID_SIZE + 1];
        int r = e && sd_bus_error_has_name(e, PUFFO_ERROR_HARNESS_RUNNING) ? -EBUSY :
                e && sd_bus_error_has_name(e, PUFFO_ERROR_NOT_READY)       ? -EAGAIN :
                e ? -sd_bus_error_get_errno(e) : read_started(m, id);

        c->started(r, e ? e->message : NULL, r < 0 ? NULL : id, c->userdata);
}

static void wait_answered(CliCall *c, sd_bus_message *m, const sd_bus_error *e) {
        CliEnd end = { .result = "unknown", .memory_max = UINT64_MAX };
        int r = e ? -sd_bus_error_get_errno(e) : read_end(m, &end);

        c->waited(r, &end, c->userdata);
}

static void freeze_answered(CliCall *c, sd_bus_message *m, const sd_bus_error *e) {
        int frozen = 0, r = e ? -sd_bus_error_get_errno(e) : sd_bus_message_read(m, "b", &frozen);

        c->frozen(MIN(r, 0), frozen, c->userdata);
}

static void refresh_answered(CliCall *c, sd_bus_message *m, const sd_bus_error *e) {
        const char *result = NULL;
        int r = e ? -sd_bus_error_get_errno(e) : sd_bus_message_read(m, "s", &result);

        c->refreshed(MIN(r, 0), result, c->userdata);
}

static int on_reply(sd_bus_message *m, void *userdata, sd_bus_error *reterr_error) {
        const sd_bus_error *e = sd_bus_message_get_error(m);
        CliCall *c = userdata;

        c->slot = sd_bus_slot_unref(c->slot);
        /* The connection is gone: the next one will do. */
        if (c->kind != CALL_START && e && sd_bus_error_has_names(e, SD_BUS_ERROR_NO_REPLY, SD_BUS_ERROR_DISCONNECTED))
                return 0;
        switch (c->kind) {
        case CALL_START:
                start_answered(c, m, e);
                break;
        case CALL_WAIT:
                wait_answered(c, m, e);
                break;
        case CALL_STOP:
                c->stopped(e ? -sd_bus_error_get_errno(e) : 0, c->userdata);
                break;
        case CALL_FREEZE:
        case CALL_THAW:
                freeze_answered(c, m, e);
                break;
        case CALL_REFRESH:
                refresh_answered(c, m, e);
                break;
        }
        return 0;
}

/* ---- questions ---- */

static int append_id(sd_bus_message *m, const char *hex) {
        uint8_t id[ID_SIZE];

        for (size_t i = 0; i < sizeof(id); i++)
                if (sscanf(hex + 2 * i, "%2hhx", id + i) != 1)
                        return -EINVAL;
        return sd_bus_message_append_array(m, 'y', id, sizeof(id));
}

/* Without a connection it waits for one. */
static int call_make(CliCall *c) {
        static const char *const members[] = {
                [CALL_WAIT] = "WaitHarness", [CALL_STOP] = "StopHarness", [CALL_FREEZE] = "FreezeHarness",
                [CALL_THAW] = "FreezeHarness", [CALL_REFRESH] = "RefreshCredentials",
        };
        _cleanup_bus_message_ sd_bus_message *m = NULL;
        int r;

        r = c->calls->link ? manager_link_new_call(c->calls->link, members[c->kind], &m) : -ENOTCONN;
        if (r == -ENOTCONN)
                return 0;
        if (r >= 0 && c->kind == CALL_WAIT)
                r = append_id(m, c->invocation);
        else if (r >= 0 && c->kind == CALL_REFRESH)
                r = sd_bus_message_append(m, "s", "anthropic");
        else if (r >= 0 && c->kind != CALL_STOP)
                r = sd_bus_message_append(m, "b", c->kind == CALL_FREEZE);
        if (r >= 0)
                r = manager_link_call(c->calls->link, m, on_reply, c, UINT64_MAX, &c->slot);
        /* A connection that is about to be gone tells that to those who wait, and takes nothing new. */
        return r == -ENOTCONN || r == -ECONNRESET ? 0 : r;
}

static int append_sockets(sd_bus_message *m, const char *const *pairs) {
        int r;

        r = sd_bus_message_open_container(m, 'e', "sv");
        if (r >= 0)
                r = sd_bus_message_append(m, "s", "Sockets");
        if (r >= 0)
                r = sd_bus_message_open_container(m, 'v', "a(ss)");
        if (r >= 0)
                r = sd_bus_message_open_container(m, 'a', "(ss)");
        for (; pairs && *pairs && r >= 0; pairs += 2)
                r = sd_bus_message_append(m, "(ss)", pairs[0], pairs[1]);
        for (int i = 0; i < 3 && r >= 0; i++)
                r = sd_bus_message_close_container(m);
        return r;
}

static int append_start(sd_bus_message *m, const CliStart *what, const int fds[static 3]) {
        int r;

        r = sd_bus_message_open_container(m, 'a', "{sv}");
        if (r >= 0)
                r = bus_append_text_entry(m, "Description", what->description);
        if (r >= 0)
                r = bus_append_text_entry(m, "WorkingDirectory", what->working_directory);
        if (r >= 0)
                r = bus_append_strings(m, 'e', "ReadWritePaths", what->read_write);
        if (r >= 0)
                r = bus_append_strings(m, 'e', "ReadOnlyPaths", what->read_only);
        /* A puffod from before an update does not know it. */
        if (r >= 0 && strv_length(what->optional) > 0)
                r = bus_append_strings(m, 'e', "OptionalPaths", what->optional);
        if (r >= 0)
                r = append_sockets(m, what->sockets);
        if (r >= 0)
                r = sd_bus_message_close_container(m);
        return r < 0 ? r : sd_bus_message_append(m, "hhh", fds[0], fds[1], fds[2]);
}

static int backend_start(const CliStart *what, const int fds[static 3],
                         void (*done)(int error, const char *text, const char *invocation, void *userdata),
                         void *userdata, CliCall **ret, void *backend) {
        _cleanup_bus_message_ sd_bus_message *m = NULL;
        _cleanup_(call_freep) CliCall *c = NULL;
        UnitCalls *u = backend;
        int r;

        r = u->link ? manager_link_new_call(u->link, "StartHarness", &m) : -ENOTCONN;
        if (r >= 0)
                r = append_start(m, what, fds);
        if (r >= 0)
                r = call_new(u, CALL_START, userdata, &c);
        if (r < 0)
                return r;
        c->started = done;
        r = manager_link_call(u->link, m, on_reply, c, START_TIMEOUT_USEC, &c->slot);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(c);
        return 0;
}

/* For those that may wait for a connection. Takes c over. */
static int call_begin(CliCall *taken, CliCall **ret) {
        _cleanup_(call_freep) CliCall *c = taken;
        int r = call_make(c);

        if (r < 0)
                return r;
        *ret = TAKE_PTR(c);
        return 0;
}

static int backend_wait(const char *invocation, void (*done)(int error, const CliEnd *end, void *userdata),
                        void *userdata, CliCall **ret, void *backend) {
        CliCall *c;
        int r = strlen(invocation) == (size_t) 2 * ID_SIZE ? call_new(backend, CALL_WAIT, userdata, &c) : -EINVAL;

        if (r < 0)
                return r;
        c->waited = done;
        c->invocation = strdup(invocation);
        if (!c->invocation) {
                (void) call_free(c);
                return -ENOMEM;
        }
        return call_begin(c, ret);
}

static int backend_stop(void (*done)(int error, void *userdata), void *userdata, CliCall **ret, void *backend) {
        CliCall *c;
        int r = call_new(backend, CALL_STOP, userdata, &c);

        if (r < 0)
                return r;
        c->stopped = done;
        return call_begin(c, ret);
}

static int backend_freeze(bool freeze, void (*done)(int error, bool frozen, void *userdata), void *userdata,
                          CliCall **ret, void *backend) {
        CliCall *c;
        int r = call_new(backend, freeze ? CALL_FREEZE : CALL_THAW, userdata, &c);

        if (r < 0)
                return r;
        c->frozen = done;
        return call_begin(c, ret);
}

static int backend_refresh(void (*done)(int error, const char *result, void *userdata), void *userdata, CliCall **ret,
                           void *backend) {
        CliCall *c;
        int r = call_new(backend, CALL_REFRESH, userdata, &c);

        if (r < 0)
                return r;
        c->refreshed = done;
        return call_begin(c, ret);
}

/* ---- life ---- */

int unit_calls_new(UnitCalls **ret) {
        UnitCalls *u = new0(UnitCalls, 1);

        if (!u)
                return -ENOMEM;
        LIST_INIT(&u->list);
        u->backend = (CliBackend) {
                .start = backend_start, .wait = backend_wait, .stop = backend_stop, .freeze = backend_freeze,
                .refresh = backend_refresh, .call_free = call_free, .userdata = u,
        };
        *ret = u;
        return 0;
}

UnitCalls* unit_calls_free(UnitCalls *u) {
        if (!u)
                return NULL;
        assert(LIST_EMPTY(&u->list));
        return mfree(u);
}

void unit_calls_connected(UnitCalls *u, ManagerLink *link) {
        CliCall *c;
        int r;

        u->link = link;
        LIST_FOREACH(c, &u->list, list) {
                r = c->slot ? 0 : call_make(c);
                if (r < 0)
                        (void) log_error_errno(r, "Failed to ask puffod for something again: %m");
        }
}

const CliBackend* unit_calls_backend(const UnitCalls *u) {
        return &u->backend;
}
