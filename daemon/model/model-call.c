/* SPDX-License-Identifier: MIT */

/* The life of a call: shaping what is asked, attempts, the stream, and what became of it. */

#include <sys/random.h>

#include "event-util.h"
#include "model-driver.h"

#define MAX_TOKENS_DEFAULT 2048U
#define RETRIES_MAX 2U
#define RETRY_DELAY_MAX_USEC (60 * USEC_PER_SEC)
#define ECHO_DELAY_MAX_MSEC 10000U
/* How long a connection may stay open behind the terminal event before it is closed from our side: long enough for the
 * end of the body to arrive, so that the connection can be used again. */
#define LINGER_USEC (1 * USEC_PER_SEC)
#define REPLY_MAX MIB(16)
#define EVENT_MAX MIB(4)
#define HEAD_MAX KIB(4)
/* More than any provider takes. */
#define IMAGE_SIZE_MAX MIB(64)

static int call_on_timer(sd_event_source *s, uint64_t usec, void *userdata);

int model_call_say_text(ModelCall *c, const char *text, size_t size) {
        size_t offset = c->text.size;
        int r;

        if (size == 0)
                return 0;
        if (size > REPLY_MAX - offset)
                return -EFBIG;
        r = strbuf_append(&c->text, text, size);
        if (r < 0)
                return r;
        if (c->on_delta)
                c->on_delta(c, c->text.text + offset, size, c->userdata);
        return 0;
}

int model_call_say(ModelCall *c, json_object *string) {
        const char *p, *end;

        if (!json_object_is_type(string, json_type_string))
                return 0;

        /* The text is a C string further on: NULs, which mean nothing in a text, are left out. */
        p = json_object_get_string(string);
        end = p + json_object_get_string_len(string);
        while (p < end) {
                const char *nul = memchr(p, 0, (size_t) (end - p)) ?: end;
                int r = model_call_say_text(c, p, (size_t) (nul - p));

                if (r < 0)
                        return r;
                p = nul + 1;
        }
        return 0;
}

int model_call_stop(ModelCall *c, ModelStop stop, const char *reason) {
        c->result.stop = stop;
        c->message = mfree(c->message);
        if (stop != MODEL_STOP_REFUSAL && stop != MODEL_STOP_OTHER)
                return 0;
        c->message = model_call_clean_text(c, reason);
        return c->message ? 0 : -ENOMEM;
}

static void call_fail_errno(ModelCall *c, int r) {
        switch (r) {
        case -ENOMEM:
                model_call_fail(c, MODEL_ERROR_MEMORY, "out of memory");
                break;
        case -E2BIG:
                model_call_fail(c, MODEL_ERROR_PROTOCOL, "the reply calls too many tools, or one with too much");
                break;
        case -EFBIG:
                model_call_fail(c, MODEL_ERROR_PROTOCOL, "the reply is larger than 16 MiB");
                break;
        case -EMSGSIZE:
                model_call_fail(c, MODEL_ERROR_PROTOCOL, "an event of the stream is larger than 4 MiB");
                break;
        default:
                model_call_fail(c, MODEL_ERROR_PROTOCOL, strerror(-r));
        }
}

/* Nothing of c may be used after this. */
static void call_done(ModelCall *c) {
        int r;

        c->state = CALL_DONE;
        if (c->result.error == MODEL_ERROR_NONE) {
                r = model_call_finish_tools(c);
                if (r < 0)
                        call_fail_errno(c, r);
        }
        if (c->timer)
                (void) sd_event_source_set_enabled(c->timer, SD_EVENT_OFF);
        if (c->result.error == MODEL_ERROR_NONE)
                c->result.retry_after_usec = USEC_INFINITY;
        c->result.message = c->message;
        c->result.request_id = c->request_id;
        c->result.text = strempty(c->text.text);
        c->on_done(c, &c->result, c->userdata);
}

