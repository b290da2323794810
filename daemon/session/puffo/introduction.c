/* SPDX-License-Identifier: MIT */

#include <sys/queue.h>

#include "conversation.h"
#include "crash-point.h"
#include "event-util.h"
#include "introduction.h"
#include "log.h"
#include "status-reporter.h"
#include "string-util.h"

#define PROMPTS_MAX 64U
#define NAME_MAX_CHARS 200U
/* session_values: channels whose names are being asked for, so that a crash meanwhile does not leave them out. */
#define WANTED "introduce/"

typedef struct Prompt {
        Introduction *introduction;
        char *space_id, *channel_id;
        DirectoryLookup *lookup;
        LIST_ENTRY(Prompt) prompts;
} Prompt;

struct Introduction {
        IntroductionSpec spec;
        LIST_HEAD(, Prompt) prompts;
        unsigned n_prompts;
};

static Prompt* prompt_free(Prompt *p) {
        if (!p)
                return NULL;
        LIST_REMOVE(p, prompts);
        p->introduction->n_prompts--;
        directory_lookup_free(p->lookup);
        free(p->space_id);
        free(p->channel_id);
        return mfree(p);
}
DEFINE_TRIVIAL_CLEANUP_FUNC(Prompt*, prompt_free);

static int was_prompted(Database *db, const char *channel_id) {
        _cleanup_(database_statement_releasep) sqlite3_stmt *s = NULL;
        int r = database_prepare(db, "SELECT 1 FROM channel_intro_prompted WHERE channel_id = ?1", &s);

        if (r >= 0)
                r = database_bind_text(s, 1, channel_id);
        return r < 0 ? r : database_error(sqlite3_step(s));
}

/* > 0: it was there already. */
static int mark_prompted(Database *db, const char *channel_id, int64_t now_ms) {
        _cleanup_(database_statement_releasep) sqlite3_stmt *s = NULL;
        int r = database_prepare(db, "INSERT OR IGNORE INTO channel_intro_prompted (channel_id, prompted_at) "
                                 "VALUES (?1, ?2)", &s);

        if (r >= 0)
                r = database_bind_text(s, 1, channel_id);
        if (r >= 0)
                r = database_bind_int(s, 2, now_ms);
        if (r >= 0)
                r = database_error(sqlite3_step(s));
        return r < 0 ? r : database_changes(db) == 0;
}

/* space_id NULL: no more. */
static int want(Database *db, const char *channel_id, const char *space_id) {
        _cleanup_free_ char *name = strjoin(WANTED, channel_id);

        return name ? session_value_set(db, name, space_id) : -ENOMEM;
}

/* What a server says must not look like more of the text. */
static char* one_line(const char *s) {
        return str_printable(s, NAME_MAX_CHARS);
}

static char* compose(const IntroductionRequest *q) {
        _cleanup_free_ char *channel = one_line(isempty(q->channel_name) ? q->channel_id : q->channel_name),
                            *space = one_line(isempty(q->space_name) ? q->space_id : q->space_name),
                            *id = one_line(q->channel_id);

        if (!channel || !space || !id)
                return NULL;
        return asprintf_new("[puffo-agent system message]\n"
                            "You were just added to channel #%s (channel id %s) in space %s. Post a brief "
                            "self-introduction of 2-3 sentences there, in English unless you know better, by calling "
                            "mcp__puffo__send_message with channel=\"%s\". Make it a new top-level post: do not pass "
                            "root_id.", channel, id, space, id);
}

static int request(Prompt *p, IntroductionRequest *q) {
        Introduction *i = p->introduction;
        _cleanup_(transaction_rollbackp) Transaction t = {};
        int r = database_begin(i->spec.db, &t);

        if (r >= 0)
                r = mark_prompted(i->spec.db, q->channel_id, q->now_ms);
        if (r != 0)
                return r < 0 ? r : 0;
        r = i->spec.on_introduce(q, i->spec.userdata);
        if (r >= 0)
                r = want(i->spec.db, q->channel_id, NULL);
        crash_point("introduction-commit");
        return r < 0 ? r : database_commit(&t);
}

