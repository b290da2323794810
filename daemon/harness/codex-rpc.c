/* SPDX-License-Identifier: MIT */

/* What we ask Codex for (codex-protocol §§4–6), and how a process becomes ready for a turn. */

#include "codex.h"
#include "config.h"
#include "event-util.h"

/* A binary of 300 MB is read from disk before it answers at all. */
#define INITIALIZE_USEC (30 * USEC_PER_SEC)
#define ANSWER_USEC (60 * USEC_PER_SEC)
#define WRITER_USEC (1 * USEC_PER_SEC)
#define WRITER_TRIES_MAX 30U

#define IDS "puffo-"

/* Of the lines that nobody here would look at. */
static const char *const unwanted[] = {
        "account/rateLimits/updated", "thread/started", "remoteControl/status/changed",
};

static json_object* put_object(json_object *o, const char *key) {
        json_object *member = json_object_new_object();

        return member && json_put(o, key, member) >= 0 ? member : NULL;
}

/* {"id", "method", "params": {}}; the id ends with what it asks for, so that an answer tells that to whoever takes
 * over. *ret_id may be NULL. */
static int request_new(Codex *c, const char *method, json_object **ret, json_object **ret_params, char **ret_id) {
        _cleanup_json_ json_object *o = json_object_new_object();
        _cleanup_free_ char *id = asprintf_new(IDS "%s-%u-%s", c->prefix, ++c->n_requests, method);
        int r;

        if (!o || !id)
                return -ENOMEM;
        r = json_put_string(o, "id", id);
        if (r >= 0)
                r = json_put_string(o, "method", method);
        if (r < 0)
                return r;
        *ret_params = put_object(o, "params");
        if (!*ret_params)
                return -ENOMEM;
        if (ret_id) {
                free(*ret_id);
                *ret_id = TAKE_PTR(id);
        }
        *ret = TAKE_PTR(o);
        return 0;
}

int codex_reply(Harness *h, json_object *id, const char *key, json_object *value) {
        _cleanup_json_ json_object *o = json_object_new_object(), *owned = value;
        int r;

        if (!o || !value)
                return -ENOMEM;
        r = json_put(o, "id", json_object_get(id));
        if (r >= 0)
                r = json_put(o, key, TAKE_PTR(owned));
        return r < 0 ? r : harness_write_json(h, o);
}

/* ---- waiting ---- */

static int end_with(Harness *h, HarnessOutcome outcome, const char *message) {
        Codex *c = h->state;

        return harness_end_turn(h, &(HarnessResult) {
                .outcome = outcome, .message = message, .started = c->started, .usage = c->usage,
                .n_denied = c->n_denied,
        });
}

static int on_waited(Harness *h) {
        Codex *c = h->state;

        switch (c->wait) {
        case CODEX_WAIT_ANSWER:
                return end_with(h, HARNESS_PROTOCOL, c->phase == CODEX_INITIALIZING ?
                                                     "Codex does not answer after its start." :
                                                     "Codex does not open its conversation.");
        case CODEX_WAIT_WRITER:
                c->phase = CODEX_CHECKING;
                return codex_advance(h);
        case CODEX_WAIT_NETWORK:
                harness_warn(h, "The model's endpoint was not reached for too long; the turn is ended.");
                c->unreachable = true;
                return codex_interrupt(h);
        case CODEX_WAIT_INTERRUPTED:
                return end_with(h, HARNESS_PROTOCOL, "Codex does not end a turn that was interrupted.");
        case CODEX_WAIT_DROPPED:
                return end_with(h, HARNESS_INTERRUPTED, "");
        }
        return 0;
}

static int on_timer(sd_event_source *s, uint64_t usec, void *userdata) {
        Harness *h = harness_hold(userdata);

        harness_release(h, h->turn == TURN_RUNNING && !h->dead ? on_waited(h) : 0);
        return 0;
}

int codex_wait(Harness *h, CodexWait wait, uint64_t usec) {
        Codex *c = h->state;

        c->wait = wait;
        if (usec == 0)
                return c->timer ? sd_event_source_set_enabled(c->timer, SD_EVENT_OFF) : 0;
        return event_arm_timer(h->event, &c->timer, usec, 0, on_timer, h);
}

/* ---- requests before a turn ---- */

static int send_before(Harness *h, CodexPhase phase, json_object *o) {
        Codex *c = h->state;

        c->phase = phase;
        return harness_write_json(h, o);
}