static int call_on_event(const char *event, const char *data, size_t size, const char *id, void *userdata) {
        _cleanup_json_ json_object *o = NULL;
        ModelCall *c = userdata;
        int r;

        if (c->state == CALL_ENDED || size == 0)
                return 0;

        c->n_events++;
        strbuf_done(&c->head);
        if (c->driver->end_marker && streq(data, c->driver->end_marker)) {
                c->complete = true;
                c->state = CALL_ENDED;
                return 0;
        }

        r = json_parse(data, size, &o);
        if (r == -ENOMEM)
                return r;
        if (r < 0 || !json_object_is_type(o, json_type_object)) {
                model_call_fail(c, MODEL_ERROR_PROTOCOL, "an event of the stream is not a JSON object");
                return -EBADMSG;
        }
        if (json_get(o, "error")) {
                model_call_fail_object(c, 0, o);
                return -ECANCELED;
        }
        return c->driver->event(c, o);
}

static void call_take_request_id(ModelCall *c, HttpRequest *q) {
        const char *name = c->driver->request_id_header, *id = name ? http_request_header(q, name) : NULL;

        if (!id || c->request_id)
                return;
        /* For logs only, so that doing without it is better than failing. */
        c->request_id = model_call_clean_text(c, id);
}

static int call_on_data(HttpRequest *q, const char *data, size_t size, void *userdata) {
        ModelCall *c = userdata;
        int r = 0;

        if (c->state == CALL_ENDED)
                return 0;

        c->answered = true;
        if (c->n_events == 0 && c->head.size < HEAD_MAX)
                r = strbuf_append(&c->head, data, MIN(size, HEAD_MAX - c->head.size));
        if (r >= 0)
                r = sse_parser_feed(c->sse, data, size);
        if (r < 0) {
                call_fail_errno(c, r);
                return r;
        }
        /* If this fails the request's own idle limit ends the wait. */
        if (c->state == CALL_ENDED)
                (void) event_arm_timer(c->event, &c->timer, LINGER_USEC, 0, call_on_timer, c);
        return 0;
}

static void call_fail_reply(ModelCall *c, HttpRequest *q, const HttpReply *reply) {
        static const struct {
                ModelErrorKind kind;
                const char *text;
        } t[] = {
                [HTTP_FAILED_CONNECT] = { MODEL_ERROR_CONNECT, "cannot connect" },
                [HTTP_FAILED_TLS] = { MODEL_ERROR_TLS, "no trustworthy TLS connection" },
                [HTTP_FAILED_TIMEOUT] = { MODEL_ERROR_TIMEOUT, "silent for too long" },
                [HTTP_FAILED_CUT] = { MODEL_ERROR_CUT, "connection lost" },
                [HTTP_FAILED_TOO_LARGE] = { MODEL_ERROR_PROTOCOL, "the answer is too large" },
                [HTTP_FAILED_PROTOCOL] = { MODEL_ERROR_PROTOCOL, "not an HTTP answer" },
                [HTTP_FAILED_MEMORY] = { MODEL_ERROR_MEMORY, "out of memory" },
        };
        const char *type = http_request_header(q, "content-type");
        bool good = reply->status >= 200 && reply->status < 300;
        _cleanup_free_ char *text = NULL;

        if (reply->status > 0 && !good) {
                model_call_fail_body(c, reply->status, strempty(reply->body), reply->body_size);
                if (c->result.retry_after_usec == USEC_INFINITY)
                        c->result.retry_after_usec = http_request_retry_after(q);
        } else if (reply->failure != HTTP_OK) {
                const char *what = t[reply->failure].text;

                text = isempty(reply->error) ? strdup(what) : strjoin(what, ": ", reply->error);
                model_call_fail(c, t[reply->failure].kind, text);
        } else if (c->n_events > 0 || (type && strncasecmp(type, "text/event-stream", 17) == 0))
                model_call_fail(c, MODEL_ERROR_CUT, "the stream ended before the reply did");
        else if (c->head.size > 0)
                model_call_fail_body(c, reply->status, c->head.text, c->head.size);
        else
                model_call_fail(c, MODEL_ERROR_CUT, "the answer is empty");
}

