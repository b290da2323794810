/* SPDX-License-Identifier: MIT */

#include <stdio.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "file-util.h"
#include "http-util.h"
#include "link-client-internal.h"

#define BODY_MAX MIB(16)
#define BODY_PART KIB(16)

LIST_HEAD(HttpRequestList, HttpRequest);

struct HttpClient {
        sd_event *event;
        struct HttpRequestList running;
};

typedef struct Header {
        const char *name, *value;       /* borrowed from head */
} Header;

struct HttpRequest {
        HttpClient *client;             /* NULL once the exchange is over */
        LinkConnection link;
        sd_event_source *turn;          /* there is something to do that no socket tells of */
        char *unreachable;              /* why there is no connection */
        long status;
        char *head;
        Header *headers;
        size_t n_headers;
        StrBuf reply;
        size_t max_body;
        bool any_status, paused, starved, body_sent;
        http_body_t on_body;
        http_data_t on_data;
        http_done_t on_done;
        void *userdata;
        LIST_ENTRY(HttpRequest) requests;
};

/* --- the way to the link --- */

static struct sockaddr_un link_address = { .sun_family = AF_UNIX };

int link_set_socket(const char *path) {
        if (strlen(path) >= sizeof(link_address.sun_path))
                return -ENAMETOOLONG;
        (void) strcpy(link_address.sun_path, path);
        return 0;
}

int link_connect(LinkConnection *ret, sd_event *event, sd_event_io_handler_t callback, void *userdata, char **reterr) {
        int fd, r;

        *ret = (LinkConnection) { .fd = -EBADF };
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0)
                return -errno;
        if (connect(fd, (struct sockaddr*) &link_address, sizeof(link_address)) < 0) {
                r = errno;
                (void) close(fd);
                *reterr = asprintf_new("There is no network: puffo-link does not answer at '%s': %s%s",
                                       link_address.sun_path, strerror(r),
                                       r == ENOENT || r == ECONNREFUSED ? " (is puffo-link.socket running?)" : "");
                return *reterr ? 1 : -ENOMEM;
        }
        return link_connection_init(ret, event, fd, callback, userdata);
}

int link_send_certificates(LinkConnection *c, const char *ca_file, const char *ca_text) {
        _cleanup_free_ char *text = NULL;
        int r;

        if (!ca_file && !ca_text)
                return 0;
        if (!ca_text) {
                r = file_read(ca_file, LINK_CERTIFICATES_MAX, &text, NULL);
                if (r < 0)
                        return r;
                ca_text = text;
        }
        /* Of a connection that there is not, nobody waits for more than this verdict. */
        return c->fd < 0 ? 0 : link_send(c, LINK_CERTIFICATES, ca_text, strlen(ca_text));
}

static const char* environment_get(const char *name) {
        const char *value = getenv(name);

        return isempty(value) ? NULL : value;
}

int link_put_proxy(StrBuf *fields, bool tls, const char *proxy, const char *no_proxy) {
        int r;

        /* The names and their order are libcurl's. HTTP_PROXY is not among them: of a CGI program, clients set it. */
        if (!proxy) {
                proxy = environment_get(tls ? "https_proxy" : "http_proxy");
                if (!proxy && tls)
                        proxy = environment_get("HTTPS_PROXY");
                proxy = proxy ?: environment_get("all_proxy") ?: environment_get("ALL_PROXY") ?: "";
                no_proxy = environment_get("no_proxy") ?: environment_get("NO_PROXY");
        }
        r = link_put(fields, "proxy", proxy);
        return r < 0 ? r : link_put(fields, "no-proxy", strempty(no_proxy));
}

/* --- the end of a request --- */

static void request_unlink(HttpRequest *q) {
        q->turn = sd_event_source_disable_unref(q->turn);
        link_connection_done(&q->link);
        if (q->client)
                LIST_REMOVE(q, requests);
        q->client = NULL;
}

