/* SPDX-License-Identifier: MIT */

#include <malloc.h>

#include "event-util.h"
#include "http-client-internal.h"

/* libcurl tells us which sockets to watch and when to come back; both become sd-event sources, and results are read
 * from our own handlers only, never inside one of curl's callbacks (where its objects must not be freed).
 *
 * An idle process is to hold nothing: the multi handle is made for the first request and taken down, with its
 * connections, name cache and TLS contexts, once there has been no request for IDLE_CLOSE_USEC. */

#define CONNECTIONS_CACHED 4L

/* libcurl brings GnuTLS along for protocols that nobody here speaks. It would fill the heap of each process with
 * tables before main(), unless it finds this (gnutls.h, GNUTLS_SKIP_GLOBAL_INIT). A libcurl that uses it for TLS
 * starts it. */
__attribute__((visibility("default"))) int _gnutls_global_init_skip(void);
int _gnutls_global_init_skip(void) {
        return 1;
}

static void client_drop_multi(HttpClient *c) {
        if (!c->multi)
                return;

        (void) curl_multi_cleanup(c->multi);
        c->multi = NULL;
        c->timer = sd_event_source_disable_unref(c->timer);
}

static int client_on_idle(sd_event_source *s, uint64_t usec, void *userdata) {
        HttpClient *c = userdata;

        if (LIST_EMPTY(&c->running)) {
                client_drop_multi(c);
                /* What TLS leaves behind is spread over the heap; this is the moment to give it back. */
                (void) malloc_trim(0);
        }
        return 0;
}

void request_unlink(HttpRequest *q) {
        HttpClient *c = q->client;

        q->idle_timer = sd_event_source_disable_unref(q->idle_timer);
        if (!c)
                return;

        q->client = NULL;
        LIST_REMOVE(q, requests);
        if (c->multi) {
                (void) curl_multi_remove_handle(c->multi, q->easy);
                if (LIST_EMPTY(&c->running) &&
                    event_arm_timer(c->event, &c->idle_timer, IDLE_CLOSE_USEC, 0, client_on_idle, c) < 0)
                        client_drop_multi(c);
        }
}

void request_finish(HttpRequest *q, HttpFailure failure, const char *error) {
        HttpReply reply = {
                .failure = failure,
                .status = http_request_status(q),
                .error = failure == HTTP_OK ? NULL : error,
                .body = strempty(q->reply.text),
                .body_size = q->reply.size,
        };

        request_unlink(q);
        q->on_done(q, &reply, q->userdata);
}

static HttpFailure failure_from_curl(HttpRequest *q, CURLcode code) {
        switch (code) {
        case CURLE_OK:
                return HTTP_OK;
        case CURLE_COULDNT_RESOLVE_PROXY:
        case CURLE_COULDNT_RESOLVE_HOST:
        case CURLE_COULDNT_CONNECT:
        case CURLE_INTERFACE_FAILED:
        case CURLE_PROXY:
                return HTTP_FAILED_CONNECT;
        case CURLE_OPERATION_TIMEDOUT:
                return q->connected ? HTTP_FAILED_TIMEOUT : HTTP_FAILED_CONNECT;
        case CURLE_SSL_CONNECT_ERROR:
                /* Also reported for a connection that broke during the handshake, which is a matter of the network and
                 * may be gone the next time. Only OpenSSL's words tell the two apart. */
                if (strstr(q->error, "SSL_ERROR_SYSCALL") || strstr(q->error, "unexpected eof") ||
                    strstr(q->error, "Connection reset"))
                        return HTTP_FAILED_CONNECT;
                return HTTP_FAILED_TLS;
        case CURLE_PEER_FAILED_VERIFICATION:
        case CURLE_SSL_ENGINE_NOTFOUND:
        case CURLE_SSL_ENGINE_SETFAILED:
        case CURLE_SSL_ENGINE_INITFAILED:
        case CURLE_SSL_CERTPROBLEM:
        case CURLE_SSL_CIPHER:
        case CURLE_SSL_CACERT_BADFILE:
        case CURLE_SSL_CRL_BADFILE:
        case CURLE_SSL_ISSUER_ERROR:
        case CURLE_SSL_INVALIDCERTSTATUS:
        case CURLE_SSL_PINNEDPUBKEYNOTMATCH:
        case CURLE_SSL_CLIENTCERT:
        case CURLE_USE_SSL_FAILED:
                return HTTP_FAILED_TLS;
        case CURLE_UNSUPPORTED_PROTOCOL:
        case CURLE_URL_MALFORMAT:
        case CURLE_WEIRD_SERVER_REPLY:
        case CURLE_BAD_CONTENT_ENCODING:
        case CURLE_HTTP_RETURNED_ERROR:
                return HTTP_FAILED_PROTOCOL;
        case CURLE_OUT_OF_MEMORY:
                return HTTP_FAILED_MEMORY;
        default:
                return HTTP_FAILED_CUT;
        }
}