/* The vendors' own rule: doubling from half a second, up to a quarter off so that clients spread. */
static uint64_t backoff_usec(unsigned n) {
        uint64_t usec = MIN((USEC_PER_SEC / 2) << n, 8 * USEC_PER_SEC);
        uint16_t random = 0;

        /* Without randomness (early boot) the clients of one machine are spread by chance all the same. */
        if (getrandom(&random, sizeof(random), GRND_NONBLOCK) != sizeof(random))
                random = 0;
        return usec - usec / 4 * random / UINT16_MAX;
}

/* Another attempt follows. */
static void call_forget_failure(ModelCall *c) {
        c->state = CALL_WAITING;
        c->result.error = MODEL_ERROR_NONE;
        c->result.http_status = 0;
        c->result.retry_after_usec = USEC_INFINITY;
        c->message = mfree(c->message);
        c->request_id = mfree(c->request_id);
}

/* Models without tools, and servers that have none for this one, are asked once more in words only. */
static bool call_retry_without_tools(ModelCall *c) {
        if (c->answered || !c->offered ||
            !model_error_is_tools_refused(c->result.http_status, c->result.error, c->message))
                return false;
        if (event_arm_timer(c->event, &c->timer, 0, 1, call_on_timer, c) < 0)
                return false;

        json_object_object_del(c->body, "tools");
        json_object_object_del(c->body, "tool_choice");
        json_object_object_del(c->body, "toolConfig");
        c->offered = false;
        c->result.tools_refused = true;
        call_forget_failure(c);
        return true;
}

/* The same for images. It is the model then that has to say that it has not seen them: a conversation that has some in
 * it goes on with a model that knows none. */
static bool call_retry_without_images(ModelCall *c, long status) {
        if (c->answered || c->images.n == 0 ||
            !model_error_is_images_refused(status, c->result.error, c->message))
                return false;
        if (c->driver->drop_images(c->body) < 0 ||
            event_arm_timer(c->event, &c->timer, 0, 1, call_on_timer, c) < 0)
                return false;

        model_images_done(&c->images);
        c->result.images_refused = true;
        call_forget_failure(c);
        return true;
}

/* Some have begun to answer by the time they find out: what they say instead of a reply is then in the stream. */
static bool call_retry_stream_without_images(ModelCall *c) {
        SseParser *sse = NULL;

        if (c->complete || c->n_events != 1 || c->text.size > 0 || c->images.n == 0 ||
            sse_parser_new(&sse, EVENT_MAX, call_on_event, c) < 0)
                return false;
        c->answered = false;
        if (!call_retry_without_images(c, 500)) {
                sse_parser_free(sse);
                c->answered = true;
                return false;
        }
        sse_parser_free(c->sse);
        c->sse = sse;
        c->n_events = 0;
        return true;
}

/* Whether the failure just recorded is followed by another attempt; forgets it then. */
static bool call_retry(ModelCall *c, HttpRequest *q) {
        const char *wanted = http_request_header(q, "x-should-retry");
        bool again = model_error_is_transient(c->result.error);
        uint64_t delay = c->result.retry_after_usec;

        if (c->answered || c->n_retries >= RETRIES_MAX || c->result.error == MODEL_ERROR_BILLING)
                return false;
        if (streq_ptr(wanted, "true"))
                again = true;
        else if (streq_ptr(wanted, "false"))
                again = false;
        if (!again)
                return false;
        if (delay == USEC_INFINITY)
                delay = backoff_usec(c->n_retries);
        else if (delay > RETRY_DELAY_MAX_USEC)
                return false;
        if (event_arm_timer(c->event, &c->timer, delay, 0, call_on_timer, c) < 0)
                return false;

        c->n_retries++;
        call_forget_failure(c);
        return true;
}

