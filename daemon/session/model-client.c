/* SPDX-License-Identifier: MIT */

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "helper-process.h"
#include "json-util.h"
#include "log.h"
#include "model-client.h"
#include "model-wire.h"

/* The largest step (MODEL_STEP_SIZE_MAX) with each of its characters escaped, which each part of it is at most once
 * more. */
#define LINE_SIZE_MAX MIB(64)

struct ModelCall {
        ModelClient *client;            /* NULL once the call has ended */
        void (*on_delta)(ModelCall *c, const char *text, size_t size, void *userdata);
        void (*on_done)(ModelCall *c, const ModelResult *r, void *userdata);
        void *userdata;
};

struct ModelClient {
        sd_event *event;                /* borrowed */
        char *program;
        int fd;                         /* to the process; -EBADF: there is none */
        sd_event_source *io;
        StrBuf in, out;
        int fds[MODEL_IMAGES_MAX];      /* go with the first byte of out */
        size_t n_fds;
        size_t searched;                /* so much of in has no end of a line */
        ModelCall *call;                /* borrowed; the running one */
};

static void secret_done(StrBuf *b) {
        if (b->text)
                explicit_bzero(b->text, b->allocated);
        strbuf_done(b);
}

static void fds_close(ModelClient *c) {
        while (c->n_fds > 0)
                safe_close(c->fds[--c->n_fds]);
}

static void process_close(ModelClient *c) {
        c->io = sd_event_source_disable_unref(c->io);
        c->fd = safe_close(c->fd);      /* what it is waiting for: it exits */
        strbuf_done(&c->in);
        c->searched = 0;
        secret_done(&c->out);
        fds_close(c);
}

int model_client_new(ModelClient **ret, sd_event *event, const char *program) {
        _cleanup_(model_client_freep) ModelClient *c = new0(ModelClient, 1);
        int r;

        if (!c)
                return -ENOMEM;
        c->event = event;
        c->fd = -EBADF;
        if (program) {
                c->program = strdup(program);
                if (!c->program)
                        return -ENOMEM;
        } else {
                r = helper_program_path("puffo-model", &c->program);
                if (r < 0)
                        return r;
        }

        *ret = TAKE_PTR(c);
        return 0;
}

ModelClient* model_client_free(ModelClient *c) {
        if (!c)
                return NULL;

        process_close(c);
        if (c->call)
                c->call->client = NULL;
        free(c->program);
        return mfree(c);
}

static void call_end(ModelClient *c, const ModelResult *result) {
        ModelCall *call = TAKE_PTR(c->call);

        if (!call)
                return;
        call->client = NULL;
        call->on_done(call, result, call->userdata);
}

static void process_lost(ModelClient *c, const char *why) {
        process_close(c);
        call_end(c, &(ModelResult) {
                .error = MODEL_ERROR_CUT, .retry_after_usec = USEC_INFINITY, .message = why, .text = "",
        });
}

/* < 0: the process talks nonsense. */
static int line_take(ModelClient *c, const char *line, size_t size) {
        _cleanup_(model_answer_line_done) ModelAnswerLine l = {};
        int r;

        r = model_answer_parse(&l, line, size);
        if (r < 0)
                return r;
        if (!c->call)
                return -EBADMSG;
        if (r > 0)
                call_end(c, &l.result);
        else if (l.delta_size > 0)
                c->call->on_delta(c->call, l.delta, l.delta_size, c->call->userdata);
        return 0;
}

/* Lines are taken out before they are acted upon: a callback may start the next call, or end the process. */
static int lines_take(ModelClient *c) {
        char *end;
        int r;

        while (c->in.size > c->searched &&
               (end = memchr(c->in.text + c->searched, '\n', c->in.size - c->searched))) {
                size_t size = (size_t) (end - c->in.text);
                _cleanup_free_ char *line = memdup0(c->in.text, size);

                if (!line)
                        return -ENOMEM;
                strbuf_consume(&c->in, size + 1);
                c->searched = 0;
                r = line_take(c, line, size);
                if (r < 0)
                        return r;
        }
        c->searched = c->in.size;
        return c->in.size > LINE_SIZE_MAX ? -EMSGSIZE : 0;
}

static ssize_t out_send(ModelClient *c) {
        union {
                struct cmsghdr head;
                char bytes[CMSG_SPACE(sizeof(c->fds))];
        } control = {};
        struct iovec v = { .iov_base = c->out.text, .iov_len = c->out.size };
        struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1 };
        ssize_t n;

        if (c->n_fds > 0) {
                m.msg_control = &control;
                m.msg_controllen = CMSG_SPACE(c->n_fds * sizeof(int));
                control.head = (struct cmsghdr) {
                        .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS,
                        .cmsg_len = CMSG_LEN(c->n_fds * sizeof(int)),
                };
                memcpy(CMSG_DATA(&control.head), c->fds, c->n_fds * sizeof(int));
        }
        n = sendmsg(c->fd, &m, MSG_DONTWAIT|MSG_NOSIGNAL);
        if (n > 0)
                fds_close(c);
        return n;
}

