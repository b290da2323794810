/* SPDX-License-Identifier: MIT */

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <strings.h>
#include <sys/socket.h>

#include "config.h"
#include "event-util.h"
#include "file-util.h"
#include "http-client-internal.h"
#include "http-util.h"

#define CONNECT_TIMEOUT_USEC (10 * USEC_PER_SEC)
#define IDLE_TIMEOUT_USEC (120 * USEC_PER_SEC)
#define BODY_MAX MIB(16)
#define HEAD_MAX KIB(128)
#define CA_FILE_MAX MIB(1)
#define BUFFER_SIZE 16384L
#define SENT_MAX MIB(1)

/* Late I/O must win over a time-out that became due in the same turn of the loop. */
#define TIMEOUT_PRIORITY (SD_EVENT_PRIORITY_NORMAL + 10)

static void sent_wipe(HttpRequest *q) {
        if (q->sent.text)
                explicit_bzero(q->sent.text, q->sent.allocated);
        strbuf_done(&q->sent);
        q->sent_offset = 0;
}

static int request_on_idle(sd_event_source *s, uint64_t usec, void *userdata) {
        HttpRequest *q = userdata;
        uint64_t quiet = q->paused ? 0 : now_boottime_usec() - q->last_byte_usec;
        char text[64];

        /* Bytes only note the time; the timer is moved once per period. */
        if (quiet < q->idle_timeout_usec &&
            event_arm_timer(q->client->event, &q->idle_timer, q->idle_timeout_usec - quiet, 0, request_on_idle,
                            q) >= 0)
                return 0;

        (void) snprintf(text, sizeof(text), "No byte came for %" PRIu64 " ms", q->idle_timeout_usec / USEC_PER_MSEC);
        request_finish(q, HTTP_FAILED_TIMEOUT, text);
        return 0;
}

/* The connection stands and the request is about to be sent: from here on silence counts. */
static int request_prereq_cb(void *userdata, char *remote, char *local, int remote_port, int local_port) {
        HttpRequest *q = userdata;
        int r;

        q->connected = true;
        q->last_byte_usec = now_boottime_usec();
        r = event_arm_timer(q->client->event, &q->idle_timer, q->idle_timeout_usec, 0, request_on_idle, q);
        if (r >= 0)
                r = sd_event_source_set_priority(q->idle_timer, TIMEOUT_PRIORITY);
        if (r >= 0)
                return CURL_PREREQFUNC_OK;

        q->refused = HTTP_FAILED_MEMORY;
        return CURL_PREREQFUNC_ABORT;
}

static int request_progress_cb(void *userdata, curl_off_t dltotal, curl_off_t dlnow, curl_off_t ultotal,
                               curl_off_t ulnow) {
        HttpRequest *q = userdata;

        if (ulnow != q->uploaded) {
                q->uploaded = ulnow;
                q->last_byte_usec = now_boottime_usec();
        }
        return 0;
}

static size_t request_header_cb(char *data, size_t size, size_t n, void *userdata) {
        HttpRequest *q = userdata;

        q->last_byte_usec = now_boottime_usec();
        if (n > HEAD_MAX - q->head_size) {
                q->refused = HTTP_FAILED_TOO_LARGE;
                return 0;
        }
        q->head_size += n;
        return n;
}

static size_t request_write_cb(char *data, size_t size, size_t n, void *userdata) {
        HttpRequest *q = userdata;

        q->last_byte_usec = now_boottime_usec();

        if (q->on_data && (q->any_status || http_request_status(q) / 100 == 2)) {
                if (n > 0 && q->on_data(q, data, n, q->userdata) < 0) {
                        q->refused = HTTP_FAILED_CUT;
                        return CURL_WRITEFUNC_ERROR;
                }
                return n;
        }

        if (n > q->max_body - q->reply.size)
                q->refused = HTTP_FAILED_TOO_LARGE;
        else if (strbuf_append(&q->reply, data, n) < 0)
                q->refused = HTTP_FAILED_MEMORY;
        else
                return n;
        return CURL_WRITEFUNC_ERROR;
}

