/* SPDX-License-Identifier: MIT */

#include <ctype.h>
#include <sodium.h>

#include "base64url.h"
#include "cert-cache.h"
#include "event-util.h"
#include "request-signing.h"
#include "server-api.h"

/* §11.1 */
#define ERROR_TEXT_MAX 1024U
#define TRANSFER_TIMEOUT_USEC (300 * USEC_PER_SEC)
#define BLOB_ID_MAX 200U

static int start_get(ServerClient *c, StrBuf *path, call_done_t on_done, void *userdata, ServerCall **ret) {
        return server_call_start(c, &(CallSpec) { .path = path->text, .on_done = on_done, .userdata = userdata }, ret);
}

static int start_json(ServerClient *c, const char *method, const char *path, const SignedValue *body,
                      call_done_t on_done, void *userdata, ServerCall **ret) {
        CallSpec spec = { .method = method, .path = path, .on_done = on_done, .userdata = userdata };
        _cleanup_(strbuf_done) StrBuf text = {};
        int r = body ? signed_value_format(body, &text) : -ENOMEM;

        if (r < 0)
                return r;
        spec.body = text.text;
        spec.body_size = text.size;
        return server_call_start(c, &spec, ret);
}

/* "/spaces/" id "/channels": literal, escaped, literal … ended by NULL. */
static int path_build(StrBuf *b, const char *literal, ...) {
        va_list ap;
        int r = strbuf_puts(b, literal);

        va_start(ap, literal);
        for (const char *s; r >= 0 && (s = va_arg(ap, const char*)); ) {
                r = path_append(b, s);
                s = va_arg(ap, const char*);
                if (r >= 0 && s)
                        r = strbuf_puts(b, s);
                if (!s)
                        break;
        }
        va_end(ap);
        return r;
}

/* --- certificates, people, spaces --- */

static int append_slugs(StrBuf *path, const char *const *slugs, size_t n) {
        int r = 0;

        for (size_t i = 0; i < n && r >= 0; i++) {
                if (i > 0)
                        r = strbuf_puts(path, ",");
                if (r >= 0)
                        r = path_append(path, slugs[i]);
        }
        return r;
}

int api_certs_sync(ServerClient *c, const char *const *slugs, size_t n_slugs, int64_t since, call_done_t on_done,
                   void *userdata, ServerCall **ret) {
        _cleanup_(strbuf_done) StrBuf path = {};
        int r = strbuf_puts(&path, "/certs/sync?slugs=");

        if (r >= 0)
                r = append_slugs(&path, slugs, n_slugs);
        if (r >= 0)
                r = strbuf_printf(&path, "&since=%" PRId64, since);
        return r < 0 ? r : start_get(c, &path, on_done, userdata, ret);
}

int api_profiles(ServerClient *c, const char *const *slugs, size_t n_slugs, call_done_t on_done, void *userdata,
                 ServerCall **ret) {
        _cleanup_(strbuf_done) StrBuf path = {};
        int r = n_slugs > PROFILES_MAX || cert_slugs_fit(slugs, n_slugs) < n_slugs ? -E2BIG : 0;

        if (r >= 0)
                r = strbuf_puts(&path, "/identities/profiles?slugs=");
        if (r >= 0)
                r = append_slugs(&path, slugs, n_slugs);
        return r < 0 ? r : start_get(c, &path, on_done, userdata, ret);
}

static int put_given(SignedDocument *d, SignedValue *o, const char *key, const char *text) {
        return text ? signed_put(d, o, key, signed_string(d, text)) : 0;
}

