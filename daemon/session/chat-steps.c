/* SPDX-License-Identifier: MIT */

#include "chat-steps.h"
#include "crash-point.h"
#include "string-util.h"

static void forget(ChatSteps *s) {
        stored_steps_free(s->steps, s->n);
        s->steps = NULL;
        s->n = 0;
        s->bytes = 0;
}

void chat_steps_done(ChatSteps *s) {
        forget(s);
        *s = (ChatSteps) {};
}

static size_t step_size(const StoredStep *t) {
        size_t n = strlen(t->text) + strlen(t->opaque);

        for (size_t i = 0; i < t->n_calls; i++)
                n += strlen(t->calls[i].name) + strlen(t->calls[i].arguments) + strlen(strempty(t->calls[i].result));
        return n;
}

/* What was said in the chat, for the conversation. */
static int take_spoken(Turn *t, const StoredCall *call) {
        _cleanup_json_ json_object *o = NULL;
        const char *text;
        int r;

        r = json_parse(call->arguments, strlen(call->arguments), &o);
        if (r < 0)
                return r == -ENOMEM ? r : 0;
        text = json_get_string(o, "text") ?: json_get_string(o, "caption");
        if (isempty(text))
                return 0;
        r = t->spoken.size > 0 ? strbuf_puts(&t->spoken, "\n\n") : 0;
        return r < 0 ? r : strbuf_puts(&t->spoken, text);
}

static int count_answer(ChatSteps *s, const StoredCall *call) {
        if (!call->done || !s->tools->is_answer(call->name))
                return 0;
        if (call->is_error) {
                s->turn->n_answers_failed++;
                return 0;
        }
        s->turn->n_answers++;
        return take_spoken(s->turn, call);
}

int chat_steps_begin(ChatSteps *s, Database *db, const ChatTools *tools, Turn *t) {
        int r = 0;

        forget(s);
        *s = (ChatSteps) { .db = db, .tools = tools, .turn = t };
        t->n_answers = t->n_answers_failed = 0;
        strbuf_done(&t->spoken);
        if (t->attempts > 1)
                r = step_store_list(db, t->seq, &s->steps, &s->n);
        for (size_t i = 0; i < s->n && r >= 0; i++) {
                s->bytes += step_size(s->steps + i);
                if (!isempty(s->steps[i].item))
                        r = turn_message_restore(t, s->steps[i].item, s->steps[i].text);
                for (size_t k = 0; k < s->steps[i].n_calls && r >= 0; k++)
                        r = count_answer(s, s->steps[i].calls + k);
        }
        return r;
}

static int calls_copy(const ModelResult *result, StoredStep *t) {
        t->calls = new0(StoredCall, result->n_calls);
        if (!t->calls)
                return -ENOMEM;
        t->n_calls = result->n_calls;
        for (size_t i = 0; i < t->n_calls; i++) {
                t->calls[i].call = strdup(result->calls[i].id);
                t->calls[i].name = strdup(result->calls[i].name);
                t->calls[i].arguments = strdup(result->calls[i].arguments);
                t->calls[i].result = strdup("");
                if (!t->calls[i].call || !t->calls[i].name || !t->calls[i].arguments || !t->calls[i].result)
                        return -ENOMEM;
        }
        return 0;
}

/* What the model has said just now is the last message of the turn. */
static int text_copy(ChatSteps *s, StoredStep *t) {
        const TurnItem *said = NULL;
        bool open = s->turn->open_item;
        int r;

        r = turn_message_end(s->turn, true);
        if (r < 0)
                return r;
        if (open)
                said = s->turn->items + s->turn->n_items - 1;
        t->text = strdup(said ? said->text : "");
        t->item = strdup(said ? said->item : "");
        return t->text && t->item ? 0 : -ENOMEM;
}

/* step is taken over, when that succeeds. */
static int append(ChatSteps *s, StoredStep *step) {
        StoredStep *grown = reallocarray(s->steps, s->n + 1, sizeof(StoredStep));
        int r;

        if (!grown)
                return -ENOMEM;
        s->steps = grown;
        crash_point("step-add");
        r = step_store_add(s->db, s->turn->seq, s->n, step);
        if (r < 0)
                return r;
        crash_point("step-added");

        s->bytes += step_size(step);
        s->steps[s->n++] = *step;
        *step = (StoredStep) {};
        return 0;
}