/* A kept connection may turn out to be dead only when the request is under way: then it is sent anew. */
static size_t request_read_cb(char *buffer, size_t size, size_t n, void *userdata) {
        HttpRequest *q = userdata;
        size_t again = q->sent.size - q->sent_offset;
        ssize_t k;

        if (again > 0) {
                n = MIN(n, again);
                memcpy(buffer, q->sent.text + q->sent_offset, n);
                q->sent_offset += n;
                return n;
        }

        k = q->on_body(q, buffer, n, q->userdata);
        q->starved = k == -EAGAIN;
        if (q->starved)
                return CURL_READFUNC_PAUSE;
        if (k < 0) {
                q->refused = HTTP_FAILED_CUT;
                return CURL_READFUNC_ABORT;
        }
        if (!q->forgotten && !q->on_rewind &&
            (q->sent.size + (size_t) k > SENT_MAX || strbuf_append(&q->sent, buffer, (size_t) k) < 0)) {
                q->forgotten = true;
                sent_wipe(q);
        }
        q->sent_offset = q->sent.size;
        return (size_t) k;
}

static int request_seek_cb(void *userdata, curl_off_t offset, int origin) {
        HttpRequest *q = userdata;

        if (q->forgotten || origin != SEEK_SET || offset != 0)
                return CURL_SEEKFUNC_CANTSEEK;
        if (q->on_rewind)
                q->on_rewind(q, q->userdata);
        q->sent_offset = 0;
        return CURL_SEEKFUNC_OK;
}

static curl_socket_t request_open_cb(void *userdata, curlsocktype purpose, struct curl_sockaddr *address) {
        HttpRequest *q = userdata;

        if (!q->check_address(&address->addr, q->userdata))
                return CURL_SOCKET_BAD;
        return socket(address->family, address->socktype|SOCK_CLOEXEC, address->protocol);
}

static int request_sockopt_cb(void *userdata, curl_socket_t fd, curlsocktype purpose) {
        return fcntl(fd, F_SETFD, FD_CLOEXEC) < 0 ? CURL_SOCKOPT_ERROR : CURL_SOCKOPT_OK;
}

static int request_append_header(HttpRequest *q, const char *line) {
        struct curl_slist *l = curl_slist_append(q->headers, line);

        if (!l)
                return -ENOMEM;
        q->headers = l;
        return 0;
}

static bool has_header(const char *const *headers, const char *name) {
        size_t n = strlen(name);

        for (; headers && *headers; headers++)
                if (strncasecmp(*headers, name, n) == 0 && (*headers)[n] == ':')
                        return true;
        return false;
}

static int request_set_headers(HttpRequest *q, const char *const *headers) {
        /* Kept out unless the caller asks for them: curl would wait a second for "100 Continue" before a large body,
         * and would call every body a form. */
        static const char *const unwanted[] = { "Expect", "Content-Type" };
        int r;

        for (const char *const *h = headers; h && *h; h++) {
                const char *colon = strchr(*h, ':'), *value;

                if (!colon || !http_token_is_valid(*h, (size_t) (colon - *h)))
                        return -EINVAL;
                if (!http_value_is_valid(colon + 1))
                        return -EINVAL;

                value = colon + 1 + strspn(colon + 1, " ");
                if (*value)
                        r = request_append_header(q, *h);
                else {
                        /* curl's way to say: send it, empty. */
                        _cleanup_free_ char *empty = asprintf_new("%.*s;", (int) (colon - *h), *h);
                        r = empty ? request_append_header(q, empty) : -ENOMEM;
                }
                if (r < 0)
                        return r;
        }

        for (size_t i = 0; i < ELEMENTSOF(unwanted); i++)
                if (!has_header(headers, unwanted[i])) {
                        char line[32];

                        (void) snprintf(line, sizeof(line), "%s:", unwanted[i]);
                        r = request_append_header(q, line);
                        if (r < 0)
                                return r;
                }

        return 0;
}

