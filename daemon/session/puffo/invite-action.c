/* SPDX-License-Identifier: MIT */

#include "crash-point.h"
#include "invite-action.h"
#include "string-util.h"

struct InviteAction {
        ServerClient *client;
        char *event_id, *space_id, *channel_id;
        bool to_channel;
        InviteAnswer answer;
        SubkeyWait *wait;
        ServerCall *call;
        invite_acted_t on_acted;
        void *userdata;
};

static void end(InviteAction *a, const InviteOutcome *outcome) {
        a->on_acted(a, outcome, a->userdata);
}

static void end_failed(InviteAction *a, int error) {
        end(a, &(InviteOutcome) { .transient = true, .problem = "it could not be sent", .detail = strerror(-error) });
}

static void on_reply(ServerCall *call, const CallReply *reply, void *userdata) {
        InviteAction *a = userdata;
        InviteOutcome outcome = {
                .done = reply->failure == CALL_OK,
                .transient = call_reply_is_transient(reply),
                .gone = reply->failure == CALL_STATUS && (reply->status == 409 || reply->status == 404),
                .detail = reply->error,
        };
        _cleanup_free_ char *text = NULL;

        if (outcome.gone)
                outcome.problem = "it has been answered or withdrawn already";
        else if (reply->failure == CALL_STATUS && reply->status == 403)
                outcome.problem = "the server does not permit it";
        else if (reply->failure == CALL_STATUS) {
                text = asprintf_new("the server refused it with status %ld", reply->status);
                outcome.problem = text ?: "the server refused it";
        } else if (!outcome.done)
                outcome.problem = "the server could not be reached or gave no sensible answer";
        end(a, &outcome);
}

static int ask(InviteAction *a);

static void on_subkey(const CallReply *reply, void *userdata) {
        InviteAction *a = userdata;
        int r;

        a->wait = subkey_wait_free(a->wait);
        if (reply->failure != CALL_OK) {
                end(a, &(InviteOutcome) { .transient = call_reply_is_transient(reply),
                                          .problem = "the server gives no key to sign with", .detail = reply->error });
                return;
        }
        r = ask(a);
        if (r < 0)
                end_failed(a, r);
}

static int ask(InviteAction *a) {
        Invite invite = { .event_id = a->event_id, .space_id = a->space_id, .channel_id = a->channel_id,
                          .to_channel = a->to_channel };
        int r;

        crash_point("invite-answer");
        r = api_answer_invite(a->client, &invite, a->answer, on_reply, a, &a->call);

        return r == -EAGAIN ? subkey_wait_new(&a->wait, a->client, NULL, on_subkey, a) : r;
}

int invite_action_new(InviteAction **ret, ServerClient *client, const Invite *invite, InviteAnswer answer,
                      invite_acted_t on_acted, void *userdata) {
        _cleanup_(invite_action_freep) InviteAction *a = new0(InviteAction, 1);
        int r;

        if (!a)
                return -ENOMEM;
        *a = (InviteAction) { .client = client, .to_channel = invite->to_channel, .answer = answer,
                              .on_acted = on_acted, .userdata = userdata };
        r = free_and_strdup(&a->event_id, invite->event_id);
        if (r >= 0)
                r = free_and_strdup(&a->space_id, invite->space_id);
        if (r >= 0)
                r = free_and_strdup(&a->channel_id, strempty(invite->channel_id));
        if (r >= 0)
                r = ask(a);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(a);
        return 0;
}

InviteAction* invite_action_free(InviteAction *a) {
        if (!a)
                return NULL;
        (void) subkey_wait_free(a->wait);
        (void) server_call_free(a->call);
        free(a->event_id);
        free(a->space_id);
        free(a->channel_id);
        return mfree(a);
}