static void request_finish_from_curl(HttpRequest *q, CURLcode code) {
        if (code == CURLE_OK && q->bare) {
                q->idle_timer = sd_event_source_disable_unref(q->idle_timer);
                q->on_connected(q, q->userdata);
        } else if (code == CURLE_OK || q->refused == HTTP_OK)
                request_finish(q, failure_from_curl(q, code), q->error[0] ? q->error : curl_easy_strerror(code));
        else
                request_finish(q, q->refused,
                               q->refused == HTTP_FAILED_TOO_LARGE ? "Response is too large" :
                               q->refused == HTTP_FAILED_MEMORY ? "Out of memory" : "Response was not wanted");
}

/* After an error of the multi interface itself (out of memory, or a loop that takes no more sources) no transfer on it
 * will ever move again. */
static void client_fail_all(HttpClient *c) {
        struct HttpRequestList failed = LIST_HEAD_INITIALIZER(failed);
        HttpRequest *q;

        while ((q = LIST_FIRST(&c->running))) {
                (void) curl_multi_remove_handle(c->multi, q->easy);
                LIST_REMOVE(q, requests);
                LIST_INSERT_HEAD(&failed, q, requests);
        }
        client_drop_multi(c);

        while ((q = LIST_FIRST(&failed)))
                request_finish(q, HTTP_FAILED_MEMORY, "Out of memory");
}

static void client_check_done(HttpClient *c) {
        while (c->multi) {
                CURLMsg *m = curl_multi_info_read(c->multi, &(int) { 0 });
                HttpRequest *q = NULL;

                if (!m)
                        return;
                if (m->msg != CURLMSG_DONE)
                        continue;

                (void) curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, (char**) &q);
                request_finish_from_curl(q, m->data.result);
        }
}

static void client_act(HttpClient *c, curl_socket_t fd, int what) {
        if (!c->multi)
                return;
        if (curl_multi_socket_action(c->multi, fd, what, &(int) { 0 }) != CURLM_OK)
                client_fail_all(c);
        client_check_done(c);
}

static int client_on_io(sd_event_source *s, int fd, uint32_t revents, void *userdata) {
        client_act(userdata, fd,
                   (revents & EPOLLIN ? CURL_CSELECT_IN : 0) | (revents & EPOLLOUT ? CURL_CSELECT_OUT : 0) |
                   (revents & (EPOLLERR|EPOLLHUP) ? CURL_CSELECT_ERR : 0));
        return 0;
}

static int client_on_timer(sd_event_source *s, uint64_t usec, void *userdata) {
        client_act(userdata, CURL_SOCKET_TIMEOUT, 0);
        return 0;
}

static int client_socket_cb(CURL *easy, curl_socket_t fd, int what, void *userdata, void *socketp) {
        HttpClient *c = userdata;
        sd_event_source *s = socketp;
        uint32_t mask = (what & CURL_POLL_IN ? EPOLLIN : 0) | (what & CURL_POLL_OUT ? EPOLLOUT : 0);

        if (what == CURL_POLL_REMOVE) {
                sd_event_source_disable_unref(s);
                return 0;
        }
        if (s)
                return sd_event_source_set_io_events(s, mask) < 0 ? -1 : 0;

        if (sd_event_add_io(c->event, &s, fd, mask, client_on_io, c) < 0)
                return -1;
        if (curl_multi_assign(c->multi, fd, s) != CURLM_OK) {
                sd_event_source_disable_unref(s);
                return -1;
        }
        return 0;
}