/* Whether the system's certificates can be looked up one by one, by the hash of their name. Loading the whole bundle
 * instead takes a megabyte and 15 ms for each connection. */
static bool find_ca_directory(CURL *easy) {
        const char *path = NULL;
        struct dirent *entry;
        bool found = false;
        DIR *d;

        (void) curl_easy_getinfo(easy, CURLINFO_CAPATH, &path);
        d = path ? opendir(path) : NULL;
        if (!d)
                return false;

        while (!found && (entry = readdir(d)))
                found = strspn(entry->d_name, "0123456789abcdef") == 8 && streq(entry->d_name + 8, ".0");
        (void) closedir(d);
        return found;
}

/* A blob replaces the system's bundle but leaves its directory in force; where that is no use the bundle goes in front
 * of our own. */
static int request_set_ca(HttpRequest *q, bool has_directory, const HttpRequestSpec *spec) {
        _cleanup_(strbuf_done) StrBuf all = {};
        _cleanup_free_ char *read = NULL, *system = NULL;
        const char *bundle = NULL, *extra = spec->ca_text;
        struct curl_blob blob;
        size_t n_system;
        int r;

        if (!extra) {
                r = file_read(spec->ca_file, CA_FILE_MAX, &read, NULL);
                if (r < 0)
                        return r;
                extra = read;
        }

        (void) curl_easy_getinfo(q->easy, CURLINFO_CAINFO, &bundle);
        if (!has_directory && bundle) {
                r = file_read(bundle, CA_FILE_MAX, &system, &n_system);
                if (r >= 0)
                        r = strbuf_append(&all, system, n_system);
                if (r >= 0)
                        r = strbuf_puts(&all, "\n");
                if (r < 0 && r != -ENOENT)
                        return r;
        }
        r = strbuf_puts(&all, extra);
        if (r < 0)
                return r;

        blob = (struct curl_blob) { .data = all.text, .len = all.size, .flags = CURL_BLOB_COPY };
        return curl_easy_setopt(q->easy, CURLOPT_CAINFO_BLOB, &blob) == CURLE_OK ? 0 : -ENOMEM;
}

static int request_set_method(HttpRequest *q, const HttpRequestSpec *spec) {
        const char *method = spec->method ?: spec->has_body || spec->on_body ? "POST" : "GET";
        CURLcode code = CURLE_OK;

        if (!http_token_is_valid(method, strlen(method)))
                return -EINVAL;

        if (spec->on_body) {
                (void) curl_easy_setopt(q->easy, CURLOPT_POST, 1L);
                (void) curl_easy_setopt(q->easy, CURLOPT_POSTFIELDSIZE_LARGE,
                                        spec->body_size == SIZE_MAX ? (curl_off_t) -1 : (curl_off_t) spec->body_size);
                (void) curl_easy_setopt(q->easy, CURLOPT_READFUNCTION, request_read_cb);
                (void) curl_easy_setopt(q->easy, CURLOPT_READDATA, q);
                (void) curl_easy_setopt(q->easy, CURLOPT_SEEKFUNCTION, request_seek_cb);
                (void) curl_easy_setopt(q->easy, CURLOPT_SEEKDATA, q);
        } else if (spec->has_body || streq(method, "POST")) {
                q->body = memdup0(spec->body, spec->has_body ? spec->body_size : 0);
                if (!q->body)
                        return -ENOMEM;
                q->body_size = spec->has_body ? spec->body_size : 0;
                (void) curl_easy_setopt(q->easy, CURLOPT_POST, 1L);
                (void) curl_easy_setopt(q->easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t) q->body_size);
                (void) curl_easy_setopt(q->easy, CURLOPT_POSTFIELDS, q->body);
        } else if (streq(method, "HEAD"))
                (void) curl_easy_setopt(q->easy, CURLOPT_NOBODY, 1L);

        if (!streq(method, "HEAD") && !streq(method, spec->has_body || spec->on_body ? "POST" : "GET"))
                code = curl_easy_setopt(q->easy, CURLOPT_CUSTOMREQUEST, method);
        return code == CURLE_OK ? 0 : -ENOMEM;
}

