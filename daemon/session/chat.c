/* SPDX-License-Identifier: MIT */

#include "chat.h"
#include "chat-prompt.h"
#include "chat-steps.h"
#include "crash-point.h"
#include "event-util.h"
#include "jitter.h"
#include "log.h"
#include "string-util.h"

/* Beyond the model room's own two quick retries (agent-runtime §4.4). */
#define RETRIES_MAX 3U
#define RETRY_MIN_USEC (15 * USEC_PER_SEC)
#define RETRY_MAX_USEC (45 * USEC_PER_SEC)
/* After a stream that broke off: the provider works, and somebody is looking on. */
#define CUT_MIN_USEC (1 * USEC_PER_SEC)
#define CUT_MAX_USEC (3 * USEC_PER_SEC)
/* Whoever is asked to wait longer than this is better told so. */
#define RETRY_AFTER_MAX_USEC (10 * 60 * USEC_PER_SEC)
#define TASK_TIMEOUT_DEFAULT_USEC (1800 * USEC_PER_SEC)
/* Calls of the model that may call tools in turn: runtime.max_turns when that is set, within reason. */
#define STEPS_DEFAULT 25U
#define STEPS_MAX 100U
/* What the steps may add to each further call. */
#define STEPS_BYTES_MAX MIB(8)
#define LAST_STEP_LINE \
        "[puffo-agent system message] this turn has used up its tool calls. Finish it now, without calling a tool."
/* Replies that are cut within a call in one turn. */
#define CUT_CALLS_MAX 2U
#define CUT_CALL_LINE \
        "[puffo-agent system message] your last reply was cut off at the limit of its length in the middle of a " \
        "tool call, so that nothing of it was done. Make the call again, shorter; several smaller calls will do as well."
#define BAD_ARGUMENTS "The arguments are not valid JSON. Nothing was done; call the tool again with a JSON object."
#define NO_BOX "The tools cannot be used at present: this agent's identity on the chat service is not available."

struct Chat {
        ChatSpec spec;
        const ModelBackend *backend;
        ModelClient *client;            /* owned */

        Turn *turn;                     /* borrowed from the queue; NULL: idle */
        TurnRow *row;
        ModelCall *call;                /* NULL between attempts */
        const ChatTools *tools;
        ChatSteps steps;
        StoredCall *tool;               /* the call of a tool that is under way, borrowed from steps; or NULL */
        char *tool_key;
        ToolCall *tool_call;
        bool offered;                   /* this call of the model may call tools */
        bool echo;                      /* this call says nothing of a key, and costs nothing */
        char *model;                    /* that this call is of */
        int stream_error;               /* why a delta could not be taken */
        bool call_cut;                  /* the last reply was cut within a call, and the model is to be told */
        unsigned n_retries, n_cuts, n_cut_calls;
        size_t max_bytes;
        uint64_t task_timeout_usec, progress_usec;
        sd_event_source *retry_timer, *silence_timer, *refused;
};

static int chat_attempt(Chat *c);

int chat_new(Chat **ret, const ChatSpec *spec) {
        _cleanup_(chat_freep) Chat *c = new0(Chat, 1);
        int r;

        if (!c)
                return -ENOMEM;
        c->spec = *spec;
        c->backend = spec->backend ?: &model_client_backend;
        c->tools = spec->tools ?: &chat_tools;
        r = c->backend->client_new(&c->client, spec->event, NULL);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(c);
        return 0;
}

static ToolBox* get_box(Chat *c) {
        return c->spec.get_box ? c->spec.get_box(c->spec.userdata) : NULL;
}

static void timer_stop(sd_event_source *s) {
        if (s)
                (void) sd_event_source_set_enabled(s, SD_EVENT_OFF);
}

static void call_stop(Chat *c) {
        if (c->call)
                c->call = c->backend->call_free(c->call);
}

static void tool_stop(Chat *c) {
        if (c->tool_call)
                c->tool_call = c->tools->call_free(c->tool_call);
        c->tool_key = mfree(c->tool_key);
        c->tool = NULL;
}

