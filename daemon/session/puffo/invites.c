/* SPDX-License-Identifier: MIT */

#include "base64url.h"
#include "certificate.h"
#include "crash-point.h"
#include "event-util.h"
#include "invites-internal.h"
#include "json-util.h"
#include "log.h"
#include "message-store.h"
#include "outbox-store.h"
#include "string-util.h"

#define FIRST_POLL_USEC (2 * USEC_PER_SEC)
#define POLL_USEC (30 * USEC_PER_SEC)
#define POLL_ACCURACY_USEC (10 * USEC_PER_SEC)
/* Between polls that somebody asked for. */
#define POKE_PAUSE_USEC (2 * USEC_PER_SEC)
/* Questions that the operator is asked at a time: whoever sends more invitations has to wait. */
#define QUESTIONS_MAX 20U
/* Of one answer of the server. */
#define LIST_MAX 500U
#define LABEL_MAX 80U
#define SIGNER_KEYS_MAX 16U

static void cycle_next(Invites *i);

void invites_failed(Invites *i, int error, const char *what) {
        (void) log_warning_errno(error, "%s: %m", what);
        if (error == -EUCLEAN && i->spec.on_broken)
                i->spec.on_broken(error, i->spec.userdata);
}

/* --- words --- */

/* "**name**(id)", or "id" for what has no name. */
static char* label(const char *name, const char *prefix, const char *id) {
        _cleanup_free_ char *shown_id = str_printable(id, 2 * LABEL_MAX), *shown = str_printable(name, LABEL_MAX);

        if (!shown_id || !shown)
                return NULL;
        return *shown ? asprintf_new("**%s**(%s%s)", shown, prefix, shown_id) : strjoin(prefix, shown_id);
}

char* invites_inviter_label(Invites *i, const char *slug) {
        const DirectoryPerson *p = directory_person(i->spec.directory, slug);

        return label(p ? p->display_name : "", "@", slug);
}

char* invites_target_label(bool to_channel, const char *space_id, const char *space_name, const char *channel_id,
                           const char *channel_name) {
        _cleanup_free_ char *space = label(space_name, "", space_id), *channel = NULL;

        if (!space || !to_channel)
                return space ? strjoin("space ", space) : NULL;
        channel = label(channel_name, "", channel_id);
        return channel ? strjoin("channel ", channel, " in space ", space) : NULL;
}

int invites_say(Invites *i, const char *key, const char *thread_root_id, const char *text) {
        _cleanup_json_ json_object *content = json_object_new_string(text);
        const char *json = content ? json_text(content, NULL) : NULL;

        if (!json)
                return -ENOMEM;
        return outbox_add(i->spec.outbox, &(OutgoingMessage) {
                .key = key, .recipient_slug = i->operator_slug, .thread_root_id = thread_root_id, .content = json,
        }, NULL);
}

/* --- becoming a member --- */

int invites_remember_joined(Invites *i, bool to_channel, const char *space_id, const char *channel_id) {
        int r = channel_finder_want(i->finder, space_id, to_channel ? channel_id : NULL);

        if (r >= 0 && to_channel)
                r = message_store_learn_space(i->spec.db, channel_id, space_id, now_realtime_ms());
        return r;
}

void invites_joined(Invites *i, const char *space_id, const char *channel_id, const char *channel_name) {
        int r;

        crash_point("invite-joined");

        directory_forget_space(i->spec.directory, space_id);
        if (isempty(channel_id)) {
                r = channel_finder_find(i->finder, space_id, NULL);
                if (r < 0)
                        invites_failed(i, r, "Failed to look for the channel to introduce oneself in");
                return;
        }
        r = directory_learn_channel(i->spec.directory, space_id, channel_id, channel_name);
        if (r < 0)
                invites_failed(i, r, "Failed to remember a channel's space");
        r = i->spec.on_joined(space_id, channel_id, i->spec.userdata);
        if (r >= 0)
                r = channel_finder_forget(i->finder, space_id, channel_id);
        if (r < 0)
                invites_failed(i, r, "A channel that was joined is looked at again later");
}