static void call_on_reply(HttpRequest *q, const HttpReply *reply, void *userdata) {
        ModelCall *c = userdata;

        c->result.http_status = reply->status;
        call_take_request_id(c, q);
        if (c->result.error == MODEL_ERROR_NONE && !c->complete) {
                call_fail_reply(c, q, reply);
                if (call_retry_without_tools(c) || call_retry_without_images(c, c->result.http_status) ||
                    call_retry(c, q))
                        return;
        } else if (call_retry_stream_without_images(c))
                return;
        call_done(c);
}

static ssize_t call_on_body(HttpRequest *q, char *buffer, size_t size, void *userdata) {
        ModelCall *c = userdata;

        return model_images_read(&c->images, buffer, size);
}

static void call_on_rewind(HttpRequest *q, void *userdata) {
        ModelCall *c = userdata;

        model_images_rewind(&c->images);
}

static void call_attempt(ModelCall *c) {
        HttpRequestSpec spec = {
                .method = "POST",
                .url = c->url,
                .headers = (const char *const*) c->headers,
                .idle_timeout_usec = c->idle_timeout_usec,
                .max_body = MIB(1),
                .on_data = call_on_data,
                .on_done = call_on_reply,
                .userdata = c,
        };
        const char *text;
        size_t size;
        int r;

        c->request = http_request_free(c->request);
        c->state = CALL_RUNNING;
        text = json_text(c->body, &size);
        r = text ? 0 : -ENOMEM;
        if (r >= 0 && c->images.n > 0) {
                spec.on_body = call_on_body;
                spec.on_rewind = call_on_rewind;
                r = model_images_begin(&c->images, text, size, &spec.body_size);
        } else {
                spec.body = text;
                spec.body_size = size;
                spec.has_body = true;
        }
        if (r >= 0)
                r = http_client_start(c->http, &spec, &c->request);
        if (r >= 0)
                return;
        if (r == -EINVAL)
                model_call_fail(c, MODEL_ERROR_INVALID_REQUEST, "the base URL is not an http:// or https:// URL");
        else
                call_fail_errno(c, r);
        call_done(c);
}

static void call_tick(ModelCall *c) {
        int r;

        r = c->driver->tick(c);
        if (r == 0)
                r = event_arm_timer(c->event, &c->timer, c->echo_delay_usec, 1, call_on_timer, c);
        else if (r > 0)
                r = model_call_stop(c, MODEL_STOP_END, NULL);
        else
                call_fail_errno(c, r);

        if (r < 0)
                call_fail_errno(c, r);
        if (r < 0 || c->result.stop == MODEL_STOP_END)
                call_done(c);
}

static int call_on_timer(sd_event_source *s, uint64_t usec, void *userdata) {
        ModelCall *c = userdata;

        if (c->state == CALL_ENDED) {
                c->result.http_status = http_request_status(c->request);
                call_take_request_id(c, c->request);
                c->request = http_request_free(c->request);
                call_done(c);
        } else if (c->result.error != MODEL_ERROR_NONE)
                call_done(c);
        else if (c->driver->tick)
                call_tick(c);
        else
                call_attempt(c);
        return 0;
}

static bool text_is_valid(const char *s) {
        return !s || utf8_is_valid(s, strlen(s));
}

static bool images_are_valid(const ModelMessage *m) {
        static const char *const types[] = { "image/png", "image/jpeg", "image/gif", "image/webp" };

        for (size_t i = 0; i < m->n_images; i++) {
                bool known = false;

                for (size_t k = 0; k < ELEMENTSOF(types); k++)
                        known = known || streq_ptr(m->images[i].type, types[k]);
                if (!known || m->images[i].fd < 0 || m->images[i].size == 0 || m->images[i].size > IMAGE_SIZE_MAX)
                        return false;
        }
        return m->n_images == 0 || m->role == MODEL_ROLE_USER;
}