int api_change_profile(ServerClient *c, const ProfileChange *change, call_done_t on_done, void *userdata,
                       ServerCall **ret) {
        _cleanup_(signed_document_freep) SignedDocument *d = NULL;
        SignedValue *o;
        int r = signed_document_new(&d);

        if (r < 0)
                return r;
        o = signed_object(d);
        r = o ? put_given(d, o, "display_name", change->display_name) : -ENOMEM;
        if (r >= 0)
                r = put_given(d, o, "avatar_url", change->avatar_url);
        if (r >= 0)
                r = put_given(d, o, "bio", change->bio);
        if (r >= 0)
                r = put_given(d, o, "role", change->role);
        if (r >= 0)
                r = put_given(d, o, "role_short", change->role_short);
        if (r < 0)
                return r;
        return o->child ? start_json(c, "PATCH", "/identities/self", o, on_done, userdata, ret) : -EINVAL;
}

int api_spaces(ServerClient *c, call_done_t on_done, void *userdata, ServerCall **ret) {
        return server_call_start(c, &(CallSpec) { .path = "/spaces", .on_done = on_done, .userdata = userdata }, ret);
}

int api_channels(ServerClient *c, const char *space_id, call_done_t on_done, void *userdata, ServerCall **ret) {
        _cleanup_(strbuf_done) StrBuf path = {};
        int r = path_build(&path, "/spaces/", space_id, "/channels", NULL);

        return r < 0 ? r : start_get(c, &path, on_done, userdata, ret);
}

int api_channel_members(ServerClient *c, const char *space_id, const char *channel_id, call_done_t on_done,
                        void *userdata, ServerCall **ret) {
        _cleanup_(strbuf_done) StrBuf path = {};
        int r = path_build(&path, "/spaces/", space_id, "/channels/", channel_id, "/members", NULL);

        return r < 0 ? r : start_get(c, &path, on_done, userdata, ret);
}

int api_invites(ServerClient *c, call_done_t on_done, void *userdata, ServerCall **ret) {
        return server_call_start(c, &(CallSpec) { .path = "/invites?direction=received", .on_done = on_done,
                                                  .userdata = userdata }, ret);
}

/* --- events --- */

int api_space_events(ServerClient *c, const char *space_id, const char *cursor, call_done_t on_done, void *userdata,
                     ServerCall **ret) {
        _cleanup_(strbuf_done) StrBuf path = {};
        int r = cursor ? path_build(&path, "/spaces/", space_id, "/events?since=", cursor, NULL)
                       : path_build(&path, "/spaces/", space_id, "/events", NULL);

        return r < 0 ? r : start_get(c, &path, on_done, userdata, ret);
}

static int answer_payload(SignedDocument *d, const Invite *invite, InviteAnswer answer, SignedValue **ret) {
        _cleanup_free_ char *nonce_text = NULL;
        SignedValue *o = signed_object(d);
        uint8_t nonce[32];
        int r;

        randombytes_buf(nonce, sizeof(nonce));
        nonce_text = base64url_encode(nonce, sizeof(nonce));
        if (!nonce_text)
                return -ENOMEM;

        r = signed_put(d, o, "space_id", signed_string(d, invite->space_id));
        if (r >= 0 && invite->to_channel)
                r = signed_put(d, o, "channel_id", signed_string(d, invite->channel_id));
        if (r >= 0)
                r = signed_put(d, o, "invitation_event_id", signed_string(d, invite->event_id));
        if (r >= 0)
                r = signed_put(d, o, answer == INVITE_ACCEPT ? "accepted_at" : "rejected_at",
                               signed_int(d, now_realtime_ms()));
        if (r >= 0)
                r = signed_put(d, o, "nonce", signed_string(d, nonce_text));
        *ret = o;
        return r;
}