void invites_look_whether_joined(Invites *i, const InviteRow *row) {
        int r = channel_finder_find(i->finder, row->space_id, row->to_channel ? row->channel_id : NULL);

        if (r < 0)
                invites_failed(i, r, "Failed to look for the channel to introduce oneself in");
}

static int on_found(const char *space_id, const char *channel_id, void *userdata) {
        Invites *i = userdata;

        crash_point("invite-found");
        return i->spec.on_joined(space_id, channel_id, i->spec.userdata);
}

/* --- the current invitation --- */

static Invite* current(Invites *i) {
        return i->list + i->current;
}

static int put_row(Invites *i, const Invite *invite, InviteState state) {
        InviteRow row = {
                .event_id = (char*) invite->event_id, .space_id = (char*) invite->space_id,
                .channel_id = (char*) invite->channel_id, .inviter_slug = (char*) invite->inviter_slug,
                .space_name = (char*) invite->space_name, .channel_name = (char*) invite->channel_name,
                .to_channel = invite->to_channel, .state = state,
        };

        return invite_store_put(i->spec.db, &row, now_realtime_ms());
}

static void current_is_done(Invites *i) {
        i->current++;
        i->asked_again = false;
        cycle_next(i);
}

static int ask_operator(Invites *i, const Invite *invite) {
        _cleanup_free_ char *inviter = invites_inviter_label(i, invite->inviter_slug), *target = NULL, *text = NULL,
                            *key = strjoin("invite/", invite->event_id);
        _cleanup_(transaction_rollbackp) Transaction t = {};
        int r;

        target = invites_target_label(invite->to_channel, invite->space_id, invite->space_name, invite->channel_id,
                                      invite->channel_name);
        if (!inviter || !target || !key)
                return -ENOMEM;
        text = strjoin(inviter, " invited me to ", target,
                       ". They are not my operator. Reply y to accept or n to reject in this thread.");
        if (!text)
                return -ENOMEM;

        r = database_begin(i->spec.db, &t);
        if (r >= 0)
                r = invites_say(i, key, NULL, text);
        if (r >= 0)
                r = put_row(i, invite, INVITE_ANNOUNCING);
        return r < 0 ? r : database_commit(&t);
}

static void on_names(DirectoryLookup *l, void *userdata) {
        Invites *i = userdata;
        int r = ask_operator(i, current(i));

        i->names = directory_lookup_free(i->names);
        if (r < 0)
                invites_failed(i, r, "Failed to ask the operator about an invitation, trying again later");
        else
                log_info("Asking the operator about invitation %s of '%s'.", current(i)->event_id,
                         current(i)->inviter_slug);
        current_is_done(i);
}

/* > 0: too many questions are open. */
static int too_many_questions(Invites *i) {
        static const InviteState open[] = { INVITE_ANNOUNCING, INVITE_ANNOUNCED };
        size_t n = 0;

        for (size_t k = 0; k < ELEMENTSOF(open); k++) {
                InviteRow **rows;
                size_t n_rows;
                int r = invite_store_list(i->spec.db, open[k], QUESTIONS_MAX, &rows, &n_rows);

                if (r < 0)
                        return r;
                invite_rows_free(rows, n_rows);
                n += n_rows;
        }
        return n >= QUESTIONS_MAX;
}

/* > 0: it goes on later. */
static int announce(Invites *i) {
        const Invite *invite = current(i);
        _cleanup_(invite_row_freep) InviteRow *row = NULL;
        int r;

        if (isempty(i->operator_slug)) {
                r = invite_store_get(i->spec.db, invite->event_id, &row);
                if (r != 0)
                        return r < 0 ? r : 0;
                log_warning("'%s' invites the agent, but there is no operator who could be asked about it.",
                            invite->inviter_slug);
                return put_row(i, invite, INVITE_LEFT);
        }
        r = too_many_questions(i);
        if (r != 0)
                return r < 0 ? r : 0;
        r = directory_look_up(i->spec.directory, &invite->inviter_slug, 1, NULL, 0, on_names, i, &i->names);
        return r < 0 ? r : 1;
}