static int client_timer_cb(CURLM *multi, long timeout_msec, void *userdata) {
        HttpClient *c = userdata;
        int r;

        if (timeout_msec < 0)
                r = c->timer ? sd_event_source_set_enabled(c->timer, SD_EVENT_OFF) : 0;
        else
                r = event_arm_timer(c->event, &c->timer, (uint64_t) timeout_msec * USEC_PER_MSEC, /* accuracy= */ 1,
                                    client_on_timer, c);
        return r < 0 ? -1 : 0;
}

static int client_make_multi(HttpClient *c) {
        if (c->multi)
                return 0;

        c->multi = curl_multi_init();
        if (!c->multi)
                return -ENOMEM;

        (void) curl_multi_setopt(c->multi, CURLMOPT_SOCKETFUNCTION, client_socket_cb);
        (void) curl_multi_setopt(c->multi, CURLMOPT_SOCKETDATA, c);
        (void) curl_multi_setopt(c->multi, CURLMOPT_TIMERFUNCTION, client_timer_cb);
        (void) curl_multi_setopt(c->multi, CURLMOPT_TIMERDATA, c);
        (void) curl_multi_setopt(c->multi, CURLMOPT_MAXCONNECTS, CONNECTIONS_CACHED);
        return 0;
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
        client_drop_multi(c);
        sd_event_source_disable_unref(c->idle_timer);
        sd_event_unref(c->event);
        if (c->initialized)
                curl_global_cleanup();
        return mfree(c);
}

static int url_check(const char *url) {
        CURLU *u = curl_url();
        char *scheme = NULL;
        int r = -EINVAL;

        if (!u)
                return -ENOMEM;

        switch (curl_url_set(u, CURLUPART_URL, url, CURLU_NON_SUPPORT_SCHEME)) {
        case CURLUE_OK:
                break;
        case CURLUE_OUT_OF_MEMORY:
                r = -ENOMEM;
                goto finish;
        default:
                goto finish;
        }

        if (curl_url_get(u, CURLUPART_SCHEME, &scheme, 0) != CURLUE_OK) {
                r = -ENOMEM;
                goto finish;
        }
        if (streq(scheme, "http") || streq(scheme, "https"))
                r = 0;

finish:
        curl_free(scheme);
        curl_url_cleanup(u);
        return r;
}

static int client_add(HttpClient *c, HttpRequest *q) {
        int r = client_make_multi(c);

        if (r < 0)
                return r;
        if (curl_multi_add_handle(c->multi, q->easy) != CURLM_OK)
                return -ENOMEM;

        q->client = c;
        LIST_INSERT_HEAD(&c->running, q, requests);
        return 0;
}

static int client_prepare(HttpClient *c, const HttpRequestSpec *spec, HttpRequest **ret) {
        int r = url_check(spec->url);

        if (r < 0)
                return r;
        if (!c->initialized) {
                if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
                        return -ENOMEM;
                c->initialized = true;
        }
        return request_new(ret, c, spec);
}

int http_client_start(HttpClient *c, const HttpRequestSpec *spec, HttpRequest **ret) {
        _cleanup_(http_request_freep) HttpRequest *q = NULL;
        int r;

        assert(c && spec && spec->url && spec->on_done && ret);

        r = client_prepare(c, spec, &q);
        if (r >= 0)
                r = client_add(c, q);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(q);
        return 0;
}

int http_client_connect(HttpClient *c, const HttpRequestSpec *spec,
                        void (*on_connected)(HttpRequest *q, void *userdata), HttpRequest **ret) {
        _cleanup_(http_request_freep) HttpRequest *q = NULL;
        int r;

        assert(c && spec && spec->url && spec->on_done && on_connected && ret);

        r = client_prepare(c, spec, &q);
        if (r < 0)
                return r;
        q->bare = true;
        q->on_connected = on_connected;
        (void) curl_easy_setopt(q->easy, CURLOPT_CONNECT_ONLY, 1L);
        (void) curl_easy_setopt(q->easy, CURLOPT_HTTPPROXYTUNNEL, 1L);
        r = client_add(c, q);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(q);
        return 0;
}
