/* SPDX-License-Identifier: MIT */

#include "chat-completions.h"
#include "event-util.h"
#include "json-util.h"
#include "responses-object.h"
#include "responses-turn.h"

#define DOCUMENT_MAX MIB(16)

/* What GetTurn will give back: enough to answer every later question about this response. */
static int turn_make_document(ResponseTurn *t) {
        _cleanup_json_ json_object *document = json_object_new_object();
        const char *text;
        size_t size;

        if (json_put_string(t->request.response, "id", t->id) < 0 ||
            json_put_int(t->request.response, "created_at", (int64_t) (now_realtime_usec() / USEC_PER_SEC)) < 0)
                return -ENOMEM;
        if (!document || json_put(document, "response", json_object_get(t->request.response)) < 0 ||
            json_put(document, "input", json_object_get(t->request.items)) < 0)
                return -ENOMEM;
        text = json_text(document, &size);
        if (!text)
                return -ENOMEM;
        if (size > DOCUMENT_MAX)
                return -E2BIG;
        t->document = strdup(text);
        return t->document ? 0 : -ENOMEM;
}

/* The agent the request is for, and whether it may be; -EBADMSG with *e. */
static int create_check(Call *c, const ResponsesRequest *q, MirroredAgent **ret, ApiError *e) {
        MirroredAgent *a = agent_mirror_resolve(c->gateway->agents, q->model);
        _cleanup_free_ char *shown = NULL;

        if (!a) {
                shown = str_printable(q->model, 100);
                return api_error_set(e, 404, "model_not_found", "model",
                                     "The model `%s` does not exist or you do not have access to it.",
                                     strempty(shown));
        }
        if (!call_may_use(c, a))
                return api_error_set(
                                e, 401, "api_key_required", NULL,
                                "Set AGENT_PROXY_API_KEY to allow this client: the agent belongs to another user.");
        if (q->previous_response_id && (!response_id_is_valid(q->previous_response_id) ||
                                        !startswith(q->previous_response_id + strlen(RESPONSE_ID_PREFIX), a->hash))) {
                shown = str_printable(q->previous_response_id, 100);
                return api_error_set(e, 400, "previous_response_not_found", "previous_response_id",
                                     "Previous response with id '%s' not found.", strempty(shown));
        }
        *ret = a;
        return 0;
}

/* chat: taken over when the turn begins. */
static int create_start(Call *c, const char *body, size_t size, ChatAnswer **chat, ApiError *e) {
        _cleanup_(responses_request_done) ResponsesRequest q = {};
        _cleanup_(response_turn_freep) ResponseTurn *t = NULL;
        _cleanup_free_ char *id = NULL;
        MirroredAgent *a = NULL;
        int r;

        r = responses_request_parse(body, size, &(RequestPolicy){.strict_tools = c->gateway->settings->strict_tools},
                                    &q, e);
        if (r < 0)
                return r;
        r = create_check(c, &q, &a, e);
        if (r < 0)
                return r;
        id = response_id_new(a->hash);
        if (!id)
                return -ENOMEM;
        r = response_turn_new(c, a, id, &t);
        if (r < 0)
                return r;
        t->mine = true;
        t->stream = q.stream;
        t->background = q.background;
        t->request = q;
        q = (ResponsesRequest) {};
        r = turn_make_document(t);
        if (r == -E2BIG)
                return api_error_set(e, 413, "request_too_large", NULL,
                                     "The request is over %zu MiB when it is stored.", DOCUMENT_MAX / MIB(1));
        if (r < 0)
                return r;
        r = response_fold_new(&t->fold, t->request.response, t->stream ? response_turn_emit : NULL, t);
        if (r < 0)
                return r;
        r = response_turn_start(t);
        if (r < 0)
                return r;
        t->chat = chat ? TAKE_PTR(*chat) : NULL;
        c->turn = TAKE_PTR(t);
        return 0;
}

static int chat_start(Call *c, ApiError *e) {
        _cleanup_(chat_answer_freep) ChatAnswer *chat = NULL;
        _cleanup_json_ json_object *body = NULL, *converted = NULL;
        const char *text;
        size_t size;
        int r;

        r = call_parse_body(c, &body, e);
        if (r >= 0)
                r = chat_request_convert(body, &converted, &chat, e);
        if (r < 0)
                return r;
        text = json_text(converted, &size);
        if (!text)
                return -ENOMEM;
        r = create_start(c, text, size, &chat, e);
        if (r == -EBADMSG && chat_error_rename(e) < 0)
                return -ENOMEM;
        return r;
}

void chat_completions_create(Call *c) {
        _cleanup_api_error_ ApiError e = {};
        int r = chat_start(c, &e);

        if (r < 0 && e.status != 0)
                call_reply_error(c, &e);
        else if (r < 0)
                call_reply_errno(c, r);
}

void responses_create(Call *c) {
        _cleanup_api_error_ ApiError e = {};
        const char *body;
        size_t size;
        int r;

        body = http_exchange_body(c->exchange, &size);
        r = create_start(c, body, size, NULL, &e);

        if (r < 0 && e.status != 0)
                call_reply_error(c, &e);
        else if (r < 0)
                call_reply_errno(c, r);
}

void response_stream_again(Call *c, const MirroredAgent *a, const TurnRecord *record, int64_t after) {
        _cleanup_(response_turn_freep) ResponseTurn *t = NULL;
        _cleanup_json_ json_object *response = NULL;
        int r;

        r = response_turn_new(c, a, c->match.argument, &t);
        if (r >= 0)
                r = response_object_copy(json_get(record->document, "response"), &response);
        if (r >= 0)
                r = response_fold_new(&t->fold, response, response_turn_emit, t);
        if (r >= 0) {
                t->stream = true;
                t->after = after;
                r = response_turn_start(t);
        }
        if (r < 0)
                call_reply_errno(c, r);
        else
                c->turn = TAKE_PTR(t);
}