static int send_initialize(Harness *h) {
        _cleanup_json_ json_object *o = NULL;
        json_object *params, *client, *capabilities, *list;
        Codex *c = h->state;
        int r;

        r = request_new(c, "initialize", &o, &params, &c->pending);
        if (r < 0)
                return r;
        client = put_object(params, "clientInfo");
        capabilities = put_object(params, "capabilities");
        list = json_object_new_array();
        r = client && capabilities && list ? 0 : -ENOMEM;
        for (size_t i = 0; i < ELEMENTSOF(unwanted) && r >= 0; i++) {
                json_object *s = json_object_new_string(unwanted[i]);

                if (!s || json_object_array_add(list, s) < 0) {
                        (void) json_object_put(s);
                        r = -ENOMEM;
                }
        }
        if (r < 0) {
                (void) json_object_put(list);
                return r;
        }
        r = json_put(capabilities, "optOutNotificationMethods", list);
        if (r >= 0)
                r = json_put_bool(capabilities, "experimentalApi", false);
        if (r >= 0)
                r = json_put_bool(capabilities, "requestAttestation", false);
        if (r >= 0)
                r = json_put_string(client, "name", "puffo");
        if (r >= 0)
                r = json_put_string(client, "title", "puffo");
        if (r >= 0)
                r = json_put_string(client, "version", PROJECT_VERSION);
        return r < 0 ? r : send_before(h, CODEX_INITIALIZING, o);
}

static int send_initialized(Harness *h) {
        _cleanup_json_ json_object *o = json_object_new_object();
        int r = o ? json_put_string(o, "method", "initialized") : -ENOMEM;

        return r < 0 ? r : harness_write_json(h, o);
}

static int send_account_read(Harness *h) {
        _cleanup_json_ json_object *o = NULL;
        json_object *params;
        Codex *c = h->state;
        int r;

        r = request_new(c, "account/read", &o, &params, &c->pending);
        if (r >= 0)
                r = json_put_bool(params, "refreshToken", false);
        return r < 0 ? r : send_before(h, CODEX_CHECKING, o);
}

/* What else goes before a turn is part of the command line, where "exec" has it, too. */
static int send_thread(Harness *h) {
        _cleanup_json_ json_object *o = NULL;
        json_object *params;
        Codex *c = h->state;
        int r;

        r = request_new(c, c->thread_id ? "thread/resume" : "thread/start", &o, &params, &c->pending);
        if (r >= 0 && c->thread_id) {
                r = json_put_string(params, "threadId", c->thread_id);
                if (r >= 0)
                        r = json_put_bool(params, "excludeTurns", true);
        }
        if (r >= 0)
                r = json_put_string(params, "cwd", c->directory);
        if (r >= 0 && *c->model)
                r = json_put_string(params, "model", c->model);
        if (r >= 0)
                r = json_put_string(params, "approvalPolicy", c->policy);
        if (r >= 0)
                r = json_put_string(params, "sandbox", c->sandbox);
        if (r >= 0 && c->instructions)
                r = json_put_string(params, "developerInstructions", c->instructions);
        return r < 0 ? r : send_before(h, CODEX_OPENING, o);
}

int codex_advance(Harness *h) {
        Codex *c = h->state;
        int r;

        r = codex_wait(h, CODEX_WAIT_ANSWER, c->phase == CODEX_NEW ? INITIALIZE_USEC : ANSWER_USEC);
        if (r < 0)
                return r;
        switch (c->phase) {
        case CODEX_NEW:
                return send_initialize(h);
        case CODEX_INITIALIZING:
                r = send_initialized(h);
                return r < 0 ? r : send_account_read(h);
        case CODEX_CHECKING:
        case CODEX_BUSY:
        case CODEX_ELSEWHERE:
                return send_thread(h);
        case CODEX_OPENING:
        case CODEX_READY:
                c->phase = CODEX_READY;
                r = codex_wait(h, CODEX_WAIT_ANSWER, 0);
                /* Without one it was to be made ready. */
                return r < 0 ? r : c->text ? codex_begin_turn(h) : end_with(h, HARNESS_DONE, "");
        }
        return 0;
}

/* ---- turns ---- */

static int put_image(json_object *list, const char *path) {
        json_object *item = json_object_new_object();
        int r;

        if (!item || json_object_array_add(list, item) < 0) {
                (void) json_object_put(item);
                return -ENOMEM;
        }
        r = json_put_string(item, "type", "localImage");
        return r < 0 ? r : json_put_string(item, "path", path);
}