int api_answer_invite(ServerClient *c, const Invite *invite, InviteAnswer answer, call_done_t on_done, void *userdata,
                      ServerCall **ret) {
        static const char *const kinds[_INVITE_ANSWER_MAX][2] = {
                [INVITE_ACCEPT] = { "accept_space_invite", "accept_channel_invite" },
                [INVITE_REJECT] = { "reject_space_invite", "reject_channel_invite" },
        };
        const SessionKey *key = server_client_subkey(c);
        _cleanup_(signed_document_freep) SignedDocument *d = NULL;
        SignedValue *payload, *event, *events, *body;
        _cleanup_free_ char *id = id_random("ev_");
        const Identity *i = server_client_identity(c);
        EventSigner signer;
        int r;

        if (!key)
                return -EAGAIN;
        signer = (EventSigner) { i->slug, i->device_id, key->subkey_id, key->seed };

        r = id ? signed_document_new(&d) : -ENOMEM;
        if (r >= 0)
                r = answer_payload(d, invite, answer, &payload);
        if (r >= 0)
                r = signed_event_new(d, id, kinds[answer][invite->to_channel], payload, &signer, &event);
        if (r < 0)
                return r;

        body = signed_object(d);
        events = signed_array(d);
        r = signed_push(d, events, event);
        if (r >= 0)
                r = signed_put(d, body, "space_id", signed_string(d, invite->space_id));
        if (r >= 0)
                r = signed_put(d, body, "events", events);
        return r < 0 ? r : start_json(c, "POST", "/spaces/events", body, on_done, userdata, ret);
}

/* --- messages --- */

int api_post_message(ServerClient *c, const char *envelope, size_t size, call_done_t on_done, void *userdata,
                     ServerCall **ret) {
        CallSpec spec = {
                .path = "/messages", .body = envelope, .body_size = size, .on_done = on_done, .userdata = userdata,
        };

        return server_call_start(c, &spec, ret);
}

int api_pending(ServerClient *c, uint64_t timeout_usec, http_data_t on_data, call_done_t on_done, void *userdata,
                ServerCall **ret) {
        CallSpec spec = {
                .path = "/messages/pending",
                .on_data = on_data,
                .timeout_usec = timeout_usec,
                .on_done = on_done,
                .userdata = userdata,
        };

        return server_call_start(c, &spec, ret);
}

int api_ack(ServerClient *c, const char *const *envelope_ids, size_t n, call_done_t on_done, void *userdata,
            ServerCall **ret) {
        _cleanup_(signed_document_freep) SignedDocument *d = NULL;
        SignedValue *body, *ids;
        int r = signed_document_new(&d);

        if (r < 0)
                return r;
        body = signed_object(d);
        ids = signed_array(d);
        for (size_t i = 0; i < n && r >= 0; i++)
                r = signed_push(d, ids, signed_string(d, envelope_ids[i]));
        if (r >= 0)
                r = signed_put(d, body, "envelope_ids", ids);
        return r < 0 ? r : start_json(c, "POST", "/messages/ack", body, on_done, userdata, ret);
}

/* --- blobs --- */

bool blob_id_is_valid(const char *id) {
        size_t n = strlen(strempty(id));

        if (n == 0 || n > BLOB_ID_MAX)
                return false;
        for (size_t i = 0; i < n; i++)
                if (!isascii((unsigned char) id[i]) || (!isalnum((unsigned char) id[i]) && !strchr("._~-", id[i])))
                        return false;
        return true;
}

int api_upload_blob(ServerClient *c, const void *data, size_t size, const char *content_type, call_done_t on_done,
                    void *userdata, ServerCall **ret) {
        CallSpec spec = {
                .path = "/blobs/upload",
                .body = data,
                .body_size = size,
                .content_type = content_type,
                .timeout_usec = TRANSFER_TIMEOUT_USEC,
                .on_done = on_done,
                .userdata = userdata,
        };

        return server_call_start(c, &spec, ret);
}

int api_download_blob(ServerClient *c, const char *blob_id, call_done_t on_done, void *userdata, ServerCall **ret) {
        _cleanup_(strbuf_done) StrBuf path = {};
        CallSpec spec = {
                .raw = true,
                .max_body = BLOB_MAX,
                .timeout_usec = TRANSFER_TIMEOUT_USEC,
                .waits_for_it = true,
                .on_done = on_done,
                .userdata = userdata,
        };
        int r;

        if (!blob_id_is_valid(blob_id))
                return -EINVAL;
        r = path_build(&path, "/blobs/", blob_id, NULL);
        if (r < 0)
                return r;
        spec.path = path.text;
        return server_call_start(c, &spec, ret);
}