static int accepted(Invites *i, const Invite *invite) {
        _cleanup_(transaction_rollbackp) Transaction t = {};
        int r = database_begin(i->spec.db, &t);

        if (r >= 0)
                r = invite_store_set_state(i->spec.db, invite->event_id, INVITE_DONE, now_realtime_ms());
        if (r >= 0)
                r = invites_remember_joined(i, invite->to_channel, invite->space_id, invite->channel_id);
        return r < 0 ? r : database_commit(&t);
}

static void on_acted(InviteAction *a, const InviteOutcome *outcome, void *userdata) {
        Invites *i = userdata;
        const Invite *invite = current(i);
        int r;

        if (outcome->done) {
                r = accepted(i, invite);
                if (r < 0)
                        invites_failed(i, r, "Failed to remember that an invitation was accepted");
                log_info("Accepted the operator's invitation %s.", invite->event_id);
                invites_joined(i, invite->space_id, invite->to_channel ? invite->channel_id : NULL,
                               invite->channel_name);
        } else
                (void) log_fields(i->again ? LOG_DEBUG : LOG_WARNING, 0, NULL,
                                  "Failed to accept the operator's invitation %s, trying again later: %s",
                                  invite->event_id, outcome->detail ?: outcome->problem);
        i->action = invite_action_free(i->action);
        current_is_done(i);
}

/* > 0: it goes on later. In progress before the server is asked: whoever comes up after a crash knows of it. */
static int accept(Invites *i) {
        int r = put_row(i, current(i), INVITE_ACCEPTING);

        if (r >= 0)
                r = invite_action_new(&i->action, i->spec.client, current(i), INVITE_ACCEPT, on_acted, i);
        return r < 0 ? r : 1;
}

static bool event_says(const SignedValue *o, const char *key, const char *value) {
        return streq(strempty(signed_get_string(o, key)), value);
}

/* Whether the inviter has signed this very invitation: 1, 0 when not, -ENOMEM. */
static int verify_event(Invites *i, const Invite *invite, CertChain *chain) {
        const SignedValue *e = invite->event, *payload = signed_get(e, "payload");
        const char *signature = signed_get_string(e, "signature");
        uint8_t keys[SIGNER_KEYS_MAX][KEY_SIZE], bytes[SIGNATURE_SIZE];
        int64_t issued_at;
        int r, n;

        if (!signature || !event_says(e, "event_id", invite->event_id) ||
            !event_says(e, "signer_slug", invite->inviter_slug) ||
            !event_says(e, "kind", invite->to_channel ? "invite_to_channel" : "invite_to_space") ||
            !event_says(payload, "space_id", invite->space_id) ||
            !event_says(payload, "invitee_slug", server_client_identity(i->spec.client)->slug) ||
            (invite->to_channel && !event_says(payload, "channel_id", invite->channel_id)) ||
            signed_get_int(payload, "issued_at", &issued_at) < 0)
                return 0;
        r = base64url_decode_exact(signature, strlen(signature), bytes, sizeof(bytes));
        if (r < 0)
                return r == -ENOMEM ? r : 0;
        n = cert_chain_keys_at(chain, issued_at, signed_get_string(e, "signer_subkey_id"), keys, SIGNER_KEYS_MAX);
        if (n < 0)
                return n;
        for (int k = 0; k < n; k++) {
                r = signed_object_verify(e, keys[k], bytes);
                if (r != 0)
                        return r;
        }
        return 0;
}

static int look_up_inviter(Invites *i);

