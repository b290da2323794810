/* SPDX-License-Identifier: MIT */

#include "event-util.h"
#include "invites-internal.h"
#include "log.h"
#include "string-util.h"

#define QUESTIONS_MAX 64U

/* --- recognising one --- */

/* 1: yes, 0: no, < 0: neither. */
static int read_answer(const char *text) {
        static const struct { const char *word; bool yes; } words[] = {
                { "y", true }, { "yes", true }, { "n", false }, { "no", false },
        };

        for (size_t k = 0; k < ELEMENTSOF(words); k++)
                if (str_is_word(text, words[k].word))
                        return words[k].yes;
        return -ENOMSG;
}

/* Questions become known as asked some time after they were sent: an answer may be faster. */
static int find_unsettled(Invites *i, const char *dm_envelope_id, InviteRow **ret) {
        InviteRow **rows;
        size_t n;
        int r = invite_store_list(i->spec.db, INVITE_ANNOUNCING, QUESTIONS_MAX, &rows, &n), found = 0;

        if (r < 0)
                return r;
        for (size_t k = 0; k < n && r >= 0 && !found; k++) {
                r = invites_settle_question(i, rows[k]);
                if (r >= 0 && streq_ptr(rows[k]->dm_envelope_id, dm_envelope_id)) {
                        *ret = TAKE_PTR(rows[k]);
                        found = 1;
                }
        }
        invite_rows_free(rows, n);
        return r < 0 ? r : found;
}

/* A slug is no proof. The message was verified with the sender's chain, so that this is known mostly. */
static bool is_operator(Invites *i, const char *slug, bool if_unknown) {
        CertChain *chain;
        const uint8_t *root;

        if (isempty(i->operator_slug) || !streq(slug, i->operator_slug))
                return false;
        if (!i->has_operator_root)
                return true;
        chain = cert_cache_get(i->spec.certs, slug);
        root = chain ? cert_chain_root(chain) : NULL;
        return root ? memcmp(root, i->operator_root, KEY_SIZE) == 0 : if_unknown;
}

bool invites_is_operator(Invites *i, const char *slug) {
        return is_operator(i, slug, false);
}

int invites_consume_answer(Invites *i, const char *sender_slug, const char *thread_root_id, const char *text) {
        _cleanup_(invite_row_freep) InviteRow *row = NULL;
        int answer = isempty(text) ? -ENOMSG : read_answer(text), r;

        if (answer < 0 || isempty(thread_root_id) || !is_operator(i, sender_slug, true))
                return 0;
        r = invite_store_find_question(i->spec.db, thread_root_id, &row);
        if (r == 0)
                r = find_unsettled(i, thread_root_id, &row);
        if (r <= 0)
                return r;
        if ((row->state != INVITE_ANNOUNCED && row->state != INVITE_ANNOUNCING) ||
            row->updated_at < now_realtime_ms() - INVITE_LIFE_MS)
                return 0;

        if (row->state == INVITE_ANNOUNCING) {
                r = invite_store_announced(i->spec.db, row->event_id, row->dm_envelope_id, now_realtime_ms());
                if (r < 0)
                        return r;
        }
        r = invite_store_answered(i->spec.db, row->event_id, answer > 0, now_realtime_ms());
        if (r >= 0)
                r = sd_event_source_set_enabled(i->answers, SD_EVENT_ONESHOT);
        return r < 0 ? r : 1;
}

/* --- doing what it says --- */

static void answer_forget(Invites *i) {
        i->answer_action = invite_action_free(i->answer_action);
        i->answer = invite_row_free(i->answer);
        i->attempt = 0;
        i->in_doubt = false;
}

static int answer_settle(Invites *i, const InviteOutcome *outcome) {
        const InviteRow *row = i->answer;
        _cleanup_free_ char *inviter = invites_inviter_label(i, row->inviter_slug), *target = NULL, *text = NULL,
                            *key = strjoin("invite/", row->event_id, "/outcome");
        _cleanup_(transaction_rollbackp) Transaction t = {};
        int r;

        target = invites_target_label(row->to_channel, row->space_id, row->space_name, row->channel_id,
                                      row->channel_name);
        if (!inviter || !target || !key)
                return -ENOMEM;
        if (outcome->done)
                text = strjoin(row->accept ? "Accepted" : "Rejected", " the invitation of ", inviter, " to ", target,
                               ".");
        else
                text = strjoin(row->accept ? "Accepting" : "Rejecting", " the invitation of ", inviter, " to ", target,
                               " has failed: ", outcome->problem, ".");
        if (!text)
                return -ENOMEM;

        r = database_begin(i->spec.db, &t);
        if (r >= 0)
                r = invite_store_set_state(i->spec.db, row->event_id, INVITE_DONE, now_realtime_ms());
        if (r >= 0 && outcome->done && row->accept)
                r = invites_remember_joined(i, row->to_channel, row->space_id, row->channel_id);
        if (r >= 0 && !isempty(i->operator_slug))
                r = invites_say(i, key, row->dm_envelope_id, text);
        return r < 0 ? r : database_commit(&t);
}

