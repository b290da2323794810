/* SPDX-License-Identifier: MIT */

#include <strings.h>

#include "http-server-internal.h"
#include "http-util.h"

#define STREAM_HIGH KIB(64)
#define STREAM_LOW KIB(16)
#define STREAM_MAX MIB(4)
/* Allocated with each streamed answer, and used with HTTP/1.0 only: chunks have a buffer of the connection's own. */
#define STREAM_BLOCK KIB(1)

const char* http_exchange_method(HttpExchange *x) {
        assert(x);
        return x->method;
}

const char* http_exchange_path(HttpExchange *x) {
        assert(x);
        return x->path;
}

const char* http_exchange_header(HttpExchange *x, const char *name) {
        assert(x && name);
        return MHD_lookup_connection_value(x->connection->mhd, MHD_HEADER_KIND, name);
}

typedef struct HeaderCount {
        const char *name;
        unsigned n;
} HeaderCount;

static enum MHD_Result count_header(void *userdata, enum MHD_ValueKind kind, const char *name, const char *value) {
        HeaderCount *c = userdata;

        if (strcasecmp(name, c->name) == 0)
                c->n++;
        return MHD_YES;
}

unsigned http_exchange_header_count(HttpExchange *x, const char *name) {
        HeaderCount c = { .name = name };

        assert(x && name);

        (void) MHD_get_connection_values(x->connection->mhd, MHD_HEADER_KIND, count_header, &c);
        return c.n;
}