static void request_finish(HttpRequest *q, HttpFailure failure, const char *error) {
        _cleanup_free_ char *copy = failure == HTTP_OK ? NULL : strdup(strempty(error));
        HttpReply reply = {
                .failure = failure,
                .status = q->status,
                .error = failure == HTTP_OK ? NULL : copy ?: "Out of memory",
                .body = strempty(q->reply.text),
                .body_size = q->reply.size,
        };

        request_unlink(q);
        q->on_done(q, &reply, q->userdata);
}

/* --- what the link says --- */

static int head_parse(HttpRequest *q, const LinkFrame *frame) {
        const char *name, *value;
        size_t size = frame->size;
        char *fields;

        free(q->head);
        free(q->headers);
        q->n_headers = 0;
        q->headers = NULL;
        q->head = fields = memdup0(frame->data, frame->size);
        if (!q->head)
                return -ENOMEM;

        while (link_get(&fields, &size, &name, &value))
                if (streq(name, "status"))
                        q->status = strtol(value, NULL, 10);
                else if (streq(name, "header")) {
                        char *colon = strchr(value, ':');
                        Header *grown;

                        if (!colon)
                                return -EPROTO;
                        grown = reallocarray(q->headers, q->n_headers + 1, sizeof(Header));
                        if (!grown)
                                return -ENOMEM;
                        q->headers = grown;
                        *colon = 0;
                        q->headers[q->n_headers++] = (Header) { value, colon + 1 };
                }
        return 0;
}

/* > 0: it is over. */
static int request_take_data(HttpRequest *q, const LinkFrame *frame) {
        if (q->on_data && (q->any_status || q->status / 100 == 2)) {
                if (frame->size == 0 || q->on_data(q, frame->data, frame->size, q->userdata) >= 0)
                        return 0;
                request_finish(q, HTTP_FAILED_CUT, "Response was not wanted");
        } else if (frame->size > q->max_body - q->reply.size)
                request_finish(q, HTTP_FAILED_TOO_LARGE, "Response is too large");
        else
                return strbuf_append(&q->reply, frame->data, frame->size);
        return 1;
}

static int request_take_end(HttpRequest *q, const LinkFrame *frame) {
        const char *name, *value, *error = "";
        HttpFailure failure = HTTP_FAILED_PROTOCOL;
        size_t size = frame->size;
        char *fields = frame->data;

        while (link_get(&fields, &size, &name, &value))
                if (streq(name, "failure"))
                        failure = http_failure_from_string(value);
                else if (streq(name, "error"))
                        error = value;
        request_finish(q, failure, error);
        return 1;
}

/* Up to a pause or the end. > 0: it is over, and q may be gone. */
static int request_take(HttpRequest *q) {
        LinkFrame frame;
        int r = 0;

        while (r == 0 && !q->paused) {
                r = link_next(&q->link, 0, &frame);
                if (r <= 0)
                        break;
                switch (frame.type) {
                case LINK_HEAD:
                        r = head_parse(q, &frame);
                        break;
                case LINK_DATA:
                        r = request_take_data(q, &frame);
                        break;
                case LINK_END:
                        r = request_take_end(q, &frame);
                        break;
                default:
                        r = -EPROTO;
                        break;
                }
        }
        if (r == 0)
                link_settle(&q->link);
        return r;
}

/* --- what we say --- */

static bool request_gives(const HttpRequest *q) {
        return q->on_body && !q->body_sent && !q->starved && !q->link.deaf;
}

/* > 0: it is over. */
static int request_give(HttpRequest *q) {
        char buffer[BODY_PART];
        int r = 0;

        while (r == 0 && request_gives(q) && link_queued(&q->link) == 0) {
                ssize_t n = q->on_body(q, buffer, sizeof(buffer), q->userdata);

                if (n == -EAGAIN) {
                        q->starved = true;
                        break;
                }
                if (n < 0) {
                        request_finish(q, HTTP_FAILED_CUT, "Response was not wanted");
                        return 1;
                }
                q->body_sent = n == 0;
                r = q->body_sent ? link_send(&q->link, LINK_BODY_END, NULL, 0)
                                 : link_send(&q->link, LINK_BODY, buffer, (size_t) n);
                link_write(&q->link);
        }
        return r;
}