static long usec_to_msec(uint64_t usec) {
        return usec > (uint64_t) INT_MAX * USEC_PER_MSEC ? (long) INT_MAX : (long) ((usec + 999) / USEC_PER_MSEC);
}

static int request_set_options(HttpRequest *q, const HttpRequestSpec *spec) {
        CURL *easy = q->easy;

        /* The ones that copy a string may run out of memory, the others cannot fail. */
        if (curl_easy_setopt(easy, CURLOPT_URL, spec->url) != CURLE_OK ||
            curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https") != CURLE_OK ||
            curl_easy_setopt(easy, CURLOPT_ACCEPT_ENCODING, spec->identity ? "identity" : "gzip") != CURLE_OK ||
            curl_easy_setopt(easy, CURLOPT_USERAGENT, "puffo/" PROJECT_VERSION) != CURLE_OK)
                return -ENOMEM;

        if (spec->proxy && (curl_easy_setopt(easy, CURLOPT_PROXY, spec->proxy) != CURLE_OK ||
                            curl_easy_setopt(easy, CURLOPT_NOPROXY, strempty(spec->no_proxy)) != CURLE_OK))
                return -ENOMEM;
        if (spec->check_address && isempty(spec->proxy)) {
                (void) curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, request_open_cb);
                (void) curl_easy_setopt(easy, CURLOPT_OPENSOCKETDATA, q);
                /* A kept one was not asked about. */
                (void) curl_easy_setopt(easy, CURLOPT_FRESH_CONNECT, 1L);
        }

        (void) curl_easy_setopt(easy, CURLOPT_PRIVATE, q);
        (void) curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, q->error);
        (void) curl_easy_setopt(easy, CURLOPT_HTTPHEADER, q->headers);
        (void) curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
        (void) curl_easy_setopt(easy, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);

        /* The path is what the caller wrote: it may have been signed. */
        (void) curl_easy_setopt(easy, CURLOPT_PATH_AS_IS, 1L);

        /* One connection per exchange: cancelling one never touches another, and a session has few at a time. */
        (void) curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long) CURL_HTTP_VERSION_1_1);

        (void) curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS,
                                usec_to_msec(spec->connect_timeout_usec ?: CONNECT_TIMEOUT_USEC));
        (void) curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, usec_to_msec(spec->total_timeout_usec));
        (void) curl_easy_setopt(easy, CURLOPT_MAXAGE_CONN, (long) (IDLE_CLOSE_USEC / USEC_PER_SEC));
        (void) curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);

        (void) curl_easy_setopt(easy, CURLOPT_BUFFERSIZE, BUFFER_SIZE);
        (void) curl_easy_setopt(easy, CURLOPT_UPLOAD_BUFFERSIZE, BUFFER_SIZE);
        /* A cached store of the system's certificates would weigh megabytes for a day. */
        (void) curl_easy_setopt(easy, CURLOPT_CA_CACHE_TIMEOUT, 0L);
        /* Without it, cancelling a request waits for the resolver's thread. */
        (void) curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L);

        (void) curl_easy_setopt(easy, CURLOPT_SOCKOPTFUNCTION, request_sockopt_cb);
        (void) curl_easy_setopt(easy, CURLOPT_PREREQFUNCTION, request_prereq_cb);
        (void) curl_easy_setopt(easy, CURLOPT_PREREQDATA, q);
        (void) curl_easy_setopt(easy, CURLOPT_XFERINFOFUNCTION, request_progress_cb);
        (void) curl_easy_setopt(easy, CURLOPT_XFERINFODATA, q);
        (void) curl_easy_setopt(easy, CURLOPT_NOPROGRESS, 0L);
        (void) curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, request_header_cb);
        (void) curl_easy_setopt(easy, CURLOPT_HEADERDATA, q);
        (void) curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, request_write_cb);
        (void) curl_easy_setopt(easy, CURLOPT_WRITEDATA, q);
        return 0;
}