void chat_cancel(Chat *c) {
        call_stop(c);
        tool_stop(c);
        chat_steps_done(&c->steps);
        timer_stop(c->retry_timer);
        timer_stop(c->silence_timer);
        timer_stop(c->refused);
        c->row = turn_row_free(c->row);
        if (c->turn && c->spec.on_waiting)
                c->spec.on_waiting(NULL, c->spec.userdata);
        c->turn = NULL;
}

void chat_trim(Chat *c) {
        assert(!c->turn);

        c->backend->rest(c->client);
}

Chat* chat_free(Chat *c) {
        if (!c)
                return NULL;

        c->spec.on_waiting = NULL;
        chat_cancel(c);
        if (c->client)
                c->client = c->backend->client_free(c->client);
        (void) sd_event_source_disable_unref(c->retry_timer);
        (void) sd_event_source_disable_unref(c->silence_timer);
        (void) sd_event_source_disable_unref(c->refused);
        free(c->model);
        return mfree(c);
}

static void chat_end(Chat *c, TurnResult *result) {
        Turn *t = c->turn;

        chat_cancel(c);
        c->spec.on_end(t, result, c->spec.userdata);
}

static void chat_fail(Chat *c, const char *code, const char *kind, const char *message) {
        chat_end(c, &(TurnResult) {
                .status = TURN_FAILED, .error_code = code, .error_kind = kind, .error_message = message,
        });
}

static void log_turn_errno(const Chat *c, int level, int error, const char *text, const char *detail) {
        _cleanup_free_ char *field = strjoin("PUFFO_TURN=", c->turn->id);
        const char *const fields[] = { field, NULL };

        if (error != 0)
                (void) log_fields(level, error, field ? fields : NULL, "%s: %s%s%m", text, strempty(detail),
                                  isempty(detail) ? "" : ": ");
        else
                (void) log_fields(level, 0, field ? fields : NULL, "%s: %s", text, strempty(detail));
}

static void fail_errno(Chat *c, int error, const char *text) {
        log_turn_errno(c, LOG_ERR, error, text, NULL);
        if (error == -ENOBUFS) {
                chat_end(c, &(TurnResult) { .status = TURN_INCOMPLETE, .reason = "length" });
                return;
        }
        if (error != -EUCLEAN) {
                chat_fail(c, "server_error", "internal", "The turn could not be carried out (internal).");
                return;
        }
        chat_fail(c, "server_error", "storage", "The conversation could not be read from the database (storage).");
        if (c->spec.on_broken)
                c->spec.on_broken(error, c->spec.userdata);
}

/* ---- what a failed call means ---- */

/* What a client is told: the kind of trouble, never the provider's words. */
static const struct { const char *code, *message; } errors[_MODEL_ERROR_MAX] = {
        [MODEL_ERROR_NONE] = { "server_error", "The model gave no answer (none)." },
        [MODEL_ERROR_AUTH] = { "server_error", "The model provider refused the key (auth)." },
        [MODEL_ERROR_BILLING] = { "rate_limit_exceeded", "The quota at the model provider is used up (billing)." },
        [MODEL_ERROR_RATE_LIMIT] = { "rate_limit_exceeded",
                                     "The model provider limits the rate of requests (rate-limit)." },
        [MODEL_ERROR_OVERLOADED] = { "server_error", "The model provider is overloaded or down (overloaded)." },
        [MODEL_ERROR_CONNECT] = { "server_error", "The model provider could not be reached (connect)." },
        [MODEL_ERROR_TLS] = { "server_error", "There is no trustworthy TLS connection to the model provider (tls)." },
        [MODEL_ERROR_TIMEOUT] = { "server_error", "The model provider did not answer in time (timeout)." },
        [MODEL_ERROR_CUT] = { "server_error", "The model provider's answer broke off (cut)." },
        [MODEL_ERROR_NOT_FOUND] = { "server_error", "The model provider does not know the model (not-found)." },
        [MODEL_ERROR_CONTEXT_LENGTH] = { "invalid_prompt", "The input is too long for the model (context-length)." },
        [MODEL_ERROR_INVALID_REQUEST] = { "server_error", "The model provider refused the call (invalid-request)." },
        [MODEL_ERROR_PROTOCOL] = { "server_error", "The model provider's answer made no sense (protocol)." },
        [MODEL_ERROR_CANCELLED] = { "server_error", "The call of the model was cancelled (cancelled)." },
        [MODEL_ERROR_MEMORY] = { "server_error", "Out of memory (memory)." },
};