static int out_flush(ModelClient *c) {
        while (c->out.size > 0) {
                ssize_t n = out_send(c);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0 && errno == EAGAIN)
                        return sd_event_source_set_io_events(c->io, EPOLLIN|EPOLLOUT);
                if (n < 0)
                        return -errno;
                strbuf_consume(&c->out, (size_t) n);
        }
        secret_done(&c->out);
        return sd_event_source_set_io_events(c->io, EPOLLIN);
}

static int on_io(sd_event_source *s, int fd, uint32_t revents, void *userdata) {
        ModelClient *c = userdata;
        char buffer[16384];
        ssize_t n;
        int r = 0;

        if (revents & EPOLLOUT)
                r = out_flush(c);
        if (r >= 0 && (revents & (EPOLLIN|EPOLLHUP|EPOLLERR))) {
                n = recv(fd, buffer, sizeof(buffer), MSG_DONTWAIT);
                if (n == 0) {
                        process_lost(c, "the model client has exited");
                        return 0;
                }
                if (n < 0)
                        r = errno == EAGAIN || errno == EINTR ? 0 : -errno;
                else {
                        r = strbuf_append(&c->in, buffer, (size_t) n);
                        if (r >= 0)
                                r = lines_take(c);
                }
        }
        if (r < 0) {
                (void) log_warning_errno(r, "The talk with the model client failed, ending it: %m");
                process_lost(c, "the talk with the model client failed");
        }
        return 0;
}

static int process_start(ModelClient *c) {
        char *const argv[] = { (char*) "puffo-model", NULL };
        int fds[2], r;

        if (c->fd >= 0)
                return 0;
        if (socketpair(AF_UNIX, SOCK_STREAM|SOCK_CLOEXEC, 0, fds) < 0)
                return -errno;
        c->fd = fds[0];
        r = sd_event_add_io(c->event, &c->io, c->fd, EPOLLIN, on_io, c);
        if (r >= 0)
                r = helper_start(c->event, c->program, argv, fds[1], NULL, 0);
        (void) close(fds[1]);
        if (r < 0)
                process_close(c);
        return r;
}

static int fds_take(ModelClient *c, const ModelCallSpec *spec) {
        int fds[MODEL_IMAGES_MAX];
        size_t n = model_request_fds(spec, fds);

        while (c->n_fds < n) {
                int fd = fcntl(fds[c->n_fds], F_DUPFD_CLOEXEC, 3);

                if (fd < 0)
                        return -errno;
                c->fds[c->n_fds++] = fd;
        }
        return 0;
}

static int request_send(ModelClient *c, const ModelCallSpec *spec) {
        int r;

        r = process_start(c);
        if (r >= 0)
                r = model_request_format(&c->out, spec);
        if (r >= 0)
                r = fds_take(c, spec);
        if (r >= 0)
                r = out_flush(c);
        return r;
}

int model_client_call_start(ModelClient *c, const ModelCallSpec *spec, ModelCall **ret) {
        bool kept = c->fd >= 0;
        ModelCall *call;
        int r;

        if (c->call)
                return -EBUSY;
        call = new0(ModelCall, 1);
        if (!call)
                return -ENOMEM;
        *call = (ModelCall) {
                .client = c, .on_delta = spec->on_delta, .on_done = spec->on_done, .userdata = spec->userdata,
        };
        r = request_send(c, spec);
        if (r == -EPIPE && kept) {
                /* The one of the last call has died since. */
                process_close(c);
                r = request_send(c, spec);
        }
        /* One that dies at once is reported from the loop, like one that dies later. */
        if (r < 0 && r != -EPIPE) {
                process_close(c);
                free(call);
                return r;
        }

        c->call = call;
        *ret = call;
        return 0;
}

ModelCall* model_client_call_free(ModelCall *call) {
        if (!call)
                return NULL;

        if (call->client) {
                call->client->call = NULL;
                process_close(call->client);    /* the shortest way to cancel: no late delta can come */
        }
        return mfree(call);
}

void model_client_rest(ModelClient *c) {
        if (!c->call)
                process_close(c);
}

const ModelBackend model_client_backend = {
        .client_new = model_client_new,
        .client_free = model_client_free,
        .call_start = model_client_call_start,
        .call_free = model_client_call_free,
        .rest = model_client_rest,
};