static void on_names(DirectoryLookup *l, void *userdata) {
        _cleanup_(prompt_freep) Prompt *p = userdata;
        Introduction *i = p->introduction;
        _cleanup_free_ char *id = NULL, *text = NULL;
        IntroductionRequest q = {
                .channel_id = p->channel_id,
                .channel_name = strempty(directory_channel_name(i->spec.directory, p->channel_id)),
                .space_id = p->space_id,
                .space_name = strempty(directory_space_name(i->spec.directory, p->space_id)),
                .now_ms = now_realtime_ms(),
        };
        int r = -ENOMEM;

        q.envelope_id = id = asprintf_new(SYNTHETIC_ID_PREFIX "%s-%" PRId64, p->channel_id, q.now_ms);
        q.text = text = compose(&q);
        if (id && text)
                r = request(p, &q);
        if (r >= 0)
                return;
        (void) log_warning_errno(r, "Failed to have the agent introduce itself in '%s': %m", p->channel_id);
        if (r == -EUCLEAN && i->spec.on_broken)
                i->spec.on_broken(r, i->spec.userdata);
}

int introduction_prompt(Introduction *i, const char *space_id, const char *channel_id) {
        _cleanup_(prompt_freep) Prompt *p = NULL;
        Prompt *other;
        int r;

        if (isempty(space_id) || isempty(channel_id))
                return -EINVAL;
        LIST_FOREACH(other, &i->prompts, prompts)
                if (streq(other->channel_id, channel_id))
                        return 0;
        r = was_prompted(i->spec.db, channel_id);
        if (r != 0)
                return r;
        if (i->n_prompts >= PROMPTS_MAX)
                return -EAGAIN;

        p = new0(Prompt, 1);
        if (!p)
                return -ENOMEM;
        p->introduction = i;
        LIST_INSERT_HEAD(&i->prompts, p, prompts);
        i->n_prompts++;
        p->space_id = strdup(space_id);
        p->channel_id = strdup(channel_id);
        if (!p->space_id || !p->channel_id)
                return -ENOMEM;
        r = want(i->spec.db, channel_id, space_id);
        if (r < 0)
                return r;
        r = directory_look_up(i->spec.directory, NULL, 0, &(DirectoryChannel) { space_id, channel_id }, 1, on_names, p,
                              &p->lookup);
        if (r < 0)
                return r;
        TAKE_PTR(p);
        return 0;
}

int introduction_on_event(Introduction *i, const char *own_slug, const SignedValue *event) {
        static const struct { const char *kind, *who; bool channel; } kinds[] = {
                { "leave_space" }, { "leave_channel", .channel = true },
                { "remove_from_space", "removed_slug" }, { "remove_from_channel", "removed_slug", .channel = true },
        };
        const char *kind = strempty(signed_get_string(event, "kind")), *who, *space_id, *channel_id;
        const SignedValue *payload = signed_get(event, "payload");
        Prompt *p, *next;

        space_id = strempty(signed_get_string(payload, "space_id"));
        channel_id = strempty(signed_get_string(payload, "channel_id"));
        for (size_t k = 0; k < ELEMENTSOF(kinds); k++) {
                if (!streq(kind, kinds[k].kind))
                        continue;
                who = kinds[k].who ? signed_get_string(payload, kinds[k].who)
                                   : signed_get_string(event, "signer_slug");
                if (!streq(strempty(who), own_slug) || !*space_id || (kinds[k].channel && !*channel_id))
                        return 0;

                directory_forget_space(i->spec.directory, space_id);
                for (p = LIST_FIRST(&i->prompts); p; p = next) {
                        next = LIST_NEXT(p, prompts);
                        if (!streq(p->space_id, space_id) || (kinds[k].channel && !streq(p->channel_id, channel_id)))
                                continue;
                        (void) want(i->spec.db, p->channel_id, NULL);
                        (void) prompt_free(p);
                }
                return 1;
        }
        return 0;
}

void introduction_start(Introduction *i) {
        _cleanup_(strv_freep) char **l = NULL;
        int r = session_value_list(i->spec.db, WANTED, PROMPTS_MAX, &l);

        for (char **c = l; c && *c && r >= 0; c += 2) {
                r = introduction_prompt(i, c[1], c[0]);
                if (r > 0 || r == -EINVAL)
                        r = want(i->spec.db, c[0], NULL);
        }
        if (r < 0)
                (void) log_warning_errno(r, "Failed to take up introductions of an earlier process: %m");
}

int introduction_new(Introduction **ret, const IntroductionSpec *spec) {
        Introduction *i = new0(Introduction, 1);

        assert(ret && spec && spec->on_introduce);
        if (!i)
                return -ENOMEM;
        i->spec = *spec;
        LIST_INIT(&i->prompts);
        *ret = i;
        return 0;
}

Introduction* introduction_free(Introduction *i) {
        if (!i)
                return NULL;
        while (!LIST_EMPTY(&i->prompts))
                (void) prompt_free(LIST_FIRST(&i->prompts));
        return mfree(i);
}
