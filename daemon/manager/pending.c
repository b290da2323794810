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

/* Each is a message with all that is in it. */
#define PENDING_MAX 128U

Pending* pending_free(Pending *p) {
        if (!p)
                return NULL;
        LIST_REMOVE(p, entries);
        p->agent->n_pending--;
        sd_event_source_disable_unref(p->timeout);
        sd_bus_slot_unref(p->preparing);
        sd_bus_message_unref(p->call);
        return mfree(p);
}

/* fault: why it is not, although it may look so; NULL: none. */
static void reply_ready(Pending *p, bool in_time, const char *fault) {
        Agent *a = p->agent;
        uint32_t pid = a->unit_state.main_pid;
        bool running = !fault && (a->state == AGENT_READY || a->state == AGENT_BUSY);
        const char *why = fault ?: a->status_text;
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
                (void) bus_error_setf(&error, PUFFO_ERROR_NOT_READY, "Agent '%s' is %s%s%s%s", a->home->id,
                                      in_time ? "not able to work" : "not ready yet", *why ? ": " : "", why,
                                      endswith(why, ".") ? "" : ".");
                (void) sd_bus_reply_method_error(p->call, &error);
        }
}

static void not_removed(Agent *a) {
        a->removing = false;
        agent_evaluate(a);
}

static int on_timeout(sd_event_source *s, uint64_t usec, void *userdata) {
        Pending *p = userdata;
        PendingKind kind = p->kind;
        Agent *a = p->agent;

        switch (p->kind) {

        case PENDING_READY:
        case PENDING_INIT:
        case PENDING_HIRE:
                reply_ready(p, /* in_time= */ false, NULL);
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
        }

        pending_free(p);
        if (kind == PENDING_ARCHIVE || kind == PENDING_DELETE)
                not_removed(a);
        return 0;
}

int pending_new(Agent *a, PendingKind kind, sd_bus_message *call, uint64_t timeout_usec, Pending **ret,
                sd_bus_error *reterr_error) {
        Pending *p, *last = NULL, *other;
        int r;

        if (a->n_pending >= PENDING_MAX)
                return bus_error_setf(reterr_error, SD_BUS_ERROR_LIMITS_EXCEEDED,
                                      "%u calls wait for agent '%s' already; try again later.", a->n_pending,
                                      a->home->id);
        p = new0(Pending, 1);
        if (!p)
                return -ENOMEM;
        *p = (Pending) {
                .agent = a, .kind = kind, .call = sd_bus_message_ref(call), .timeout_usec = timeout_usec,
        };
        /* Behind the others: calls that waited are carried out in the order in which they were made. */
        LIST_FOREACH(other, &a->pending, entries)
                last = other;
        if (last)
                LIST_INSERT_AFTER(last, p, entries);
        else
                LIST_INSERT_HEAD(&a->pending, p, entries);
        a->n_pending++;
        r = event_arm_timer(a->manager->event, &p->timeout, timeout_usec, USEC_PER_SEC / 10, on_timeout, p);
        if (r < 0) {
                pending_free(p);
                return r;
        }
        if (ret)
                *ret = p;
        return 0;
}

/* Archiving and deleting may move gigabytes between file systems: done by a child. What is deleted is out of sight
 * before that, so that whoever makes an agent of the same name meanwhile finds nothing of it, and loses nothing to it.
 */
typedef struct RemovalArgs {
        const HomePaths *paths;
        const AgentHome *home;
        char **trees;           /* NULL: archive */
} RemovalArgs;

struct Removal {
        Manager *manager;
        Agent *agent;           /* NULL: it has gone already; one with its id is another */
        sd_bus_message *call;
        char *id, *slice;
        bool archive;
};

static Removal* removal_free(Removal *removal) {
        if (!removal)
                return NULL;
        removal->manager->n_removals--;
        if (removal->agent)
                removal->agent->removal = NULL;
        sd_bus_message_unref(removal->call);
        free(removal->id);
        free(removal->slice);
        return mfree(removal);
}
DEFINE_TRIVIAL_CLEANUP_FUNC(Removal*, removal_free);

void removal_forget_agent(Removal *removal) {
        if (removal)
                removal->agent = NULL;
}

static int removal_run(void *userdata, char **ret_text) {
        const RemovalArgs *args = userdata;
        int r = 0;

        if (!args->trees)
                return agent_home_archive(args->paths, args->home, ret_text);
        for (char **t = args->trees; *t && r >= 0; t++)
                r = directory_remove(*t);
        return r;
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
        _cleanup_(removal_freep) Removal *removal = userdata;
        _cleanup_bus_error_ sd_bus_error error = SD_BUS_ERROR_NULL;
        Manager *m = removal->manager;

        m->n_removals--;        /* over: the look that follows is to see everything */
        (void) manager_rescan(m);
        m->n_removals++;
        /* It may have been made anew while the old one was going. */
        if (!manager_find_agent(m, removal->id)) {
                unit_forget_slice(m, removal->slice);
                forget_owner(m, removal->id);
        }
        if (removal->agent)
                not_removed(removal->agent);

        if (r >= 0) {
                reply_removed(removal, text);
                return;
        }
        (void) manager_error(&error, r, removal->archive ? "archive agent" : "delete agent", removal->id);
        (void) sd_bus_reply_method_error(removal->call, &error);
}