int chat_steps_note(ChatSteps *s, const StoredStep *given) {
        _cleanup_(stored_step_done) StoredStep step = {};
        int r;

        step.text = strdup(given->text);
        step.item = strdup(given->item);
        step.opaque = strdup(given->opaque);
        step.calls = new0(StoredCall, given->n_calls + 1);
        if (!step.text || !step.item || !step.opaque || !step.calls)
                return -ENOMEM;
        for (; step.n_calls < given->n_calls; step.n_calls++) {
                const StoredCall *from = given->calls + step.n_calls;
                StoredCall *to = step.calls + step.n_calls;

                to->done = from->done;
                to->is_error = from->is_error;
                to->call = strdup(from->call);
                to->name = strdup(from->name);
                to->arguments = strdup(from->arguments);
                to->result = strdup(from->result);
                if (!to->call || !to->name || !to->arguments || !to->result) {
                        step.n_calls++;
                        return -ENOMEM;
                }
        }
        r = append(s, &step);
        for (size_t i = 0; i < given->n_calls && r >= 0; i++) {
                const StoredCall *c = s->steps[s->n - 1].calls + i;

                r = count_answer(s, c);
                if (r >= 0 && c->done)
                        r = step_store_finish_call(s->db, s->turn->seq, s->n - 1, i, c->result, c->is_error);
        }
        return r;
}

int chat_steps_add(ChatSteps *s, const ModelResult *result) {
        _cleanup_(stored_step_done) StoredStep step = {};
        int r;

        r = text_copy(s, &step);
        if (r >= 0)
                r = calls_copy(result, &step);
        if (r < 0)
                return r;
        step.opaque = strdup(strempty(result->opaque));
        return step.opaque ? append(s, &step) : -ENOMEM;
}

StoredCall* chat_steps_next(ChatSteps *s, char **ret_key) {
        for (size_t i = 0; i < s->n; i++)
                for (size_t k = 0; k < s->steps[i].n_calls; k++)
                        if (!s->steps[i].calls[k].done) {
                                *ret_key = asprintf_new("%s/%zu/%zu", s->turn->id, i, k);
                                return s->steps[i].calls + k;
                        }
        return NULL;
}

int chat_steps_finish(ChatSteps *s, StoredCall *call, const char *text, bool is_error) {
        char *copy = strdup(text);
        int r;

        if (!copy)
                return -ENOMEM;
        free(call->result);
        call->result = copy;
        call->is_error = is_error;
        call->done = true;
        s->bytes += strlen(copy);
        r = count_answer(s, call);
        if (r < 0)
                return r;
        for (size_t i = 0; i < s->n; i++)
                if (call >= s->steps[i].calls && call < s->steps[i].calls + s->steps[i].n_calls)
                        return step_store_finish_call(s->db, s->turn->seq, i, (size_t) (call - s->steps[i].calls),
                                                      text, is_error);
        return -ENOENT;
}

/* ---- as messages ---- */

static int step_put(const StoredStep *t, ChatPrompt *p, ModelMessage *said, ModelMessage *got) {
        ModelToolCall *calls = new0(ModelToolCall, t->n_calls);
        ModelToolResult *results = calls ? new0(ModelToolResult, t->n_calls) : NULL;

        *said = (ModelMessage) {
                .role = MODEL_ROLE_ASSISTANT, .text = t->text, .calls = calls, .opaque = t->opaque,
                .n_calls = calls ? t->n_calls : 0,
        };
        *got = (ModelMessage) {
                .role = MODEL_ROLE_USER, .text = "", .results = results, .n_results = results ? t->n_calls : 0,
        };
        p->n_messages += 2;
        if (!results)
                return -ENOMEM;
        for (size_t i = 0; i < t->n_calls; i++) {
                calls[i] = (ModelToolCall) {
                        .id = t->calls[i].call, .name = t->calls[i].name, .arguments = t->calls[i].arguments,
                };
                results[i] = (ModelToolResult) {
                        .id = t->calls[i].call, .name = t->calls[i].name, .text = t->calls[i].result,
                        .is_error = t->calls[i].is_error,
                };
        }
        return 0;
}

int chat_steps_put(const ChatSteps *s, ChatPrompt *p, const char *note) {
        ModelMessage *grown = reallocarray(p->messages, p->n_messages + 2 * s->n + 1, sizeof(ModelMessage));

        if (!grown)
                return -ENOMEM;
        p->messages = grown;
        for (size_t i = 0; i < s->n; i++) {
                int r = step_put(s->steps + i, p, grown + p->n_messages, grown + p->n_messages + 1);

                if (r < 0)
                        return r;
        }
        if (note)
                grown[p->n_messages++] = (ModelMessage) { .role = MODEL_ROLE_USER, .text = note };
        return 0;
}