static void request_go_on(HttpRequest *q, bool readable, bool hung_up) {
        int r, k = 0;

        link_write(&q->link);
        r = request_give(q);
        if (r == 0)
                r = request_take(q);
        if (r == 0 && readable && !q->paused) {
                k = link_read(&q->link);
                if (k > 0)
                        r = request_take(q);
        }
        if (r > 0)
                return;
        if (r == 0 && k < 0)
                r = k;
        if (r == 0 && q->paused && hung_up)     /* it would wake us over and over */
                r = sd_event_source_set_enabled(q->link.io, SD_EVENT_OFF);
        if (r >= 0)
                r = link_watch(&q->link, !q->paused, request_gives(q));
        if (r == -EPIPE)
                request_finish(q, HTTP_FAILED_CUT, LINK_IS_GONE);
        else if (r == -EPROTO)
                request_finish(q, HTTP_FAILED_PROTOCOL, "puffo-link says what makes no sense");
        else if (r < 0)
                request_finish(q, HTTP_FAILED_MEMORY, strerror(-r));
}

static int request_on_io(sd_event_source *s, int fd, uint32_t revents, void *userdata) {
        request_go_on(userdata, revents & (EPOLLIN | EPOLLHUP | EPOLLERR), revents & (EPOLLHUP | EPOLLERR));
        return 0;
}

static int request_on_turn(sd_event_source *s, void *userdata) {
        HttpRequest *q = userdata;

        if (q->unreachable)
                request_finish(q, HTTP_FAILED_CONNECT, q->unreachable);
        else
                request_go_on(q, /* readable= */ false, /* hung_up= */ false);
        return 0;
}

void http_request_pause(HttpRequest *q, bool pause) {
        assert(q);

        if (q->paused == pause || !q->client)
                return;
        q->paused = pause;
        if (q->link.fd < 0)
                return;
        /* If there is no memory to say so, it will just be seen that nobody reads. */
        (void) link_send(&q->link, pause ? LINK_STOP : LINK_GO, NULL, 0);
        if (!pause)
                (void) sd_event_source_set_enabled(q->link.io, SD_EVENT_ON);
        (void) link_watch(&q->link, !pause, request_gives(q));
        if (!pause)
                (void) sd_event_source_set_enabled(q->turn, SD_EVENT_ONESHOT);
}

void http_request_continue(HttpRequest *q) {
        assert(q);

        if (!q->starved || !q->client)
                return;
        q->starved = false;
        (void) link_watch(&q->link, !q->paused, request_gives(q));
}

int http_request_each_header(HttpRequest *q, int (*callback)(const char *name, const char *value, void *userdata),
                             void *userdata) {
        int r = 0;

        assert(q && callback);

        for (size_t i = 0; r >= 0 && i < q->n_headers; i++)
                r = callback(q->headers[i].name, q->headers[i].value, userdata);
        return MIN(r, 0);
}

const char* http_request_header(HttpRequest *q, const char *name) {
        assert(q && name);

        for (size_t i = 0; i < q->n_headers; i++)
                if (strcasecmp(q->headers[i].name, name) == 0)
                        return q->headers[i].value;
        return NULL;
}

long http_request_status(HttpRequest *q) {
        assert(q);
        return q->status;
}

/* --- the beginning --- */

static int put_headers(StrBuf *fields, const char *const *headers) {
        for (const char *const *h = headers; h && *h; h++) {
                const char *colon = strchr(*h, ':');
                int r;

                if (!colon || !http_token_is_valid(*h, (size_t) (colon - *h)) || !http_value_is_valid(colon + 1))
                        return -EINVAL;
                r = link_put(fields, "header", *h);
                if (r < 0)
                        return r;
        }
        return 0;
}