/* > 0: it goes on later. */
static int judge(Invites *i, CertChain *chain) {
        const Invite *invite = current(i);
        const uint8_t *root = chain ? cert_chain_root(chain) : NULL;
        int r;

        if (chain && signed_get_string(invite->event, "signature")) {
                r = verify_event(i, invite, chain);
                if (r < 0)
                        return r;
                if (r == 0 && !i->asked_again) {
                        i->asked_again = true;
                        cert_cache_drop(i->spec.certs, chain);
                        return look_up_inviter(i);
                }
                if (r == 0) {
                        log_warning("Invitation %s is not signed by '%s', ignoring it.", invite->event_id,
                                    invite->inviter_slug);
                        return put_row(i, invite, INVITE_DONE);
                }
        }
        if (i->has_operator_root && root && memcmp(root, i->operator_root, KEY_SIZE) == 0)
                return accept(i);
        /* Nobody is to be told that the operator is not the operator because a lookup has failed. */
        if (!root && i->has_operator_root && streq(invite->inviter_slug, strempty(i->operator_slug)))
                return 0;
        return announce(i);
}

static void on_inviter(CertLookup *l, void *userdata) {
        _cleanup_(cert_lookup_freep) _unused_ CertLookup *lookup = l;
        Invites *i = userdata;
        int r;

        i->inviter = NULL;
        r = judge(i, cert_lookup_chain(l, 0));
        if (r > 0)
                return;
        if (r < 0)
                invites_failed(i, r, "Failed to deal with an invitation, trying again later");
        current_is_done(i);
}

static int look_up_inviter(Invites *i) {
        const char *slug = current(i)->inviter_slug;
        int r = cert_cache_lookup(i->spec.certs, &slug, 1, on_inviter, i, &i->inviter);

        return r < 0 ? r : 1;
}

static int consider(Invites *i) {
        _cleanup_(invite_row_freep) InviteRow *row = NULL;
        const Invite *invite = current(i);
        int r = invite_store_get(i->spec.db, invite->event_id, &row);

        if (r < 0)
                return r;
        if (row && row->state != INVITE_ACCEPTING && (row->state != INVITE_LEFT || isempty(i->operator_slug)))
                return 0;
        i->again = row && row->state == INVITE_ACCEPTING;
        return cert_slug_is_valid(invite->inviter_slug) ? look_up_inviter(i) : 0;
}

/* --- polls --- */

static int on_timer(sd_event_source *s, uint64_t usec, void *userdata);

static void arm(Invites *i, uint64_t delay_usec, uint64_t accuracy_usec) {
        int r;

        i->timer = sd_event_source_disable_unref(i->timer);
        r = event_arm_timer(i->spec.event, &i->timer, delay_usec, accuracy_usec, on_timer, i);
        if (r < 0)
                (void) log_warning_errno(r, "Failed to arm the timer of invitations: %m");
}

static void cycle_end(Invites *i) {
        i->cycling = false;
        i->list = mfree(i->list);
        i->n_list = 0;
        i->document = signed_document_free(i->document);
        if (!i->connected)
                return;
        if (i->poked)
                arm(i, POKE_PAUSE_USEC, 0);
        else
                arm(i, POLL_USEC, POLL_ACCURACY_USEC);
        i->poked = false;
        invites_answers_go(i);
}

static void cycle_next(Invites *i) {
        for (; i->current < i->n_list; i->current++) {
                int r = consider(i);

                if (r > 0)
                        return;
                if (r < 0)
                        invites_failed(i, r, "Failed to deal with an invitation, trying again later");
        }
        cycle_end(i);
}