static int on_retry(sd_event_source *s, uint64_t usec, void *userdata) {
        Chat *c = userdata;
        int r;

        if (c->spec.on_waiting)
                c->spec.on_waiting(NULL, c->spec.userdata);
        r = chat_attempt(c);
        if (r < 0)
                fail_errno(c, r, "Failed to call the model");
        return 0;
}

static void retry_later(Chat *c, const char *kind, uint64_t retry_after_usec, bool cut) {
        uint64_t delay = retry_after_usec != USEC_INFINITY ? retry_after_usec + random_between(0, USEC_PER_SEC) :
                         c->spec.retry_max_usec > 0 ? random_between(c->spec.retry_min_usec, c->spec.retry_max_usec) :
                         cut ? random_between(CUT_MIN_USEC, CUT_MAX_USEC) :
                         random_between(RETRY_MIN_USEC, RETRY_MAX_USEC);
        _cleanup_free_ char *text = NULL;
        int r;

        text = asprintf_new("waiting for the model provider (%s), next try in %" PRIu64 " s", kind,
                            delay / USEC_PER_SEC);
        if (text && c->spec.on_waiting)
                c->spec.on_waiting(text, c->spec.userdata);
        r = event_arm_timer(c->spec.event, &c->retry_timer, delay, 0, on_retry, c);
        if (r < 0)
                fail_errno(c, r, "Failed to arm a timer");
}

/* Is it worth another attempt, and how? true: one is under way. */
static bool retried(Chat *c, const ModelResult *result, const char *kind) {
        bool begun = c->turn->open_item;
        int r;

        if (result->error == MODEL_ERROR_CONTEXT_LENGTH && !begun && c->max_bytes > CHAT_PROMPT_BYTES_MAX / 16) {
                c->max_bytes /= 2;
                r = chat_attempt(c);
                if (r < 0)
                        fail_errno(c, r, "Failed to repeat the call of the model with less history");
                return true;
        }
        if (!model_error_is_transient(result->error))
                return false;
        if (result->retry_after_usec != USEC_INFINITY && result->retry_after_usec > RETRY_AFTER_MAX_USEC)
                return false;

        if (begun) {
                /* The reader has seen a part: it is closed, and the answer begins anew, once (responses-api §6.4). */
                if (c->n_cuts++ > 0)
                        return false;
                r = turn_message_end(c->turn, false);
                if (r < 0) {
                        fail_errno(c, r, "Failed to close a message that broke off");
                        return true;
                }
        } else if (c->n_retries++ >= RETRIES_MAX)
                return false;

        retry_later(c, kind, result->retry_after_usec, begun);
        return true;
}

static void call_failed(Chat *c, const ModelResult *result) {
        const char *kind = strempty(model_error_kind_to_string(result->error));
        ModelErrorKind e = result->error >= 0 && result->error < _MODEL_ERROR_MAX ? result->error : MODEL_ERROR_NONE;
        _cleanup_free_ char *message = str_printable(strempty(result->message), 500), *detail = NULL;

        detail = asprintf_new("%s, HTTP status %ld, request %s: %s", kind, result->http_status,
                              result->request_id ?: "unknown", strempty(message));
        log_turn_errno(c, LOG_WARNING, 0, "The call of the model failed", detail);

        if (result->error == MODEL_ERROR_AUTH && c->spec.on_health)
                c->spec.on_health(CHAT_HEALTH_AUTH_FAILED, c->spec.userdata);
        if (!retried(c, result, kind))
                chat_fail(c, errors[e].code, kind, errors[e].message);
}

/* ---- tools ---- */

static bool is_offered(const Chat *c, const ToolBox *box, const char *name) {
        const Tool *list;
        size_t n;

        list = c->tools->list(box, &n);
        for (size_t i = 0; i < n; i++)
                if (streq(list[i].name, name))
                        return true;
        return false;
}