static int put_input(json_object *params, const char *text, char *const *images) {
        json_object *list = json_object_new_array(), *item, *elements;
        int r;

        r = list ? json_put(params, "input", list) : -ENOMEM;
        if (r < 0)
                return r;
        item = json_object_new_object();
        if (!item || json_object_array_add(list, item) < 0) {
                (void) json_object_put(item);
                return -ENOMEM;
        }
        r = json_put_string(item, "type", "text");
        if (r >= 0)
                r = json_put_string_len(item, "text", text, strlen(text));
        elements = r >= 0 ? json_object_new_array() : NULL;
        if (r >= 0)
                r = elements ? json_put(item, "text_elements", elements) : -ENOMEM;
        for (char *const *image = images; image && *image && r >= 0; image++)
                r = put_image(list, *image);
        return r;
}

/* The effort stays for later turns, the schema does not. */
static int put_options(Harness *h, json_object *params) {
        const char *effort = h->effort;
        json_object *schema = NULL;
        Codex *c = h->state;
        int r;

        if (!effort && c->effort_changed)
                effort = c->effort ?: "medium";
        r = effort ? json_put_string(params, "effort", effort) : 0;
        if (r < 0)
                return r;
        c->effort_changed = h->effort;
        if (!h->output_schema)
                return 0;
        r = json_parse_deep(h->output_schema, strlen(h->output_schema), 200, &schema);
        return r < 0 ? r : json_put(params, "outputSchema", schema);
}

/* A request that is about the thread of this conversation. */
static int thread_request_new(Codex *c, const char *method, json_object **ret, json_object **ret_params) {
        int r = request_new(c, method, ret, ret_params, NULL);

        return r < 0 ? r : json_put_string(*ret_params, "threadId", c->thread_id);
}

int codex_begin_turn(Harness *h) {
        _cleanup_json_ json_object *o = NULL;
        json_object *params;
        Codex *c = h->state;
        int r;

        r = thread_request_new(c, "turn/start", &o, &params);
        if (r >= 0)
                r = put_input(params, c->text, h->images);
        if (r >= 0)
                r = put_options(h, params);
        if (r >= 0)
                r = harness_write_json(h, o);
        if (r < 0)
                return r;
        c->sent = true;
        return harness_text_written(h);
}

static int send_interrupt(Harness *h) {
        _cleanup_json_ json_object *o = NULL;
        json_object *params;
        Codex *c = h->state;
        int r;

        r = thread_request_new(c, "turn/interrupt", &o, &params);
        if (r >= 0)
                r = json_put_string(params, "turnId", c->turn_id);
        if (r >= 0)
                r = harness_write_json(h, o);
        if (r < 0)
                return r;
        c->interrupt_sent = true;
        return 0;
}

/* Of an adopted turn the name may not have been heard. */
static int ask_for_turn(Harness *h) {
        _cleanup_json_ json_object *o = NULL;
        json_object *params;
        Codex *c = h->state;
        int r;

        r = thread_request_new(c, "thread/turns/list", &o, &params);
        if (r >= 0)
                r = json_put_int(params, "limit", 1);
        return r < 0 ? r : harness_write_json(h, o);
}

/* Before "turn/started" it would say that there is no turn to interrupt. */
int codex_interrupt(Harness *h) {
        Codex *c = h->state;
        bool wanted = c->interrupt_wanted;
        int r;

        c->interrupt_wanted = true;
        if (!c->sent) {
                c->text = mfree(c->text);
                return codex_wait(h, CODEX_WAIT_DROPPED, 1);
        }
        /* Whoever wants it, and however far the turn is: a text that came after it would become a part of it. */
        if (!wanted) {
                r = codex_wait(h, CODEX_WAIT_INTERRUPTED, MIN(ANSWER_USEC, c->unreachable_usec));
                if (r < 0)
                        return r;
        }
        if (c->interrupt_sent || !c->thread_id)
                return 0;
        if (!c->turn_id)
                return h->adopted ? ask_for_turn(h) : 0;
        return c->running ? send_interrupt(h) : 0;
}

/* ---- answers ---- */

static int on_initialized(Harness *h, json_object *result, json_object *error) {
        const char *message = strempty(json_get_string(error, "message"));
        _cleanup_free_ char *fault = NULL;
        int r;

        /* By an earlier process of ours. */
        if (error && !strstr(message, "Already initialized"))
                return end_with(h, HARNESS_PROTOCOL, message);
        r = codex_check_version(json_get_string(result, "userAgent"), &fault);
        if (r < 0)
                return r;
        return fault ? end_with(h, HARNESS_UNFIT, fault) : codex_advance(h);
}

