/* SPDX-License-Identifier: MIT */

#include <unistd.h>

#include "bus-util.h"
#include "event-util.h"
#include "file-util.h"
#include "helpers.h"
#include "log.h"
#include "pending.h"
#include "private-server.h"
#include "string-util.h"
#include "unit.h"

Pending* pending_free(Pending *p) {
        if (!p)
                return NULL;
        LIST_REMOVE(p, entries);
        sd_event_source_disable_unref(p->timeout);
        sd_bus_message_unref(p->call);
        return mfree(p);
}

static void reply_ready(Pending *p, bool in_time) {
        Agent *a = p->agent;
        uint32_t pid = a->unit_state.main_pid;
        bool running = a->state == AGENT_READY || a->state == AGENT_BUSY;
        _cleanup_bus_error_ sd_bus_error error = SD_BUS_ERROR_NULL;

        switch (p->kind) {

        case PENDING_INIT:
                (void) sd_bus_reply_method_return(p->call, "ou", a->path, running ? pid : 0);
                return;

        case PENDING_HIRE:
                (void) sd_bus_reply_method_return(p->call, "oub", a->path, running ? pid : 0, p->created);
                return;

        default:
                if (running) {
                        (void) sd_bus_reply_method_return(p->call, "u", pid);
                        return;
                }
                (void) bus_error_setf(&error, PUFFO_ERROR_NOT_READY, "Agent '%s' is %s%s%s.", a->home->id,
                                      in_time ? "not able to work" : "not ready yet", *a->status_text ? ": " : "",
                                      a->status_text);
                (void) sd_bus_reply_method_error(p->call, &error);
        }
}

static int on_timeout(sd_event_source *s, uint64_t usec, void *userdata) {
        Pending *p = userdata;

        switch (p->kind) {

        case PENDING_READY:
        case PENDING_INIT:
        case PENDING_HIRE:
                reply_ready(p, /* in_time= */ false);
                break;

        case PENDING_RELAY:
                (void) bus_reply_errorf(
                                p->call, PUFFO_ERROR_NOT_READY,
                                "The session of agent '%s' has not come back in time; try again later.",
                                p->agent->home->id);
                break;

        default:
                (void) bus_reply_errorf(
                                p->call, PUFFO_ERROR_FAILED,
                                "Agent '%s' has not stopped in time; see 'journalctl PUFFO_AGENT=%s'.",
                                p->agent->home->id, p->agent->home->id);
                p->agent->removing = false;
        }

        pending_free(p);
        return 0;
}

int pending_new(Agent *a, PendingKind kind, sd_bus_message *call, uint64_t timeout_usec, Pending **ret) {
        Pending *p = new0(Pending, 1);
        int r;

        if (!p)
                return -ENOMEM;
        *p = (Pending) { .agent = a, .kind = kind, .call = sd_bus_message_ref(call) };
        LIST_INSERT_HEAD(&a->pending, p, entries);
        r = event_arm_timer(a->manager->event, &p->timeout, timeout_usec, USEC_PER_SEC / 10, on_timeout, p);
        if (r < 0) {
                pending_free(p);
                return r;
        }
        if (ret)
                *ret = p;
        return 0;
}

/* Archiving and deleting may move gigabytes between file systems: done by a child. */
typedef struct RemovalArgs {
        const HomePaths *paths;
        const AgentHome *home;
        bool archive;
} RemovalArgs;

typedef struct Removal {
        Manager *manager;
        sd_bus_message *call;
        char *id, *slice;
        bool archive;
} Removal;

static int removal_run(void *userdata, char **ret_text) {
        const RemovalArgs *args = userdata;

        return args->archive ? agent_home_archive(args->paths, args->home, ret_text)
                             : agent_home_delete(args->paths, args->home);
}

/* The id is free again: whoever puts an agent there next is not to find it given to somebody else. */
static void forget_owner(const Manager *m, const char *id) {
        _cleanup_free_ char *path = m->paths->owners ? path_join(m->paths->owners, id) : NULL;

        if (path && unlink(path) < 0 && errno != ENOENT)
                (void) log_warning_errno(errno, "Failed to remove '%s', ignoring: %m", path);
}