/* The part of the key that is the turn's own. */
static const char* tool_id(const Chat *c) {
        return c->tool_key + strlen(c->turn->id) + 1;
}

static int tool_end(Chat *c, const char *text, bool is_error) {
        _cleanup_free_ char *key = TAKE_PTR(c->tool_key), *detail = NULL;
        StoredCall *call = TAKE_PTR(c->tool);
        const char *id = key + strlen(c->turn->id) + 1;
        int r;

        c->progress_usec = now_boottime_usec();
        detail = asprintf_new("%s (%s)%s", call->name, id, is_error ? ", with an error" : "");
        log_turn_errno(c, LOG_INFO, 0, "A tool has ended", detail);
        crash_point("tool-ended");
        r = chat_steps_finish(&c->steps, call, text, is_error);
        crash_point("tool-result-stored");
        /* It is done and must not be done again: should it come to that, its key says so. */
        if (r < 0 && r != -EUCLEAN && r != -ENOMEM) {
                log_turn_errno(c, LOG_WARNING, r, "The result of a tool could not be stored", NULL);
                r = 0;
        }
        return r < 0 ? r : turn_emit_tool_ended(c->turn, id, call->name, !is_error);
}

static void on_tool_done(ToolCall *call, const ToolResult *result, void *userdata) {
        Chat *c = userdata;
        int r;

        r = tool_end(c, strempty(result->text), result->is_error);
        c->tool_call = c->tools->call_free(c->tool_call);
        if (r >= 0)
                r = chat_attempt(c);
        if (r < 0)
                fail_errno(c, r, "Failed to go on behind a tool");
}

/* > 0: it has a result already. */
static int tool_begin(Chat *c, ToolBox *box) {
        _cleanup_json_ json_object *arguments = NULL;
        _cleanup_free_ char *text = NULL;
        const char *a = c->tool->arguments;
        int r;

        c->progress_usec = now_boottime_usec();
        r = turn_emit_tool_started(c->turn, tool_id(c), c->tool->name);
        if (r < 0)
                return r;
        if (!box)
                r = tool_end(c, NO_BOX, true);
        else if (!is_offered(c, box, c->tool->name)) {
                text = asprintf_new("There is no tool '%s'.", c->tool->name);
                r = text ? tool_end(c, text, true) : -ENOMEM;
        } else {
                r = a[strspn(a, " \t\r\n")] ? json_parse(a, strlen(a), &arguments) : 0;
                if (r >= 0) {
                        crash_point("tool-begin");
                        r = c->tools->call_start(box, c->tool->name, arguments, c->tool_key, on_tool_done, c,
                                                 &c->tool_call);
                        crash_point("tool-begun");
                        return MIN(r, 0);
                }
                r = r == -ENOMEM ? r : tool_end(c, BAD_ARGUMENTS, true);
        }
        return r < 0 ? r : 1;
}

/* Calls what has not been called yet, one after the other. > 0: one is under way. */
static int tools_run(Chat *c, ToolBox *box) {
        int r = 1;

        while (r > 0) {
                c->tool = chat_steps_next(&c->steps, &c->tool_key);
                if (!c->tool)
                        return 0;
                r = c->tool_key ? tool_begin(c, box) : -ENOMEM;
        }
        return r < 0 ? r : 1;
}

void chat_drop_tools(Chat *c) {
        int r;

        if (!c->tool_call)
                return;
        tool_stop(c);
        r = event_arm_timer(c->spec.event, &c->retry_timer, 0, 1, on_retry, c);
        if (r < 0)
                fail_errno(c, r, "Failed to arm a timer");
}

/* The model wants tools: the step is stored before the first of them does anything. */
static void tools_called(Chat *c, const ModelResult *result) {
        int r;

        r = chat_steps_add(&c->steps, result);
        if (r < 0 && r != -EUCLEAN && r != -ENOMEM) {
                log_turn_errno(c, LOG_ERR, r, "A step of the turn could not be stored", NULL);
                chat_fail(c, "server_error", "storage", "The turn's progress could not be stored (storage).");
                return;
        }
        c->n_retries = c->n_cuts = 0;
        if (r >= 0)
                r = chat_attempt(c);
        if (r < 0)
                fail_errno(c, r, "Failed to call a tool");
}