static bool message_is_valid(const ModelMessage *m) {
        if (!text_is_valid(m->text) || !text_is_valid(m->opaque) || !images_are_valid(m))
                return false;
        for (size_t i = 0; i < m->n_calls; i++)
                if (isempty(m->calls[i].id) || !text_is_valid(m->calls[i].id) || !text_is_valid(m->calls[i].name) ||
                    !text_is_valid(m->calls[i].arguments))
                        return false;
        for (size_t i = 0; i < m->n_results; i++)
                if (isempty(m->results[i].id) || !text_is_valid(m->results[i].id) ||
                    !text_is_valid(m->results[i].name) || !text_is_valid(m->results[i].text))
                        return false;
        return true;
}

/* Providers want a user's message first and last and no blank ones. */
static int messages_shape(const ModelCallSpec *spec, ModelMessage **ret, size_t *ret_n) {
        _cleanup_free_ ModelMessage *l = new0(ModelMessage, spec->n_messages);
        size_t n = 0;

        if (!l)
                return -ENOMEM;
        for (size_t i = 0; i < spec->n_messages; i++) {
                const ModelMessage *m = spec->messages + i;

                if (model_text_is_blank(m->text) && m->n_calls == 0 && m->n_results == 0 &&
                    m->n_images == 0)
                        continue;
                if (n == 0 && (m->role == MODEL_ROLE_ASSISTANT || m->n_results > 0))
                        continue;
                if (!message_is_valid(m))
                        return -EINVAL;
                l[n++] = *m;
        }
        if (n == 0 || l[n - 1].role != MODEL_ROLE_USER)
                return -EINVAL;

        *ret = TAKE_PTR(l);
        *ret_n = n;
        return 0;
}

/* The host of a URL, without credentials and port. */
static const char* url_host(const char *url, size_t *ret_size) {
        const char *p = strstr(url, "://"), *at;
        size_t n;

        p = p ? p + 3 : url;
        n = strcspn(p, "/?#");
        at = memrchr(p, '@', n);
        if (at) {
                n -= (size_t) (at + 1 - p);
                p = at + 1;
        }
        *ret_size = strcspn(p, ":") < n ? strcspn(p, ":") : n;
        return p;
}

static bool base_url_is_foreign(const ModelDriver *d, const char *base) {
        size_t n, m;
        const char *a = url_host(base, &n), *b = url_host(d->default_base_url, &m);

        return n != m || strncasecmp(a, b, n) != 0;
}

static bool key_is_valid(const char *key) {
        for (const char *p = strempty(key); *p; p++)
                if ((unsigned char) *p < 0x20 || *p == 0x7f)
                        return false;
        return true;
}