static int fields_format(const HttpRequestSpec *spec, StrBuf *fields) {
        const struct { const char *name; uint64_t value; } numbers[] = {
                { "connect-timeout", spec->connect_timeout_usec },
                { "idle-timeout", spec->idle_timeout_usec },
                { "total-timeout", spec->total_timeout_usec },
        };
        const char *method = spec->method ?: spec->has_body || spec->on_body ? "POST" : "GET";
        bool tls;
        int r;

        if (!http_token_is_valid(method, strlen(method)))
                return -EINVAL;
        r = http_url_check(spec->url, &tls);
        if (r >= 0)
                r = link_put(fields, "method", method);
        if (r >= 0)
                r = link_put(fields, "url", spec->url);
        if (r >= 0)
                r = put_headers(fields, spec->headers);
        for (size_t i = 0; i < ELEMENTSOF(numbers) && r >= 0; i++)
                if (numbers[i].value > 0)
                        r = link_put_number(fields, numbers[i].name, numbers[i].value);
        if (r >= 0 && spec->on_body && spec->body_size == SIZE_MAX)
                r = link_put(fields, "body", "unknown");
        else if (r >= 0 && (spec->on_body || spec->has_body))
                r = link_put_number(fields, "body", spec->body_size);
        if (r >= 0 && spec->identity)
                r = link_put(fields, "identity", "yes");
        return r < 0 ? r : link_put_proxy(fields, tls, spec->proxy, spec->no_proxy);
}

static void fields_wipe(StrBuf *b) {
        if (b->text)
                explicit_bzero(b->text, b->allocated);
        strbuf_done(b);
}

static int request_send(HttpRequest *q, const HttpRequestSpec *spec, const StrBuf *fields) {
        int r = link_send_certificates(&q->link, spec->ca_file, spec->ca_text);

        if (r < 0 || q->unreachable)
                return r;
        r = link_send(&q->link, LINK_REQUEST, fields->text, fields->size);
        if (r >= 0 && spec->has_body && !spec->on_body)
                r = link_send_parts(&q->link, LINK_BODY, spec->body, spec->body_size);
        if (r >= 0 && spec->has_body && !spec->on_body)
                r = link_send(&q->link, LINK_BODY_END, NULL, 0);
        return r < 0 ? r : link_watch(&q->link, /* reads= */ true, /* writes= */ true);
}

int http_client_start(HttpClient *c, const HttpRequestSpec *spec, HttpRequest **ret) {
        _cleanup_(http_request_freep) HttpRequest *q = NULL;
        _cleanup_(fields_wipe) StrBuf fields = {};
        int r;

        assert(c && spec && spec->url && spec->on_done && ret);

        if (spec->check_address)
                return -EOPNOTSUPP;
        r = fields_format(spec, &fields);
        if (r < 0)
                return r;

        q = new0(HttpRequest, 1);
        if (!q)
                return -ENOMEM;
        q->link.fd = -EBADF;
        q->max_body = spec->max_body ?: BODY_MAX;
        q->any_status = spec->any_status;
        q->on_body = spec->on_body;
        q->on_data = spec->on_data;
        q->on_done = spec->on_done;
        q->userdata = spec->userdata;

        r = link_connect(&q->link, c->event, request_on_io, q, &q->unreachable);
        if (r >= 0)
                r = sd_event_add_defer(c->event, &q->turn, request_on_turn, q);
        if (r >= 0)
                r = sd_event_source_set_enabled(q->turn, q->unreachable ? SD_EVENT_ONESHOT : SD_EVENT_OFF);
        if (r >= 0)
                r = request_send(q, spec, &fields);
        if (r < 0)
                return r;

        q->client = c;
        LIST_INSERT_HEAD(&c->running, q, requests);
        *ret = TAKE_PTR(q);
        return 0;
}

HttpRequest* http_request_free(HttpRequest *q) {
        if (!q)
                return NULL;

        request_unlink(q);
        strbuf_done(&q->reply);
        free(q->unreachable);
        free(q->headers);
        free(q->head);
        return mfree(q);
}

int http_client_new(HttpClient **ret, sd_event *event) {
        HttpClient *c;

        assert(ret && event);

        c = new0(HttpClient, 1);
        if (!c)
                return -ENOMEM;
        c->event = sd_event_ref(event);
        LIST_INIT(&c->running);
        *ret = c;
        return 0;
}

HttpClient* http_client_free(HttpClient *c) {
        HttpRequest *q;

        if (!c)
                return NULL;

        while ((q = LIST_FIRST(&c->running)))
                request_unlink(q);
        sd_event_unref(c->event);
        return mfree(c);
}