static int removal_start(Pending *p) {
        Agent *a = p->agent;
        _cleanup_(strv_freep) char **trees = NULL;
        _cleanup_(removal_freep) Removal *removal = new0(Removal, 1);
        RemovalArgs args = { a->manager->paths, a->home };
        int r;

        if (!removal)
                return -ENOMEM;
        *removal = (Removal) {
                .manager = a->manager,
                .call = sd_bus_message_ref(p->call),
                .id = strdup(a->home->id),
                .slice = strdup(a->slice),
                .archive = p->kind == PENDING_ARCHIVE,
        };
        a->manager->n_removals++;
        if (!removal->id || !removal->slice)
                return -ENOMEM;
        if (!removal->archive) {
                r = agent_home_hide(args.paths, args.home, &trees);
                if (r < 0)
                        return r;
                args.trees = trees ?: (char*[]) { NULL };
        }

        r = worker_run(a->manager->event, removal_run, &args, 0, removal_done, removal);
        if (r < 0)
                return r;
        removal->agent = a;
        a->removal = TAKE_PTR(removal);
        return 0;
}

static void answer_gone(Pending *p) {
        int r = 0;

        if (p->kind == PENDING_GONE)
                (void) sd_bus_reply_method_return(p->call, NULL);
        else
                r = removal_start(p);
        if (r < 0) {
                p->agent->removing = false;
                manager_queue_settle(p->agent->manager);
                (void) sd_bus_reply_method_errnof(p->call, r, "Failed to remove agent '%s': %m", p->agent->home->id);
        }
}

static bool waits_for_ready(const Pending *p) {
        return p->kind == PENDING_READY || p->kind == PENDING_INIT || p->kind == PENDING_HIRE;
}

static int on_prepared(sd_bus_message *m, void *userdata, sd_bus_error *reterr_error) {
        const sd_bus_error *e = sd_bus_message_get_error(m);
        Pending *p = userdata;

        p->preparing = sd_bus_slot_unref(p->preparing);
        if (e && sd_bus_error_has_name(e, PUFFO_ERROR_NOT_READY)) {
                reply_ready(p, /* in_time= */ true, strempty(e->message));
                pending_free(p);
                return 0;
        }
        /* The next session is asked again. */
        if (e && session_connection_was_lost(e)) {
                pending_check(p->agent);
                return 0;
        }
        if (e && !sd_bus_error_has_name(e, SD_BUS_ERROR_UNKNOWN_METHOD))        /* of an older session */
                log_warning("Agent '%s' could not be made ready: %s", p->agent->home->id, strempty(e->message));
        p->prepared = true;
        pending_check(p->agent);
        return 0;
}

/* Whether the session is still to make ready what answers its turns; if so, it is asked to. */
static bool must_prepare(Pending *p) {
        _cleanup_bus_message_ sd_bus_message *call = NULL;
        Agent *a = p->agent;
        int r;

        if (!p->prepare || p->prepared)
                return false;
        /* That it is ready was said by one that has gone. */
        if (!session_link_is_up(a->link))
                return a->state == AGENT_READY || a->state == AGENT_BUSY;
        if (p->preparing)
                return true;
        r = session_link_new_call(a->link, "Prepare", &call);
        if (r >= 0)
                r = sd_bus_message_append(call, "t", p->timeout_usec);
        /* It has a limit of its own, as the caller has. */
        if (r >= 0)
                r = sd_bus_call_async(session_link_bus(a->link), &p->preparing, call, on_prepared, p,
                                      p->timeout_usec + 60 * USEC_PER_SEC);
        if (r < 0)
                (void) log_warning_errno(r, "The session of agent '%s' could not be asked, ignoring: %m",
                                         a->home->id);
        return r >= 0;
}

static bool is_due(const Pending *p) {
        const Agent *a = p->agent;

        switch (p->kind) {

        case PENDING_READY:
        case PENDING_INIT:
        case PENDING_HIRE:
                return a->state == AGENT_READY || a->state == AGENT_BUSY || a->state == AGENT_FAILED ||
                       a->state == AGENT_MISSING;

        case PENDING_RELAY:
                return session_link_is_up(a->link) || a->state == AGENT_STOPPED || a->state == AGENT_MISSING;

        default:
                return (a->state == AGENT_STOPPED || a->state == AGENT_MISSING) && a->listed && !a->job;
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
                } else if (waits_for_ready(p)) {
                        if (must_prepare(p))
                                continue;
                        reply_ready(p, /* in_time= */ true, NULL);
                } else
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