static int call_put_headers(ModelCall *c) {
        int r;

        r = strv_extend(&c->headers, "content-type: application/json");
        if (r < 0)
                return r;
        r = strv_extend(&c->headers, "accept: application/json");
        if (r < 0)
                return r;
        if (c->driver->extra_header) {
                r = strv_extend(&c->headers, c->driver->extra_header);
                if (r < 0)
                        return r;
        }
        if (!isempty(c->api_key)) {
                char *line = strjoin(c->driver->key_header, c->api_key);

                r = line ? strv_extend(&c->headers, line) : -ENOMEM;
                if (line)
                        explicit_bzero(line, strlen(line));
                free(line);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int call_prepare_request(ModelCall *c, const ModelCallSpec *spec, const ModelMessage *messages, size_t n) {
        const char *base = isempty(spec->base_url) ? model_provider_base_url_from_environment(spec->provider)
                                                   : spec->base_url;
        ModelRequest q = {
                .model = isempty(spec->model) ? c->driver->default_model : spec->model,
                .system = model_text_is_blank(spec->system) ? NULL : spec->system,
                .messages = messages,
                .n_messages = n,
                .tools = spec->tools,
                .n_tools = spec->n_tools,
                .no_calls = spec->no_calls,
                .images = &c->images,
                .max_tokens = MIN(spec->max_tokens ?: MAX_TOKENS_DEFAULT, (uint64_t) INT32_MAX),
        };
        int r;

        base = base ?: c->driver->default_base_url;
        q.foreign = base_url_is_foreign(c->driver, base);
        if (!utf8_is_valid(q.model, strlen(q.model)) || (q.system && !utf8_is_valid(q.system, strlen(q.system))))
                return -EINVAL;

        for (size_t i = 0; i < q.n_tools; i++)
                if (!text_is_valid(q.tools[i].name) || !text_is_valid(q.tools[i].description))
                        return -EINVAL;
        c->offered = q.n_tools > 0;

        if (!q.foreign && isempty(c->api_key))
                model_call_fail(c, MODEL_ERROR_AUTH, "no API key is configured");
        if (base[strcspn(base, "?#")])
                model_call_fail(c, MODEL_ERROR_INVALID_REQUEST, "the base URL has a query or a fragment");

        r = c->driver->url(base, q.model, &c->url);
        if (r < 0)
                return r;
        r = call_put_headers(c);
        if (r < 0)
                return r;
        c->body = json_object_new_object();
        if (!c->body)
                return -ENOMEM;
        r = c->driver->body(&q, c->body);
        if (r < 0)
                return r;
        return sse_parser_new(&c->sse, EVENT_MAX, call_on_event, c);
}

static int call_prepare_echo(ModelCall *c, const ModelMessage *last) {
        uint64_t delay_msec;

        c->echo_text = strdup(strempty(last->text));
        if (!c->echo_text)
                return -ENOMEM;
        if (parse_u64(strempty(getenv("PUFFO_ECHO_DELAY_MS")), &delay_msec) >= 0 && delay_msec <= ECHO_DELAY_MAX_MSEC)
                c->echo_delay_usec = delay_msec * USEC_PER_MSEC;
        return 0;
}

int model_call_start(HttpClient *http, sd_event *event, const ModelCallSpec *spec, ModelCall **ret) {
        _cleanup_(model_call_freep) ModelCall *c = NULL;
        _cleanup_free_ ModelMessage *messages = NULL;
        size_t n;
        int r;

        assert(event && spec && spec->on_done && ret);

        if (!model_driver_get(spec->provider) || !key_is_valid(spec->api_key))
                return -EINVAL;
        r = messages_shape(spec, &messages, &n);
        if (r < 0)
                return r;

        c = new0(ModelCall, 1);
        if (!c)
                return -ENOMEM;
        c->driver = model_driver_get(spec->provider);
        c->http = http;
        c->event = event;
        c->on_delta = spec->on_delta;
        c->on_done = spec->on_done;
        c->userdata = spec->userdata;
        c->idle_timeout_usec = spec->idle_timeout_usec;
        c->result.stop = MODEL_STOP_OTHER;
        c->result.retry_after_usec = USEC_INFINITY;
        c->api_key = strdup(strempty(spec->api_key));
        if (!c->api_key)
                return -ENOMEM;

        if (c->driver->tick)
                r = call_prepare_echo(c, messages + n - 1);
        else {
                assert(http);
                r = call_prepare_request(c, spec, messages, n);
        }
        if (r < 0)
                return r;
        /* Even a call that has failed already ends from the loop. */
        r = event_arm_timer(event, &c->timer, c->echo_delay_usec, 1, call_on_timer, c);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(c);
        return 0;
}

ModelCall* model_call_free(ModelCall *c) {
        if (!c)
                return NULL;

        sd_event_source_disable_unref(c->timer);
        http_request_free(c->request);
        sse_parser_free(c->sse);
        model_call_free_parts(c);
        (void) json_object_put(c->body);
        model_images_done(&c->images);
        for (char **h = c->headers; h && *h; h++)
                explicit_bzero(*h, strlen(*h));
        strv_free(c->headers);
        if (c->api_key)
                explicit_bzero(c->api_key, strlen(c->api_key));
        free(c->api_key);
        free(c->url);
        free(c->message);
        free(c->request_id);
        free(c->echo_text);
        strbuf_done(&c->head);
        strbuf_done(&c->text);
        return mfree(c);
}