/* ---- one call ---- */

static void usage_add(TurnUsage *sum, const ModelUsage *u) {
        sum->input_tokens += u->input_tokens;
        sum->cached_tokens += u->cached_tokens;
        sum->cache_write_tokens += u->cache_write_tokens;
        sum->output_tokens += u->output_tokens;
        sum->reasoning_tokens += u->reasoning_tokens;
}

/* Failed calls, too: an answer that broke off was paid for. */
static void usage_count(Chat *c, const ModelUsage *u) {
        uint64_t cost = 0;
        int r;

        usage_add(&c->turn->usage, u);
        if (!c->spec.budget || c->echo || (u->input_tokens == 0 && u->output_tokens == 0))
                return;
        r = budget_add(c->spec.budget, c->model, u, 0, &cost);
        if (r < 0) {
                log_turn_errno(c, LOG_WARNING, r, "What a call of the model has used could not be stored", NULL);
                budget_owe(c->spec.budget, c->model, u, 0);
        }
        c->turn->usage.cost_micro += cost;
}

/* > 0: there is no budget left, and the turn has been answered with that. */
static int refuse_by_budget(Chat *c, const SessionConfig *config) {
        _cleanup_free_ char *why = NULL, *message = NULL;
        int r;

        if (model_provider_from_string(config->provider) == MODEL_ECHO)
                return 0;
        r = budget_refuses(c->spec.budget, &why, &message);
        if (r <= 0)
                return r;
        log_turn_errno(c, LOG_NOTICE, 0, "The turn is not carried out", why);
        chat_fail(c, "rate_limit_exceeded", "budget", message);
        return 1;
}

static void end_incomplete(Chat *c, const char *reason) {
        chat_end(c, &(TurnResult) { .status = TURN_INCOMPLETE, .reason = reason });
}

/* What was said so far begins anew with the next reply. */
static void call_was_cut(Chat *c) {
        int r;

        if (c->n_cut_calls++ >= CUT_CALLS_MAX) {
                chat_fail(c, "server_error", "length",
                          "The model's tool calls do not fit into the limit of its output (length).");
                return;
        }
        log_turn_errno(c, LOG_NOTICE, 0, "A reply of the model was cut within a tool call", "it is asked again");
        r = turn_message_end(c->turn, false);
        if (r >= 0)
                r = chat_attempt(c);
        if (r < 0)
                fail_errno(c, r, "Failed to ask again for a tool call that was cut");
}

static void call_succeeded(Chat *c, const ModelResult *result) {
        int r;

        if (!c->echo && c->spec.on_health)
                c->spec.on_health(CHAT_HEALTH_OK, c->spec.userdata);
        if (result->tools_refused && c->steps.n == 0)
                log_turn_errno(c, LOG_NOTICE, 0, "The model has no tools", "it was asked without them");
        if (result->images_refused)
                log_turn_errno(c, LOG_NOTICE, 0, "The model does not take the images", "it was told of them instead");
        c->call_cut = result->call_cut && c->offered;
        if (result->stop == MODEL_STOP_TOOLS && c->offered) {
                tools_called(c, result);
                return;
        }
        if (c->call_cut) {
                call_was_cut(c);
                return;
        }
        /* Google gives up over a call that the model has got wrong. */
        if (result->stop == MODEL_STOP_OTHER && c->offered && !c->turn->open_item && c->n_cuts++ == 0) {
                retry_later(c, "no-answer", USEC_INFINITY, /* cut= */ true);
                return;
        }
        if (result->stop == MODEL_STOP_REFUSAL && !c->turn->open_item) {
                chat_fail(c, "invalid_prompt", "refusal", "The model refused to answer (refusal).");
                return;
        }
        if (!c->turn->open_item && (c->steps.n == 0 || c->turn->n_items == 0)) {
                r = turn_message_begin(c->turn);
                if (r < 0) {
                        fail_errno(c, r, "Failed to begin a message");
                        return;
                }
        }
        if (result->stop == MODEL_STOP_LENGTH)
                end_incomplete(c, "length");
        else
                chat_end(c, &(TurnResult) { .status = TURN_COMPLETED });
}