static int unhex(char c) {
        return c >= '0' && c <= '9' ? c - '0' :
               c >= 'a' && c <= 'f' ? c - 'a' + 10 :
               c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* In place; -EBADMSG for an encoded NUL, which no C string can carry. */
static int query_decode(char *s) {
        char *to = s;

        for (; *s; s++) {
                if (*s == '+')
                        *to++ = ' ';
                else if (*s == '%' && unhex(s[1]) >= 0 && unhex(s[2]) >= 0) {
                        *to = (char) (unhex(s[1]) << 4 | unhex(s[2]));
                        if (!*to++)
                                return -EBADMSG;
                        s += 2;
                } else
                        *to++ = *s;
        }
        *to = 0;
        return 0;
}

/* One copy and one list, however many names there are. */
static int exchange_parse_query(HttpExchange *x) {
        _cleanup_free_ char *query = strdup(x->query);
        const char **l;
        size_t n = 1;
        char *next;

        for (const char *c = x->query; *c; c++)
                n += *c == '&';
        l = new0(const char*, 2 * n + 1);
        if (!query || !l) {
                free(l);
                return -ENOMEM;
        }

        n = 0;
        for (char *part = query; part; part = next) {
                char *value;

                next = strchr(part, '&');
                if (next)
                        *next++ = 0;
                value = strchr(part, '=');
                if (value)
                        *value++ = 0;

                if (query_decode(part) < 0 || (value && query_decode(value) < 0))
                        continue;
                l[n++] = part;
                l[n++] = strempty(value);
        }

        x->decoded = TAKE_PTR(query);
        x->parameters = l;
        return 0;
}

const char* http_exchange_query(HttpExchange *x, const char *name) {
        assert(x && name);

        if (!x->query || (!x->parameters && exchange_parse_query(x) < 0))
                return NULL;
        for (const char **p = x->parameters; *p; p += 2)
                if (streq(p[0], name))
                        return p[1];
        return NULL;
}

const char* http_exchange_body(HttpExchange *x, size_t *ret_size) {
        assert(x);

        if (ret_size)
                *ret_size = x->body.size;
        return strempty(x->body.text);
}

const struct sockaddr* http_exchange_peer(HttpExchange *x) {
        assert(x);
        return (const struct sockaddr*) &x->connection->peer;
}

const struct sockaddr* http_exchange_local(HttpExchange *x) {
        assert(x);
        return (const struct sockaddr*) &x->connection->local;
}

void* http_exchange_connection_data(HttpExchange *x) {
        assert(x);
        return x->connection->data;
}

void http_exchange_set_connection_data(HttpExchange *x, void *data, void (*destroy)(void *)) {
        HttpConnection *c;

        assert(x);

        c = x->connection;
        if (c->destroy && c->data != data)
                c->destroy(c->data);
        c->data = data;
        c->destroy = data ? destroy : NULL;
}

void http_exchange_ignore_body(HttpExchange *x) {
        assert(x);
        x->ignores_body = true;
}

void http_exchange_stream_body(HttpExchange *x) {
        assert(x && x->server->spec.on_body);
        x->streams_body = true;
}

void http_exchange_continue_body(HttpExchange *x) {
        assert(x);

        if (x->requested)
                return;
        exchange_expect_body(x);
        exchange_wake(x);
}

size_t http_exchange_body_length(HttpExchange *x) {
        assert(x);
        return x->body_length;
}

const char* http_exchange_raw_query(HttpExchange *x) {
        assert(x);
        return x->query;
}

typedef struct HeaderCall {
        int (*callback)(const char *name, const char *value, void *userdata);
        void *userdata;
        int result;
} HeaderCall;

static enum MHD_Result call_header(void *userdata, enum MHD_ValueKind kind, const char *name, const char *value) {
        HeaderCall *c = userdata;

        c->result = c->callback(name, strempty(value), c->userdata);
        return c->result < 0 ? MHD_NO : MHD_YES;
}

int http_exchange_each_header(HttpExchange *x, int (*callback)(const char *name, const char *value, void *userdata),
                              void *userdata) {
        HeaderCall c = { callback, userdata, 0 };

        assert(x && callback);

        (void) MHD_get_connection_values(x->connection->mhd, MHD_HEADER_KIND, call_header, &c);
        return MIN(c.result, 0);
}

void http_exchange_set_userdata(HttpExchange *x, void *userdata) {
        assert(x);
        x->userdata = userdata;
}

void* http_exchange_userdata(HttpExchange *x) {
        assert(x);
        return x->userdata;
}

int http_exchange_add_header(HttpExchange *x, const char *name, const char *value) {
        char **added;
        size_t n;
        int r;

        assert(x && name && value);

        if (!http_token_is_valid(name, strlen(name)) || !http_value_is_valid(value))
                return -EINVAL;

        n = strv_length(x->headers);
        r = strv_extend(&x->headers, name);
        if (r < 0)
                return r;
        r = strv_extend(&x->headers, value);
        if (r < 0) {
                /* Names and values go in pairs. */
                added = x->headers + n;
                *added = mfree(*added);
        }
        return r;
}

static int exchange_answer(HttpExchange *x, unsigned status, const char *content_type, struct MHD_Response *response) {
        bool ok;

        x->answered = true;

        ok = response && status >= 200 && status <= 999 &&
                (!content_type || (http_value_is_valid(content_type) &&
                                   MHD_add_response_header(response, "Content-Type", content_type) == MHD_YES));
        for (char **h = x->headers; ok && h && *h; h += 2)
                ok = MHD_add_response_header(response, h[0], h[1]) == MHD_YES;
        if (ok && x->server->quiesced)
                ok = MHD_add_response_header(response, "Connection", "close") == MHD_YES;

        if (!ok) {
                if (response)
                        MHD_destroy_response(response);
                http_exchange_abort(x);
                return -ENOMEM;
        }

        x->response = response;
        x->status = status;
        exchange_wake(x);
        return 0;
}

static int exchange_reply(HttpExchange *x, unsigned status, const char *content_type, const void *body, size_t size,
                          enum MHD_ResponseMemoryMode mode) {
        assert(x);
        assert(body || size == 0);

        if (x->answered)
                return -EALREADY;
        if (x->gone)
                return -EPIPE;

        return exchange_answer(x, status, content_type,
                               MHD_create_response_from_buffer(size, size > 0 ? (void*) body : (void*) "", mode));
}

int http_exchange_reply(HttpExchange *x, unsigned status, const char *content_type, const void *body, size_t size) {
        return exchange_reply(x, status, content_type, body, size, MHD_RESPMEM_MUST_COPY);
}

int http_exchange_reply_static(HttpExchange *x, unsigned status, const char *content_type, const void *body,
                               size_t size) {
        return exchange_reply(x, status, content_type, body, size, MHD_RESPMEM_PERSISTENT);
}

/* libmicrohttpd has room for more of the body. */
static ssize_t exchange_on_read(void *userdata, uint64_t position, char *buffer, size_t max) {
        HttpExchange *x = userdata;
        size_t left = x->out.size - x->out_offset, n = MIN(left, max);

        if (x->gone || x->aborted)
                return MHD_CONTENT_READER_END_WITH_ERROR;
        if (left == 0) {
                if (x->broken) {
                        http_exchange_abort(x);
                        return MHD_CONTENT_READER_END_WITH_ERROR;
                }
                if (x->ended)
                        return MHD_CONTENT_READER_END_OF_STREAM;
                return exchange_suspend(x) < 0 ? MHD_CONTENT_READER_END_WITH_ERROR : 0;
        }

        memcpy(buffer, x->out.text + x->out_offset, n);
        x->out_offset += n;
        left -= n;

        /* An idle stream holds no buffer; moving what is left is put off until it is worth it. */
        if (left == 0) {
                strbuf_done(&x->out);
                x->out_offset = 0;
        } else if (x->out_offset >= x->out.size / 2) {
                strbuf_consume(&x->out, x->out_offset);
                x->out_offset = 0;
        }

        if (x->blocked && left <= STREAM_LOW && !x->ended) {
                x->blocked = false;
                if (!x->writable) {
                        x->writable = true;
                        LIST_INSERT_HEAD(&x->server->writable, x, writables);
                }
        }
        return (ssize_t) n;
}

int http_exchange_stream_begin(HttpExchange *x, unsigned status, const char *content_type) {
        assert(x);

        if (x->answered)
                return -EALREADY;
        if (x->gone)
                return -EPIPE;

        x->streaming = true;
        return exchange_answer(x, status, content_type,
                               MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, STREAM_BLOCK, exchange_on_read, x,
                                                                 NULL));
}

int http_exchange_stream_write(HttpExchange *x, const void *data, size_t size) {
        size_t queued;
        int r;

        assert(x);
        assert(data || size == 0);

        if (x->gone || x->aborted)
                return -EPIPE;
        if (!x->streaming || x->ended)
                return -EINVAL;

        queued = x->out.size - x->out_offset;
        if (size > STREAM_MAX - queued)
                return -ENOBUFS;

        if (size > 0) {
                r = strbuf_append(&x->out, data, size);
                if (r < 0)
                        return r;
                exchange_wake(x);
        }

        if (queued + size <= STREAM_HIGH && !x->blocked)
                return 1;
        x->blocked = true;
        return 0;
}

void http_exchange_stream_end(HttpExchange *x) {
        assert(x);

        if (!x->streaming || x->ended)
                return;
        x->ended = true;
        exchange_wake(x);
}

void http_exchange_stream_break(HttpExchange *x) {
        assert(x);

        x->broken = true;
        http_exchange_stream_end(x);
}

void http_exchange_abort(HttpExchange *x) {
        assert(x);

        x->answered = x->aborted = true;
        exchange_hang_up(x);
}
