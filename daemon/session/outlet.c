/* SPDX-License-Identifier: MIT */

#include <fcntl.h>
#include <sodium.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "event-util.h"
#include "helper-process.h"
#include "log.h"
#include "outlet-wire.h"
#include "outlet.h"

#define LINE_SIZE_MAX KIB(64)
#define TOKEN_BYTES 32U
#define TOKEN_SIZE sodium_base64_ENCODED_LEN(32, sodium_base64_VARIANT_URLSAFE_NO_PADDING)
/* A process that ends sooner than this and without a word has not ended for want of work. */
#define LIFE_MIN_USEC (1 * USEC_PER_SEC)
#define PAUSE_MIN_USEC (1 * USEC_PER_SEC)
#define PAUSE_MAX_USEC (30 * USEC_PER_SEC)

struct Outlet {
        OutletSpec spec;
        char *program, *agent, *ca_file;
        char token[TOKEN_SIZE];
        int listening[2];               /* model, proxy; -EBADF: none */
        sd_event_source *watches[2];    /* on while there is no process */
        int fd;                         /* to the process; -EBADF: there is none */
        sd_event_source *io, *retry_timer;
        StrBuf in, out;
        uint64_t started_usec, pause_usec;
};

static void secret_done(StrBuf *b) {
        if (b->text)
                sodium_memzero(b->text, b->allocated);
        strbuf_done(b);
}

static int watches_set(Outlet *o, int enabled) {
        for (size_t i = 0; i < ELEMENTSOF(o->watches); i++) {
                int r = o->watches[i] ? sd_event_source_set_enabled(o->watches[i], enabled) : 0;

                if (r < 0)
                        return r;
        }
        return 0;
}

static void process_close(Outlet *o) {
        o->io = sd_event_source_disable_unref(o->io);
        o->fd = safe_close(o->fd);      /* what it is waiting for: it exits */
        strbuf_done(&o->in);
        secret_done(&o->out);
}

static int on_retry(sd_event_source *s, uint64_t usec, void *userdata) {
        Outlet *o = userdata;
        int r = watches_set(o, SD_EVENT_ON);

        if (r < 0)
                (void) log_error_errno(r, "Failed to watch the model endpoint's sockets: %m");
        return 0;
}

/* Whoever connects meanwhile waits in the socket's queue. */
static void process_lost(Outlet *o) {
        bool early = now_boottime_usec() - o->started_usec < LIFE_MIN_USEC;

        process_close(o);
        o->pause_usec = early ? CLAMP(2 * o->pause_usec, PAUSE_MIN_USEC, PAUSE_MAX_USEC) : 0;
        if (o->pause_usec == 0 ||
            event_arm_timer(o->spec.event, &o->retry_timer, o->pause_usec, 0, on_retry, o) < 0)
                (void) on_retry(NULL, 0, o);
}

static int out_flush(Outlet *o) {
        while (o->out.size > 0) {
                ssize_t n = send(o->fd, o->out.text, o->out.size, MSG_DONTWAIT|MSG_NOSIGNAL);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0 && errno == EAGAIN)
                        return sd_event_source_set_io_events(o->io, EPOLLIN|EPOLLOUT);
                if (n < 0)
                        return -errno;
                strbuf_consume(&o->out, (size_t) n);
        }
        secret_done(&o->out);
        return sd_event_source_set_io_events(o->io, EPOLLIN);
}

/* ---- what the process says ---- */

static int answer(Outlet *o, uint64_t id) {
        _cleanup_free_ char *text = NULL, *message = NULL;
        BudgetVerdict v = {};
        uint64_t now = now_realtime_usec(), seconds;
        int r;

        r = o->spec.budget ? budget_check(o->spec.budget, &v) : 0;
        if (r == 0)
                return outlet_answer_format(&o->out, id, NULL, 0);
        if (r < 0) {
                (void) log_warning_errno(r, "What the agent has used of its budget cannot be read: %m");
                return outlet_answer_format(&o->out, id, "What the agent has used of its budget cannot be read.", 60);
        }
        text = budget_verdict_to_text(&v);
        message = text ? strjoin("The budget is used up: ", text, ".") : NULL;
        if (!message)
                return -ENOMEM;
        seconds = v.until_usec > now ? (v.until_usec - now + USEC_PER_SEC - 1) / USEC_PER_SEC : 1;
        return outlet_answer_format(&o->out, id, message, seconds);
}