static void on_delta(ModelCall *call, const char *text, size_t size, void *userdata) {
        Chat *c = userdata;
        int r = 0;

        if (c->stream_error < 0)
                return;
        c->progress_usec = now_boottime_usec();
        if (!c->turn->open_item)
                r = turn_message_begin(c->turn);
        if (r >= 0)
                r = turn_message_delta(c->turn, text, size);
        if (r < 0) {
                /* The call may not be freed from in here. */
                c->stream_error = r;
                (void) sd_event_source_set_enabled(c->refused, SD_EVENT_ONESHOT);
        }
}

static int on_refused(sd_event_source *s, void *userdata) {
        Chat *c = userdata;

        call_stop(c);
        if (c->stream_error == -ENOBUFS)
                end_incomplete(c, "length");
        else
                fail_errno(c, c->stream_error, "Failed to write the event stream");
        return 0;
}

static void on_done(ModelCall *call, const ModelResult *result, void *userdata) {
        Chat *c = userdata;

        usage_count(c, &result->usage);
        crash_point("model-answered");
        /* result belongs to the call: it is freed behind the last use of it. */
        ModelCall *ended = TAKE_PTR(c->call);

        if (c->stream_error < 0) {
                timer_stop(c->refused);
                (void) on_refused(NULL, c);
        } else if (result->error == MODEL_ERROR_NONE)
                call_succeeded(c, result);
        else
                call_failed(c, result);
        (void) c->backend->call_free(ended);
}

static int on_silence(sd_event_source *s, uint64_t usec, void *userdata) {
        Chat *c = userdata;
        uint64_t silent = now_boottime_usec() - c->progress_usec;

        /* Deltas only note their time; the timer is moved here, when it turns out to be early. */
        if (silent < c->task_timeout_usec) {
                int r = event_arm_timer(c->spec.event, &c->silence_timer, c->task_timeout_usec - silent, 0,
                                        on_silence, c);
                if (r < 0)
                        fail_errno(c, r, "Failed to arm a timer");
                return 0;
        }
        log_turn_errno(c, LOG_WARNING, 0, "The turn is ended", "no progress for the task timeout");
        end_incomplete(c, "deadline");
        return 0;
}

/* What the system prompt speaks of: the list ends with NULL. */
static const char** prompt_names(Chat *c) {
        size_t n = 0;
        const Tool *list = c->offered || c->steps.n > 0 ? c->tools->list(get_box(c), &n) : NULL;
        const char **names = new0(const char*, n + 1);

        for (size_t i = 0; i < n && names; i++)
                names[i] = list[i].name;
        return names;
}

static int call_start(Chat *c, const SessionConfig *config, const ChatPrompt *prompt) {
        ModelProvider provider = model_provider_from_string(config->provider);
        _cleanup_free_ ModelTool *tools = NULL;
        size_t n_tools = 0;

        if (provider < 0)
                return -EINVAL;
        if (c->offered || c->steps.n > 0) {
                const Tool *list = c->tools->list(get_box(c), &n_tools);

                tools = new0(ModelTool, n_tools);
                if (!tools)
                        return -ENOMEM;
                for (size_t i = 0; i < n_tools; i++)
                        tools[i] = (ModelTool) { list[i].name, list[i].description, list[i].schema };
        }
        c->echo = provider == MODEL_ECHO;
        free(c->model);
        c->model = strdup(isempty(config->model) ? model_provider_default_model(provider) : config->model);
        if (!c->model)
                return -ENOMEM;
        return c->backend->call_start(c->client, &(ModelCallSpec) {
                .provider = provider,
                .base_url = config->base_url,
                .api_key = config->api_key,
                .model = config->model,
                .system = prompt->system,
                .messages = prompt->messages,
                .n_messages = prompt->n_messages,
                .tools = tools,
                .n_tools = n_tools,
                .no_calls = n_tools > 0 && !c->offered,
                .max_tokens = config->agent->max_tokens,
                /* A shorter limit of the whole turn is kept by our own timer. */
                .idle_timeout_usec = 0,
                .on_delta = on_delta,
                .on_done = on_done,
                .userdata = c,
        }, &c->call);
}