static void answer_try(Invites *i);

static int on_retry(sd_event_source *s, uint64_t usec, void *userdata) {
        Invites *i = userdata;

        if (i->answer)
                answer_try(i);
        return 0;
}

/* > 0: there will be another attempt. Without a connection it comes with the next one. */
static int answer_put_off(Invites *i, const InviteOutcome *outcome) {
        static const unsigned pauses[] = { 2, 8, 30 };
        int r;

        if (!outcome->transient)
                return 0;
        if (!i->connected) {
                answer_forget(i);
                return 1;
        }
        if (i->attempt >= ELEMENTSOF(pauses))
                return 0;
        i->answer_action = invite_action_free(i->answer_action);
        i->in_doubt = true;
        r = event_arm_timer(i->spec.event, &i->retry, pauses[i->attempt++] * USEC_PER_SEC, 0, on_retry, i);
        return r < 0 ? 0 : 1;
}

static void on_acted(InviteAction *a, const InviteOutcome *outcome, void *userdata) {
        Invites *i = userdata;
        InviteRow *row = i->answer;
        int r;

        if (outcome->detail)
                log_notice("Failed to %s invitation %s: %s", row->accept ? "accept" : "reject", row->event_id,
                           outcome->detail);
        if (answer_put_off(i, outcome) > 0)
                return;
        r = answer_settle(i, outcome);
        if (r < 0) {
                /* The row still says that it is to be done: with the next poll. */
                invites_failed(i, r, "Failed to store what became of an invitation, trying again later");
                answer_forget(i);
                return;
        }

        log_info("The operator's answer to invitation %s was carried out%s.", row->event_id,
                 outcome->done ? "" : " without success");
        if (row->accept && outcome->done)
                invites_joined(i, row->space_id, row->to_channel ? row->channel_id : NULL, row->channel_name);
        else if (row->accept && outcome->gone && i->in_doubt)
                invites_look_whether_joined(i, row);
        answer_forget(i);
        (void) sd_event_source_set_enabled(i->answers, SD_EVENT_ONESHOT);
}

static void answer_try(Invites *i) {
        const InviteRow *row = i->answer;
        Invite invite = { .event_id = row->event_id, .space_id = row->space_id, .channel_id = row->channel_id,
                          .to_channel = row->to_channel };
        int r = invite_action_new(&i->answer_action, i->spec.client, &invite,
                                  row->accept ? INVITE_ACCEPT : INVITE_REJECT, on_acted, i);

        if (r < 0) {
                invites_failed(i, r, "Failed to answer an invitation, trying again later");
                answer_forget(i);
        }
}

/* 1 = i->answer is the next one. */
static int answer_find(Invites *i) {
        static const InviteState open[] = { INVITE_ACTING, INVITE_ANSWERED };

        for (size_t k = 0; k < ELEMENTSOF(open); k++) {
                InviteRow **rows;
                size_t n;
                int r = invite_store_list(i->spec.db, open[k], 1, &rows, &n);

                if (r < 0)
                        return r;
                if (n > 0)
                        i->answer = TAKE_PTR(rows[0]);
                invite_rows_free(rows, n);
                if (i->answer)
                        return 1;
        }
        return 0;
}

void invites_answers_go(Invites *i) {
        int r;

        if (i->answer || !i->connected)
                return;
        /* What the answer came with must be on disk before anything follows from it. */
        r = database_flush(i->spec.db);
        if (r >= 0)
                r = answer_find(i);
        if (r > 0) {
                i->in_doubt = i->answer->state == INVITE_ACTING;
                r = invite_store_set_state(i->spec.db, i->answer->event_id, INVITE_ACTING, now_realtime_ms());
                if (r >= 0)
                        answer_try(i);
        }
        if (r < 0) {
                invites_failed(i, r, "Failed to take up the answer to an invitation, trying again later");
                answer_forget(i);
        }
}

int invites_on_answers(sd_event_source *s, void *userdata) {
        invites_answers_go(userdata);
        return 0;
}

void invites_answers_stop(Invites *i) {
        answer_forget(i);
        i->answers = sd_event_source_disable_unref(i->answers);
        i->retry = sd_event_source_disable_unref(i->retry);
}