int invites_settle_question(Invites *i, InviteRow *row) {
        _cleanup_(outbox_row_freep) OutboxRow *message = NULL;
        _cleanup_free_ char *key = strjoin("invite/", row->event_id);
        int64_t id;
        int r;

        if (!key)
                return -ENOMEM;
        r = outbox_find(i->spec.outbox, key, &id);
        if (r > 0)
                r = outbox_store_get(i->spec.db, id, &message);
        if (r < 0)
                return r;
        /* One that could not be sent is left to the operator's own client. */
        if (r == 0 || message->state == OUTBOX_FAILED) {
                row->state = INVITE_DONE;
                return invite_store_set_state(i->spec.db, row->event_id, INVITE_DONE, now_realtime_ms());
        }
        if (isempty(message->envelope_id))
                return 0;
        /* Once it has its envelope it may have been read, whatever became of the server's answer. */
        r = free_and_strdup(&row->dm_envelope_id, message->envelope_id);
        if (r < 0 || message->state != OUTBOX_SENT)
                return r < 0 ? r : 0;
        row->state = INVITE_ANNOUNCED;
        return invite_store_announced(i->spec.db, row->event_id, message->envelope_id, now_realtime_ms());
}

static bool is_listed(Invites *i, const char *event_id) {
        for (size_t k = 0; k < i->n_list; k++)
                if (streq(i->list[k].event_id, event_id))
                        return true;
        return false;
}

static int reconcile_row(Invites *i, InviteRow *row) {
        int r = row->state == INVITE_ANNOUNCING ? invites_settle_question(i, row) : 0;

        if (r < 0 || is_listed(i, row->event_id) || row->state == INVITE_ANSWERED || row->state == INVITE_ACTING)
                return r;
        /* The answer to our accepting it may have been lost. */
        if (row->state == INVITE_ACCEPTING)
                invites_look_whether_joined(i, row);
        return invite_store_remove(i->spec.db, row->event_id);
}

/* Invitations that were answered or withdrawn elsewhere are over. */
static int reconcile(Invites *i) {
        InviteRow **rows;
        size_t n;
        int r = invite_store_expire(i->spec.db, now_realtime_ms() - INVITE_LIFE_MS, now_realtime_ms());

        if (r >= 0)
                r = invite_store_list(i->spec.db, _INVITE_STATE_INVALID, 0, &rows, &n);
        if (r < 0)
                return r;
        for (size_t k = 0; k < n && r >= 0; k++)
                r = reconcile_row(i, rows[k]);
        invite_rows_free(rows, n);
        return r;
}

/* Into the poll's own document: what is in the list is dealt with long after the reply is gone. */
static int read_list(Invites *i, const CallReply *reply, char **reterr) {
        CallReply copy = *reply;
        size_t left_out;
        int r = signed_document_new(&i->document);

        if (r < 0)
                return r;
        if (reply->json) {
                copy.json = signed_copy(i->document, reply->json);
                if (!copy.json)
                        return -ENOMEM;
        }
        r = api_read_invites(&copy, &i->list, &i->n_list, &left_out, reterr);
        if (r < 0)
                return r;
        if (left_out > 0 || i->n_list > LIST_MAX)
                log_debug("%zu invitations lack something, and %zu are too many.", left_out,
                          i->n_list - MIN(i->n_list, (size_t) LIST_MAX));
        i->n_list = MIN(i->n_list, (size_t) LIST_MAX);
        return 0;
}

static void on_polled(ServerCall *call, const CallReply *reply, void *userdata) {
        _cleanup_free_ char *error = NULL;
        Invites *i = userdata;
        int r = reply->failure == CALL_OK ? read_list(i, reply, &error) : -EIO;

        if (r < 0) {
                /* One line, not one every half minute. */
                if (i->poll_has_failed)
                        log_debug("Failed to ask for invitations: %s", error ?: strempty(reply->error));
                else
                        log_warning("Failed to ask for invitations, trying again later: %s",
                                    error ?: strempty(reply->error));
        }
        i->poll_has_failed = r < 0;
        i->poll = server_call_free(i->poll);
        if (r < 0) {
                cycle_end(i);
                return;
        }

        r = reconcile(i);
        if (r < 0)
                invites_failed(i, r, "Failed to go through the invitations of earlier");
        i->current = 0;
        i->asked_again = false;
        cycle_next(i);
}