/* An older one does not know the question, and will say so when it is asked to do something. */
static int on_account(Harness *h, json_object *result) {
        json_object *account = json_get(result, "account");

        if (result && !account && json_get_bool(result, "requiresOpenaiAuth", false))
                return end_with(h, HARNESS_AUTH, "Codex is not logged in; log in (codex login), or set a key: "
                                                 "puffoctl provider set openai --api-key.");
        return codex_advance(h);
}

static int on_thread(Harness *h, json_object *result, json_object *error) {
        const char *message = strempty(json_get_string(error, "message")),
                *id = json_get_string(json_get(result, "thread"), "id");
        Codex *c = h->state;
        int r;

        if (error && strstr(message, "already has an active writer") && c->n_busy++ < WRITER_TRIES_MAX) {
                c->phase = CODEX_BUSY;
                return codex_wait(h, CODEX_WAIT_WRITER, WRITER_USEC);
        }
        if (error && c->thread_id && (strstr(message, "no rollout found") || strstr(message, "invalid thread id"))) {
                r = end_with(h, HARNESS_LOST_SESSION, message);
                if (r >= 0 && !h->dead)
                        harness_close_input(h);
                return r;
        }
        if (error)
                return end_with(h, strstr(message, "active writer") ? HARNESS_TRANSIENT : HARNESS_ERROR, message);
        if (!codex_thread_id_is_valid(id))
                return end_with(h, HARNESS_PROTOCOL, "Codex has opened a conversation without a name.");
        r = free_and_strdup(&c->thread_id, id);
        if (r >= 0)
                r = free_and_strdup(&c->effort, json_get_string(result, "reasoningEffort"));
        c->effort_changed = false;
        return r < 0 ? r : codex_advance(h);
}

static int on_turn_started(Harness *h, json_object *result, json_object *error) {
        const char *message = strempty(json_get_string(error, "message")),
                *id = json_get_string(json_get(result, "turn"), "id");
        Codex *c = h->state;

        /* There is nothing that could be interrupted, and it is not tried again. */
        if (error && c->interrupt_wanted)
                return end_with(h, HARNESS_INTERRUPTED, "");
        if (error && strstr(message, "thread not found") && c->text && !c->reopened && c->thread_id) {
                c->reopened = true;
                c->sent = false;
                c->phase = CODEX_CHECKING;
                return codex_advance(h);
        }
        if (error)
                return end_with(h, HARNESS_ERROR, message);
        c->text = mfree(c->text);
        return !c->turn_id && id ? MIN(free_and_strdup(&c->turn_id, id), 0) : 0;
}

static int on_turns(Harness *h, json_object *result) {
        json_object *data = json_get(result, "data"), *first;
        Codex *c = h->state;
        int r;

        first = json_object_is_type(data, json_type_array) ? json_object_array_get_idx(data, 0) : NULL;
        if (c->turn_id || !streq_ptr(json_get_string(first, "status"), "inProgress") || !json_get_string(first, "id"))
                return 0;
        r = free_and_strdup(&c->turn_id, json_get_string(first, "id"));
        if (r < 0)
                return r;
        c->running = true;
        return c->interrupt_wanted && !c->interrupt_sent ? send_interrupt(h) : 0;
}

int codex_on_response(Harness *h, json_object *line) {
        const char *id = json_get_string(line, "id"), *method;
        json_object *result = json_get(line, "result"), *error = json_get(line, "error");
        Codex *c = h->state;
        bool ours;

        method = id ? startswith(id, IDS) : NULL;
        ours = method && startswith(method, c->prefix);
        method = method ? strchr(method, '-') : NULL;
        method = method ? strchr(method + 1, '-') : NULL;
        if (!method || h->turn != TURN_RUNNING)
                return 0;
        method++;

        /* What an earlier process asked for: this turn, which may have been refused. */
        if (!ours)
                return c->taken_over && streq(method, "turn/start") ? on_turn_started(h, result, error) : 0;
        if (streq(method, "turn/start"))
                return on_turn_started(h, result, error);
        if (streq(method, "thread/turns/list"))
                return on_turns(h, result);
        if (streq(method, "turn/interrupt")) {
                if (error)
                        c->interrupt_sent = false;
                return 0;
        }
        if (!streq_ptr(id, c->pending) || c->interrupt_wanted)
                return 0;
        harness_say_progress(h);
        c->pending = mfree(c->pending);
        if (streq(method, "initialize"))
                return on_initialized(h, result, error);
        if (streq(method, "account/read"))
                return on_account(h, result);
        return on_thread(h, result, error);
}