static void reply_removed(const Removal *removal, const char *text) {
        _cleanup_bus_message_ sd_bus_message *reply = NULL;
        int r = sd_bus_message_new_method_return(removal->call, &reply);

        if (r >= 0 && removal->archive)
                r = bus_append_text(reply, text);
        (void) (r < 0 ? sd_bus_reply_method_errno(removal->call, r, NULL) : sd_bus_send(NULL, reply, NULL));
}

static void removal_done(int r, const char *text, void *userdata) {
        Removal *removal = userdata;
        Agent *a = manager_find_agent(removal->manager, removal->id);
        _cleanup_bus_error_ sd_bus_error error = SD_BUS_ERROR_NULL;

        if (r < 0) {
                (void) manager_error(&error, r, removal->archive ? "archive agent" : "delete agent", removal->id);
                (void) sd_bus_reply_method_error(removal->call, &error);
                if (a)
                        a->removing = false;
        } else {
                unit_forget_slice(removal->manager, removal->slice);
                forget_owner(removal->manager, removal->id);
                (void) manager_rescan(removal->manager);
                reply_removed(removal, text);
        }

        sd_bus_message_unref(removal->call);
        free(removal->id);
        free(removal->slice);
        free(removal);
}

static int removal_start(Pending *p) {
        Agent *a = p->agent;
        RemovalArgs args = { a->manager->paths, a->home, p->kind == PENDING_ARCHIVE };
        Removal *removal = new0(Removal, 1);
        int r;

        if (!removal)
                return -ENOMEM;
        *removal = (Removal) {
                .manager = a->manager,
                .call = sd_bus_message_ref(p->call),
                .id = strdup(a->home->id),
                .slice = strdup(a->slice),
                .archive = args.archive,
        };
        r = removal->id && removal->slice ? worker_run(a->manager->event, removal_run, &args, removal_done, removal)
                                          : -ENOMEM;
        if (r < 0) {
                sd_bus_message_unref(removal->call);
                free(removal->id);
                free(removal->slice);
                free(removal);
        }
        return r;
}

static void answer_gone(Pending *p) {
        int r = 0;

        if (p->kind == PENDING_GONE)
                (void) sd_bus_reply_method_return(p->call, NULL);
        else
                r = removal_start(p);
        if (r < 0) {
                p->agent->removing = false;
                (void) sd_bus_reply_method_errnof(p->call, r, "Failed to remove agent '%s': %m", p->agent->home->id);
        }
}

static bool is_due(const Pending *p) {
        const Agent *a = p->agent;

        switch (p->kind) {

        case PENDING_READY:
        case PENDING_INIT:
        case PENDING_HIRE:
                return a->state == AGENT_READY || a->state == AGENT_BUSY || a->state == AGENT_FAILED;

        case PENDING_RELAY:
                return session_link_is_up(a->link) || a->state == AGENT_STOPPED;

        default:
                return a->state == AGENT_STOPPED && a->listed && !a->job;
        }
}

void pending_check(Agent *a) {
        for (Pending *p = LIST_FIRST(&a->pending), *next; p; p = next) {
                next = LIST_NEXT(p, entries);
                if (!is_due(p))
                        continue;

                if (p->kind == PENDING_RELAY) {
                        _cleanup_bus_message_ sd_bus_message *call = sd_bus_message_ref(p->call);

                        /* From the top again, as polkit does it: whatever it looks up may have changed. */
                        if (sd_bus_message_rewind(call, true) < 0 ||
                            sd_bus_enqueue_for_read(sd_bus_message_get_bus(call), call) < 0)
                                (void) sd_bus_reply_method_errno(call, ENOMEM, NULL);
                } else if (p->kind == PENDING_READY || p->kind == PENDING_INIT || p->kind == PENDING_HIRE)
                        reply_ready(p, /* in_time= */ true);
                else
                        answer_gone(p);
                pending_free(p);
        }
}

void pending_fail_all(Agent *a) {
        while (!LIST_EMPTY(&a->pending)) {
                Pending *p = LIST_FIRST(&a->pending);

                (void) bus_reply_errorf(p->call, PUFFO_ERROR_NO_SUCH_AGENT, "Agent '%s' is gone.",
                                        a->home->id);
                pending_free(p);
        }
}