/* --- status --- */

static int put_error_text(SignedDocument *d, SignedValue *o, const char *text) {
        _cleanup_free_ char *cut = NULL;

        if (!text)
                return 0;
        cut = str_printable(text, ERROR_TEXT_MAX - 1);
        return cut ? signed_put(d, o, "error_text", signed_string(d, cut)) : -ENOMEM;
}

int api_heartbeat(ServerClient *c, AgentStatus status, const char *message_id, const char *error_text,
                  call_done_t on_done, void *userdata, ServerCall **ret) {
        static const char *const names[_AGENT_STATUS_MAX] = {
                [AGENT_STATUS_IDLE] = "idle", [AGENT_STATUS_BUSY] = "busy", [AGENT_STATUS_ERROR] = "error",
        };
        _cleanup_(signed_document_freep) SignedDocument *d = NULL;
        SignedValue *body;
        int r = signed_document_new(&d);

        if (r < 0)
                return r;
        body = signed_object(d);
        r = signed_put(d, body, "status", signed_string(d, names[status]));
        if (r >= 0 && status == AGENT_STATUS_BUSY)
                r = put_given(d, body, "current_message_id", message_id);
        if (r >= 0 && status == AGENT_STATUS_ERROR)
                r = put_error_text(d, body, error_text);
        return r < 0 ? r : start_json(c, "POST", "/agents/me/heartbeat", body, on_done, userdata, ret);
}

static int put_outcome(SignedDocument *d, SignedValue *o, const Run *run) {
        int r = signed_put(d, o, "succeeded", signed_constant(d, run->error_text ? SIGNED_FALSE : SIGNED_TRUE));

        return r < 0 ? r : put_error_text(d, o, run->error_text);
}

static int processing_call(ServerClient *c, const Run *run, const char *what, bool outcome, call_done_t on_done,
                           void *userdata, ServerCall **ret) {
        _cleanup_(signed_document_freep) SignedDocument *d = NULL;
        _cleanup_(strbuf_done) StrBuf path = {};
        SignedValue *body;
        int r = signed_document_new(&d);

        if (r < 0)
                return r;
        body = signed_object(d);
        r = signed_put(d, body, "run_id", signed_string(d, run->run_id));
        if (r >= 0 && outcome)
                r = put_outcome(d, body, run);
        if (r >= 0)
                r = path_build(&path, "/messages/", run->message_id, what, NULL);
        return r < 0 ? r : start_json(c, "POST", path.text, body, on_done, userdata, ret);
}

int api_processing_start(ServerClient *c, const Run *run, call_done_t on_done, void *userdata, ServerCall **ret) {
        return processing_call(c, run, "/processing/start", /* outcome= */ false, on_done, userdata, ret);
}

int api_processing_end(ServerClient *c, const Run *run, call_done_t on_done, void *userdata, ServerCall **ret) {
        return processing_call(c, run, "/processing/end", /* outcome= */ true, on_done, userdata, ret);
}

int api_processing_end_batch(ServerClient *c, const Run *runs, size_t n, call_done_t on_done, void *userdata,
                             ServerCall **ret) {
        _cleanup_(signed_document_freep) SignedDocument *d = NULL;
        SignedValue *body, *list;
        int r = signed_document_new(&d);

        if (r < 0)
                return r;
        body = signed_object(d);
        list = signed_array(d);
        for (size_t i = 0; i < n && r >= 0; i++) {
                SignedValue *o = signed_object(d);

                r = signed_put(d, o, "run_id", signed_string(d, runs[i].run_id));
                if (r >= 0)
                        r = signed_put(d, o, "message_id", signed_string(d, runs[i].message_id));
                if (r >= 0)
                        r = put_outcome(d, o, runs + i);
                if (r >= 0)
                        r = signed_push(d, list, o);
        }
        if (r >= 0)
                r = signed_put(d, body, "runs", list);
        return r < 0 ? r : start_json(c, "POST", "/messages/processing/end:batch", body, on_done, userdata, ret);
}
