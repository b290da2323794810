/* SPDX-License-Identifier: MIT */

#include "crash-point.h"
#include "dispatch-store.h"
#include "intake.h"
#include "record.h"
#include "string-util.h"

static const char* root_of(const Message *m) {
        return isempty(m->thread_root_id) ? m->envelope_id : m->thread_root_id;
}

/* The text of the message, borrowed: mentions are looked for in what people write, not in what wraps it. */
static const char* text_of(const Message *m) {
        if (m->content->type == SIGNED_STRING)
                return m->content->text;
        if (streq_ptr(m->content_type, CONTENT_TYPE_ATTACHMENTS))
                return strempty(signed_get_string(m->content, "text"));
        return "";
}

static bool wakes_model(const IntakePolicy *p, bool dm, bool mentioned) {
        if (dm)
                return p->on_dm;
        return mentioned ? p->on_mention : p->on_all;
}

static DispatchPriority priority_of(bool addressed, bool bot) {
        if (addressed)
                return bot ? DISPATCH_ADDRESSED_BY_BOT : DISPATCH_ADDRESSED;
        return bot ? DISPATCH_OTHER_BY_BOT : DISPATCH_OTHER;
}

/* NULL when out of memory. */
static char* conversation_of(const Message *m) {
        return m->kind == ENVELOPE_DM ? strjoin("dm/", m->sender_slug) : strjoin("channel/", strempty(m->channel_id));
}

/* IntakeResult: what is decided of a message that is new. */
static int judge(Directory *directory, const Message *m, const IntakePolicy *policy, const IntakeHooks *hooks,
                 DispatchPriority *ret_priority) {
        const DirectoryPerson *sender = directory ? directory_person(directory, m->sender_slug) : NULL;
        bool dm = m->kind == ENVELOPE_DM, mentioned = record_mentions(text_of(m), policy->own_slug);
        int r = 0;

        *ret_priority = priority_of(dm || mentioned, sender && sender->is_agent);
        if (hooks && hooks->consume)
                r = hooks->consume(m, hooks->userdata);
        if (r != 0)
                return r < 0 ? r : INTAKE_STORED;
        return wakes_model(policy, dm, mentioned) ? INTAKE_QUEUED : INTAKE_STORED;
}

int intake_message(Database *db, Directory *directory, const Message *m, const IntakePolicy *policy,
                   const IntakeHooks *hooks, int64_t now_ms) {
        _cleanup_(transaction_rollbackp) Transaction t = {};
        bool own = streq(m->sender_slug, policy->own_slug);
        DispatchPriority priority;
        int r, result = INTAKE_STORED;

        crash_point("intake-begin");
        r = database_begin_lazy(db, &t);
        if (r >= 0)
                r = message_store_add(db, m, now_ms);
        if (r < 0)
                return r;
        if (r != MESSAGE_NEW)
                return INTAKE_KNOWN;

        /* What we say on another device is part of the history and wakes nobody (P-26). */
        if (!own) {
                _cleanup_free_ char *conversation = conversation_of(m);

                if (!conversation)
                        return -ENOMEM;
                result = judge(directory, m, policy, hooks, &priority);
                if (result < 0)
                        return result;
                r = dispatch_store_add(db, &(DispatchEntry) {
                        .envelope_id = m->envelope_id,
                        .root_id = root_of(m),
                        .conversation = conversation,
                        .priority = priority,
                        .state = result == INTAKE_QUEUED ? DISPATCH_QUEUED : DISPATCH_DONE,
                        .sent_at = m->sent_at,
                        .now = now_ms,
                });
                /* A database that ours was taken to after the original had been at work (§8.6). */
                if (r == -EEXIST)
                        return INTAKE_KNOWN;
                if (r < 0)
                        return r;
        }
        r = database_commit(&t);
        if (r < 0)
                return r;
        crash_point("intake-stored");
        return result;
}