static int on_timer(sd_event_source *s, uint64_t usec, void *userdata) {
        Invites *i = userdata;
        int r;

        if (i->cycling) {
                i->poked = true;
                return 0;
        }
        i->cycling = true;
        i->last_poll_usec = now_boottime_usec();
        r = api_invites(i->spec.client, on_polled, i, &i->poll);
        if (r < 0) {
                (void) log_warning_errno(r, "Failed to ask for invitations, trying again later: %m");
                cycle_end(i);
        }
        return 0;
}

void invites_poke(Invites *i) {
        uint64_t next = i->last_poll_usec + POKE_PAUSE_USEC, now = now_boottime_usec();

        if (i->cycling)
                i->poked = true;
        else if (i->connected)
                arm(i, i->last_poll_usec > 0 && next > now ? next - now : 0, USEC_PER_MSEC);
}

void invites_on_event(Invites *i, const SignedValue *event) {
        const char *kind = strempty(signed_get_string(event, "kind"));

        if ((streq(kind, "invite_to_space") || streq(kind, "invite_to_channel")) &&
            event_says(signed_get(event, "payload"), "invitee_slug", server_client_identity(i->spec.client)->slug))
                invites_poke(i);
}

void invites_set_connected(Invites *i, bool connected) {
        int r;

        if (connected == i->connected)
                return;
        i->connected = connected;
        i->timer = sd_event_source_disable_unref(i->timer);
        if (!connected)
                return;
        if (i->cycling)
                i->poked = true;
        else
                arm(i, FIRST_POLL_USEC, USEC_PER_SEC);
        r = channel_finder_start(i->finder);
        if (r < 0 && r != -EAGAIN)
                invites_failed(i, r, "Failed to take up the search for channels");
        invites_answers_go(i);
}

/* --- the whole --- */

/* §2 step 2 */
static int read_operator_root(Invites *i) {
        _cleanup_(signed_document_freep) SignedDocument *d = NULL;
        const Identity *identity = server_client_identity(i->spec.client);
        const char *key;
        int r;

        if (!identity->identity_cert_json)
                return 0;
        r = signed_document_parse(&d, identity->identity_cert_json, strlen(identity->identity_cert_json));
        key = r < 0 ? NULL : signed_get_string(signed_document_root(d), "declared_operator_public_key");
        if (key)
                r = base64url_decode_exact(key, strlen(key), i->operator_root, KEY_SIZE);
        i->has_operator_root = key && r >= 0;
        return r == -ENOMEM ? r : 0;
}

int invites_set_operator(Invites *i, const char *operator_slug) {
        int r = free_and_strdup(&i->operator_slug, strempty(operator_slug));

        return r < 0 ? r : 0;
}

int invites_new(Invites **ret, const InvitesSpec *spec) {
        _cleanup_(invites_freep) Invites *i = new0(Invites, 1);
        int r;

        assert(ret && spec && spec->on_joined);
        if (!i)
                return -ENOMEM;
        i->spec = *spec;
        i->spec.operator_slug = NULL;
        r = invites_set_operator(i, spec->operator_slug);
        if (r >= 0)
                r = read_operator_root(i);
        if (r >= 0)
                r = channel_finder_new(&i->finder, spec->event, spec->client, spec->directory, spec->db, on_found, i);
        if (r >= 0)
                r = sd_event_add_defer(spec->event, &i->answers, invites_on_answers, i);
        if (r >= 0)
                r = sd_event_source_set_enabled(i->answers, SD_EVENT_OFF);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(i);
        return 0;
}

Invites* invites_free(Invites *i) {
        if (!i)
                return NULL;
        invites_answers_stop(i);
        sd_event_source_disable_unref(i->timer);
        (void) server_call_free(i->poll);
        cert_lookup_free(i->inviter);
        directory_lookup_free(i->names);
        invite_action_free(i->action);
        channel_finder_free(i->finder);
        free(i->list);
        signed_document_free(i->document);
        free(i->operator_slug);
        return mfree(i);
}
