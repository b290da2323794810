/* SPDX-License-Identifier: MIT */

#include <signal.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "event-util.h"
#include "log.h"
#include "model-wire.h"

#define REQUEST_SIZE_MAX MIB(128)
#define KEY_SIZE_MAX (KIB(16) + 1)
/* A provider's event can hold the whole answer. Escaped, this is well below what the session takes for a line. */
#define DELTA_SIZE_MAX KIB(64)

/* The other end of model-client.c: carries out one call after the other and exits when the session hangs up. */
typedef struct Worker {
        sd_event *event;
        HttpClient *http;
        int fd;
        sd_event_source *io;
        StrBuf in, out;
        ModelCall *call;
} Worker;

static void worker_done(Worker *w) {
        (void) model_call_free(w->call);
        (void) http_client_free(w->http);
        (void) sd_event_source_disable_unref(w->io);
        if (w->in.text)
                explicit_bzero(w->in.text, w->in.allocated);
        strbuf_done(&w->in);
        strbuf_done(&w->out);
        (void) sd_event_unref(w->event);
}

static int worker_exit(Worker *w, int error) {
        if (error < 0)
                (void) log_error_errno(error, "The talk with the session failed: %m");
        return sd_event_exit(w->event, error < 0 ? EXIT_FAILURE : EXIT_SUCCESS);
}

static int out_flush(Worker *w) {
        while (w->out.size > 0) {
                ssize_t n = send(w->fd, w->out.text, w->out.size, MSG_DONTWAIT|MSG_NOSIGNAL);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0 && errno == EAGAIN)
                        return sd_event_source_set_io_events(w->io, EPOLLIN|EPOLLOUT);
                if (n < 0)
                        return -errno;
                strbuf_consume(&w->out, (size_t) n);
        }
        return sd_event_source_set_io_events(w->io, EPOLLIN);
}

static void on_delta(ModelCall *call, const char *text, size_t size, void *userdata) {
        Worker *w = userdata;
        int r = 0;

        for (size_t n; size > 0 && r >= 0; text += n, size -= n) {
                n = size > DELTA_SIZE_MAX ? utf8_complete_prefix(text, DELTA_SIZE_MAX) : size;
                r = model_delta_format(&w->out, text, n);
        }
        if (r >= 0)
                r = out_flush(w);
        if (r < 0)
                (void) worker_exit(w, r);
}

static int result_send(Worker *w, const ModelResult *result) {
        int r = model_result_format(&w->out, result);

        return r < 0 ? r : out_flush(w);
}

static void on_done(ModelCall *call, const ModelResult *result, void *userdata) {
        Worker *w = userdata;
        int r;

        r = result_send(w, result);
        w->call = model_call_free(w->call);
        if (r < 0)
                (void) worker_exit(w, r);
}

static int request_start(Worker *w, const char *key, const char *line, size_t size) {
        _cleanup_(model_request_line_done) ModelRequestLine l = {};
        int r;

        r = model_request_parse(&l, line, size);
        if (r < 0)
                return r;
        l.spec.api_key = key;
        l.spec.on_delta = on_delta;
        l.spec.on_done = on_done;
        l.spec.userdata = w;
        r = model_call_start(w->http, w->event, &l.spec, &w->call);
        if (r < 0)
                return result_send(w, &(ModelResult) {
                        .error = r == -ENOMEM ? MODEL_ERROR_MEMORY : MODEL_ERROR_INVALID_REQUEST,
                        .retry_after_usec = USEC_INFINITY, .message = strerror(-r), .text = "",
                });
        return 0;
}

/* Both lines of a request, once they are here. */
static int request_take(Worker *w) {
        char *key_end, *end, key[KEY_SIZE_MAX];
        size_t n;
        int r;

        key_end = w->in.size > 0 ? memchr(w->in.text, '\n', w->in.size) : NULL;
        if (!key_end)
                return w->in.size >= KEY_SIZE_MAX ? -EMSGSIZE : 0;
        n = (size_t) (key_end - w->in.text);
        if (n >= sizeof(key))
                return -EMSGSIZE;
        end = memchr(key_end + 1, '\n', w->in.size - n - 1);
        if (!end)
                return w->in.size > REQUEST_SIZE_MAX ? -EMSGSIZE : 0;
        if (w->call)
                return -EBUSY;

        memcpy(key, w->in.text, n);
        key[n] = 0;
        r = request_start(w, key, key_end + 1, (size_t) (end - key_end) - 1);
        explicit_bzero(key, sizeof(key));
        explicit_bzero(w->in.text, w->in.allocated);
        strbuf_done(&w->in);
        return r;
}

static int on_io(sd_event_source *s, int fd, uint32_t revents, void *userdata) {
        Worker *w = userdata;
        char buffer[16384];
        ssize_t n;
        int r = 0;

        if (revents & EPOLLOUT)
                r = out_flush(w);
        if (r >= 0 && (revents & (EPOLLIN|EPOLLHUP|EPOLLERR))) {
                n = recv(fd, buffer, sizeof(buffer), MSG_DONTWAIT);
                if (n == 0)
                        return worker_exit(w, 0);
                if (n < 0)
                        r = errno == EAGAIN || errno == EINTR ? 0 : -errno;
                else {
                        r = strbuf_append(&w->in, buffer, (size_t) n);
                        explicit_bzero(buffer, (size_t) n);
                        if (r >= 0)
                                r = request_take(w);
                }
        }
        return r < 0 ? worker_exit(w, r) : 0;
}

int main(int argc, char **argv) {
        _cleanup_(worker_done) Worker w = { .fd = STDIN_FILENO };
        int type, r;

        log_open("puffo-model");
        if (argc != 1 || getsockopt(w.fd, SOL_SOCKET, SO_TYPE, &type, &(socklen_t) { sizeof(type) }) < 0) {
                (void) fprintf(stderr,
                               "puffo-model carries out the model calls of a puffo-session, which starts it.\n");
                return EXIT_FAILURE;
        }
        if (signal(SIGPIPE, SIG_IGN) == SIG_ERR)
                return EXIT_FAILURE;

        r = sd_event_default(&w.event);
        if (r >= 0)
                r = http_client_new(&w.http, w.event);
        if (r >= 0)
                r = sd_event_add_io(w.event, &w.io, w.fd, EPOLLIN, on_io, &w);
        if (r >= 0)
                r = sd_event_loop(w.event);
        if (r < 0)
                (void) log_error_errno(r, "The model client failed: %m");
        return r < 0 ? EXIT_FAILURE : r;
}