static void usage_take(Outlet *o, const OutletReport *report) {
        OutletUsage u = { report->model, report->status, report->usage, report->estimated, 0 };
        int r;

        /* A call that was refused or never got there has used nothing. One whose answer nobody has waited for has. */
        if (o->spec.budget && (u.usage.input_tokens > 0 || u.usage.output_tokens > 0)) {
                r = budget_add(o->spec.budget, u.model, &u.usage, 0, &u.cost_micro);
                if (r < 0) {
                        (void) log_warning_errno(r, "What a call of the model has used could not be stored: %m");
                        budget_owe(o->spec.budget, u.model, &u.usage, 0);
                }
        }
        if (o->spec.on_usage)
                o->spec.on_usage(o, &u, o->spec.userdata);
}

static int line_take(Outlet *o, const char *line, size_t size) {
        _cleanup_(outlet_report_done) OutletReport report = {};
        int r;

        r = outlet_report_parse(&report, line, size);
        if (r < 0)
                return r;
        if (report.is_usage) {
                usage_take(o, &report);
                return 0;
        }
        r = answer(o, report.id);
        return r < 0 ? r : out_flush(o);
}

static int lines_take(Outlet *o) {
        char *end;
        int r;

        while (o->in.size > 0 && (end = memchr(o->in.text, '\n', o->in.size))) {
                size_t size = (size_t) (end - o->in.text);

                r = line_take(o, o->in.text, size);
                if (r < 0)
                        return r;
                strbuf_consume(&o->in, size + 1);
        }
        return o->in.size > LINE_SIZE_MAX ? -EMSGSIZE : 0;
}

static int on_io(sd_event_source *s, int fd, uint32_t revents, void *userdata) {
        Outlet *o = userdata;
        char buffer[4096];
        ssize_t n;
        int r = 0;

        if (revents & EPOLLOUT)
                r = out_flush(o);
        if (r >= 0 && (revents & (EPOLLIN|EPOLLHUP|EPOLLERR))) {
                n = recv(fd, buffer, sizeof(buffer), MSG_DONTWAIT);
                if (n == 0) {
                        process_lost(o);
                        return 0;
                }
                if (n < 0)
                        r = errno == EAGAIN || errno == EINTR ? 0 : -errno;
                else {
                        r = strbuf_append(&o->in, buffer, (size_t) n);
                        if (r >= 0)
                                r = lines_take(o);
                }
        }
        if (r < 0) {
                (void) log_warning_errno(r, "The talk with the model endpoint failed, ending it: %m");
                process_lost(o);
        }
        return 0;
}

/* ---- its start ---- */

static int settings_put(Outlet *o) {
        _cleanup_(session_config_freep) SessionConfig *config = NULL;
        OutletSettings s = { .agent = o->agent, .ca_file = o->ca_file, .idle_usec = o->spec.idle_usec,
                             .token = o->token };
        int r;

        r = o->spec.get_config(&config, o->spec.userdata);
        if (r < 0)
                return r;
        s.provider = strempty(config->provider);
        s.base_url = strempty(config->base_url);
        s.api_key = strempty(config->api_key);
        s.fault = config->fault;
        s.allow_hosts = config->agent ? config->agent->allow_hosts : NULL;
        r = outlet_settings_format(&o->out, &s);
        if (r != -EINVAL)
                return r;
        s.fault = "The key of the model provider has control characters.";
        s.api_key = "";
        return outlet_settings_format(&o->out, &s);
}

static int process_start(Outlet *o) {
        static const char *const names[] = { "model", "proxy" };
        const char *argv[] = { "puffo-outlet", NULL, NULL, NULL };
        int pair[2], fds[2], r;
        size_t n = 0;

        for (size_t i = 0; i < ELEMENTSOF(o->listening); i++)
                if (o->listening[i] >= 0) {
                        argv[1 + n] = names[i];
                        fds[n++] = o->listening[i];
                }
        if (socketpair(AF_UNIX, SOCK_STREAM|SOCK_CLOEXEC, 0, pair) < 0)
                return -errno;
        o->fd = pair[0];
        o->started_usec = now_boottime_usec();
        r = sd_event_add_io(o->spec.event, &o->io, o->fd, EPOLLIN, on_io, o);
        if (r >= 0)
                r = settings_put(o);
        if (r >= 0)
                r = helper_start(o->spec.event, o->program, (char *const*) argv, pair[1], fds, n);
        (void) close(pair[1]);
        return r < 0 ? r : out_flush(o);
}