int request_new(HttpRequest **ret, HttpClient *c, const HttpRequestSpec *spec) {
        _cleanup_(http_request_freep) HttpRequest *q = NULL;
        int r;

        q = new0(HttpRequest, 1);
        if (!q)
                return -ENOMEM;

        q->max_body = spec->max_body ?: BODY_MAX;
        q->idle_timeout_usec = spec->idle_timeout_usec ?: IDLE_TIMEOUT_USEC;
        q->on_data = spec->on_data;
        q->on_body = spec->on_body;
        q->on_rewind = spec->on_rewind;
        q->check_address = spec->check_address;
        q->any_status = spec->any_status;
        q->on_done = spec->on_done;
        q->userdata = spec->userdata;

        q->easy = curl_easy_init();
        if (!q->easy)
                return -ENOMEM;
        if (!c->asked_ca_directory) {
                c->has_ca_directory = find_ca_directory(q->easy);
                c->asked_ca_directory = true;
        }
        if (c->has_ca_directory)
                (void) curl_easy_setopt(q->easy, CURLOPT_CAINFO, NULL);

        r = request_set_method(q, spec);
        if (r >= 0)
                r = request_set_headers(q, spec->headers);
        if (r >= 0)
                r = request_set_options(q, spec);
        if (r >= 0 && (spec->ca_file || spec->ca_text))
                r = request_set_ca(q, c->has_ca_directory, spec);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(q);
        return 0;
}

HttpRequest* http_request_free(HttpRequest *q) {
        if (!q)
                return NULL;

        request_unlink(q);
        if (q->easy)
                curl_easy_cleanup(q->easy);

        /* Keys travel in headers, and some bodies carry tokens. */
        for (struct curl_slist *l = q->headers; l; l = l->next)
                explicit_bzero(l->data, strlen(l->data));
        curl_slist_free_all(q->headers);
        if (q->body)
                explicit_bzero(q->body, q->body_size);
        free(q->body);

        sent_wipe(q);
        strbuf_done(&q->reply);
        return mfree(q);
}

int http_request_dup_socket(HttpRequest *q) {
        curl_socket_t s = CURL_SOCKET_BAD;
        int fd;

        if (curl_easy_getinfo(q->easy, CURLINFO_ACTIVESOCKET, &s) != CURLE_OK || s == CURL_SOCKET_BAD)
                return -ENOTCONN;
        fd = fcntl(s, F_DUPFD_CLOEXEC, 3);
        return fd < 0 ? -errno : fd;
}

void http_request_pause(HttpRequest *q, bool pause) {
        assert(q);

        if (q->paused == pause || !q->client)
                return;
        q->paused = pause;
        q->last_byte_usec = now_boottime_usec();
        (void) curl_easy_pause(q->easy, (pause ? CURLPAUSE_RECV : 0) | (q->starved ? CURLPAUSE_SEND : 0));
}

void http_request_continue(HttpRequest *q) {
        assert(q);

        if (!q->starved || !q->client)
                return;
        q->starved = false;
        q->last_byte_usec = now_boottime_usec();
        (void) curl_easy_pause(q->easy, q->paused ? CURLPAUSE_RECV : CURLPAUSE_CONT);
}

int http_request_each_header(HttpRequest *q, int (*callback)(const char *name, const char *value, void *userdata),
                             void *userdata) {
        int r = 0;

        assert(q && callback);

        for (struct curl_header *h = NULL; r >= 0 && (h = curl_easy_nextheader(q->easy, CURLH_HEADER, -1, h)); )
                r = callback(h->name, h->value, userdata);
        return MIN(r, 0);
}

const char* http_request_header(HttpRequest *q, const char *name) {
        struct curl_header *h;

        assert(q && name);

        if (curl_easy_header(q->easy, name, 0, CURLH_HEADER, /* request= */ -1, &h) != CURLHE_OK)
                return NULL;
        return h->value;
}

long http_request_status(HttpRequest *q) {
        long status = 0;

        assert(q);

        (void) curl_easy_getinfo(q->easy, CURLINFO_RESPONSE_CODE, &status);
        return status;
}