/* The beginning of this attempt of the turn. */
static int turn_begin(Chat *c, const SessionConfig *config) {
        int r;

        c->task_timeout_usec = config->task_timeout_usec > 0 ? config->task_timeout_usec : TASK_TIMEOUT_DEFAULT_USEC;
        c->progress_usec = now_boottime_usec();
        r = event_arm_timer(c->spec.event, &c->silence_timer, c->task_timeout_usec, 0, on_silence, c);
        return r < 0 ? r : chat_steps_begin(&c->steps, c->spec.db, c->tools, c->turn);
}

/* Whether the model has to come to an end now. */
static bool steps_used_up(const Chat *c, const SessionConfig *config) {
        uint64_t max = config->agent->max_turns ?: STEPS_DEFAULT;

        return c->steps.n >= MIN(max, (uint64_t) STEPS_MAX) || c->steps.bytes > STEPS_BYTES_MAX;
}

/* Reads configuration, prompt and history anew, calls what tools are to be called, then the model. > 0: the turn has
 * been answered with a fault. */
static int chat_attempt(Chat *c) {
        _cleanup_(session_config_freep) SessionConfig *config = NULL;
        _cleanup_(chat_prompt_done) ChatPrompt prompt = {};
        _cleanup_free_ const char **names = NULL;
        ToolBox *box;
        bool last;
        int r;

        r = c->spec.get_config(&config, c->spec.userdata);
        if (r < 0)
                return r;
        if (config->fault) {
                log_turn_errno(c, LOG_WARNING, 0, "The turn cannot be carried out", config->fault);
                chat_fail(c, "server_error", "not-ready", config->fault);
                return 1;
        }
        box = get_box(c);
        if (c->task_timeout_usec == 0) {
                r = turn_begin(c, config);
                if (r < 0)
                        return r;
        }
        r = tools_run(c, box);
        if (r != 0)
                return MIN(r, 0);
        r = refuse_by_budget(c, config);
        if (r != 0)
                return r;

        last = steps_used_up(c, config);
        c->offered = box && !last;
        names = prompt_names(c);
        if (!names)
                return -ENOMEM;
        r = chat_prompt_build(&prompt, c->spec.db, config, c->row, names,
                              model_provider_image_limits(model_provider_from_string(config->provider)),
                              c->max_bytes > c->steps.bytes ? c->max_bytes - c->steps.bytes : 1);
        if (r >= 0)
                r = chat_steps_put(&c->steps, &prompt, last ? LAST_STEP_LINE : c->call_cut ? CUT_CALL_LINE : NULL);
        if (r < 0)
                return r;
        free(c->turn->context);
        c->turn->context = TAKE_PTR(prompt.context);

        c->stream_error = 0;
        crash_point("model-call");
        return call_start(c, config, &prompt);
}

int chat_start(Chat *c, Turn *t, TurnRow *row_taken) {
        _cleanup_(turn_row_freep) TurnRow *row = row_taken;
        int r;

        assert(!c->turn);

        if (!c->refused) {
                r = sd_event_add_defer(c->spec.event, &c->refused, on_refused, c);
                if (r >= 0)
                        r = sd_event_source_set_enabled(c->refused, SD_EVENT_OFF);
                if (r < 0)
                        return r;
        }
        c->turn = t;
        c->row = TAKE_PTR(row);
        c->n_retries = c->n_cuts = c->n_cut_calls = 0;
        c->call_cut = false;
        c->max_bytes = CHAT_PROMPT_BYTES_MAX;
        c->task_timeout_usec = 0;
        /* From the loop, so that the queue has its own house in order before an answer can come. */
        r = event_arm_timer(c->spec.event, &c->retry_timer, 0, 1, on_retry, c);
        if (r < 0) {
                c->row = turn_row_free(c->row);
                c->turn = NULL;
        }
        return r;
}