static int on_connection(sd_event_source *s, int fd, uint32_t revents, void *userdata) {
        Outlet *o = userdata;
        int r;

        r = watches_set(o, SD_EVENT_OFF);
        if (r >= 0)
                r = process_start(o);
        if (r < 0) {
                (void) log_error_errno(r, "Failed to start the model endpoint, trying again later: %m");
                process_lost(o);
        }
        return 0;
}

static int watch(Outlet *o, size_t i) {
        int flags, r;

        if (o->listening[i] < 0)
                return 0;
        flags = fcntl(o->listening[i], F_GETFL);
        if (flags < 0 || fcntl(o->listening[i], F_SETFL, flags|O_NONBLOCK) < 0)
                return -errno;
        r = sd_event_add_io(o->spec.event, &o->watches[i], o->listening[i], EPOLLIN, on_connection, o);
        return MIN(r, 0);
}

int outlet_new(Outlet **ret, const OutletSpec *spec) {
        _cleanup_(outlet_freep) Outlet *o = new0(Outlet, 1);
        int r;

        if (!o) {
                (void) safe_close(spec->model_fd);
                (void) safe_close(spec->proxy_fd);
                return -ENOMEM;
        }
        o->spec = *spec;
        o->fd = -EBADF;
        o->listening[0] = spec->model_fd;
        o->listening[1] = spec->proxy_fd;
        o->agent = strdup(strempty(spec->agent));
        o->ca_file = strdup(strempty(spec->ca_file));
        if (!o->agent || !o->ca_file)
                return -ENOMEM;
        if (spec->program) {
                o->program = strdup(spec->program);
                r = o->program ? 0 : -ENOMEM;
        } else
                r = helper_program_path("puffo-outlet", &o->program);
        for (size_t i = 0; i < ELEMENTSOF(o->listening) && r >= 0; i++)
                r = watch(o, i);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(o);
        return 0;
}

Outlet* outlet_free(Outlet *o) {
        if (!o)
                return NULL;

        process_close(o);
        for (size_t i = 0; i < ELEMENTSOF(o->listening); i++) {
                (void) sd_event_source_disable_unref(o->watches[i]);
                (void) safe_close(o->listening[i]);
        }
        (void) sd_event_source_disable_unref(o->retry_timer);
        sodium_memzero(o->token, sizeof(o->token));
        free(o->program);
        free(o->agent);
        free(o->ca_file);
        return mfree(o);
}

int outlet_reload(Outlet *o) {
        int r;

        if (o->fd < 0)
                return 0;
        r = settings_put(o);
        if (r >= 0)
                r = out_flush(o);
        /* One that has died is seen at its socket; the next one reads the configuration anyway. */
        return r == -EPIPE ? 0 : r;
}

int outlet_new_token(Outlet *o, const char **ret) {
        uint8_t bytes[TOKEN_BYTES];

        if (sodium_init() < 0)
                return -EIO;
        randombytes_buf(bytes, sizeof(bytes));
        (void) sodium_bin2base64(o->token, sizeof(o->token), bytes, sizeof(bytes),
                                 sodium_base64_VARIANT_URLSAFE_NO_PADDING);
        sodium_memzero(bytes, sizeof(bytes));
        if (ret)
                *ret = o->token;
        return outlet_reload(o);
}

int outlet_set_token(Outlet *o, const char *token) {
        uint8_t bytes[TOKEN_BYTES];
        size_t n;

        if (*token && (strlen(token) != TOKEN_SIZE - 1 ||
                       sodium_base642bin(bytes, sizeof(bytes), token, TOKEN_SIZE - 1, NULL, &n, NULL,
                                         sodium_base64_VARIANT_URLSAFE_NO_PADDING) < 0 || n != sizeof(bytes)))
                return -EINVAL;
        sodium_memzero(bytes, sizeof(bytes));
        sodium_memzero(o->token, sizeof(o->token));
        memcpy(o->token, token, strlen(token));
        return outlet_reload(o);
}
