/* SPDX-License-Identifier: MIT */

#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>

#include "event-util.h"
#include "log.h"
#include "model-wire.h"
#include "worker-talk.h"

#define REQUEST_SIZE_MAX MIB(128)
#define KEY_SIZE_MAX (KIB(16) + 1)
/* A provider's event can hold the whole answer. Escaped, this is well below what the session takes for a line. */
#define DELTA_SIZE_MAX KIB(64)

/* The other end of model-client.c: carries out one call after the other and exits when the session hangs up. */
typedef struct Worker {
        WorkerTalk talk;
        HttpClient *http;
        ModelCall *call;
} Worker;

static void worker_done(Worker *w) {
        (void) model_call_free(w->call);
        (void) http_client_free(w->http);
        worker_talk_done(&w->talk);
}

static void on_delta(ModelCall *call, const char *text, size_t size, void *userdata) {
        Worker *w = userdata;
        int r = 0;

        for (size_t n; size > 0 && r >= 0; text += n, size -= n) {
                n = size > DELTA_SIZE_MAX ? utf8_complete_prefix(text, DELTA_SIZE_MAX) : size;
                r = model_delta_format(&w->talk.out, text, n);
        }
        if (r >= 0)
                r = worker_talk_flush(&w->talk);
        if (r < 0)
                (void) worker_talk_exit(&w->talk, r);
}

static int result_send(Worker *w, const ModelResult *result) {
        int r = model_result_format(&w->talk.out, result);

        return r < 0 ? r : worker_talk_flush(&w->talk);
}

static void on_done(ModelCall *call, const ModelResult *result, void *userdata) {
        Worker *w = userdata;
        int r;

        r = result_send(w, result);
        w->call = model_call_free(w->call);
        if (r < 0)
                (void) worker_talk_exit(&w->talk, r);
}

static int request_start(Worker *w, const char *key, const char *line, size_t size) {
        _cleanup_(model_request_line_done) ModelRequestLine l = {};
        int r;

        r = model_request_parse(&l, line, size, w->talk.fds, w->talk.n_fds);
        if (r < 0)
                return r;
        l.spec.api_key = key;
        l.spec.on_delta = on_delta;
        l.spec.on_done = on_done;
        l.spec.userdata = w;
        r = model_call_start(w->http, w->talk.event, &l.spec, &w->call);
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

        key_end = w->talk.in.size > 0 ? memchr(w->talk.in.text, '\n', w->talk.in.size) : NULL;
        if (!key_end)
                return w->talk.in.size >= KEY_SIZE_MAX ? -EMSGSIZE : 0;
        n = (size_t) (key_end - w->talk.in.text);
        if (n >= sizeof(key))
                return -EMSGSIZE;
        end = memchr(key_end + 1, '\n', w->talk.in.size - n - 1);
        if (!end)
                return w->talk.in.size > REQUEST_SIZE_MAX ? -EMSGSIZE : 0;
        if (w->call)
                return -EBUSY;

        memcpy(key, w->talk.in.text, n);
        key[n] = 0;
        r = request_start(w, key, key_end + 1, (size_t) (end - key_end) - 1);
        explicit_bzero(key, sizeof(key));
        worker_talk_close_fds(&w->talk);        /* the call has its own of them */
        explicit_bzero(w->talk.in.text, w->talk.in.allocated);
        strbuf_done(&w->talk.in);
        return r;
}

static int on_input(WorkerTalk *t, void *userdata) {
        return request_take(userdata);
}

int main(int argc, char **argv) {
        _cleanup_(worker_done) Worker w = {};
        int type, r;

        log_open("puffo-model");
        if (argc != 1 || getsockopt(STDIN_FILENO, SOL_SOCKET, SO_TYPE, &type, &(socklen_t) { sizeof(type) }) < 0) {
                (void) fprintf(stderr,
                               "puffo-model carries out the model calls of a puffo-session, which starts it.\n");
                return EXIT_FAILURE;
        }
        if (signal(SIGPIPE, SIG_IGN) == SIG_ERR)
                return EXIT_FAILURE;

        r = worker_talk_start(&w.talk, STDIN_FILENO, on_input, &w);
        if (r >= 0)
                r = http_client_new(&w.http, w.talk.event);
        if (r >= 0)
                r = sd_event_loop(w.talk.event);
        if (r < 0)
                (void) log_error_errno(r, "The model client failed: %m");
        return r < 0 ? EXIT_FAILURE : r;
}
