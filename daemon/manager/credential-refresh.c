/* SPDX-License-Identifier: MIT */

#include <fcntl.h>

#include "bus-util.h"
#include "config.h"
#include "credential-refresh.h"
#include "event-util.h"
#include "log.h"
#include "string-util.h"
#include "unit-property.h"

#define PROGRAM PKGLIBEXECDIR "/puffo-credentials"
#define PROVIDER "anthropic"
#define UNIT_NAME "puffo-credentials@" PROVIDER ".service"
/* The program keeps within 110 s by itself. */
#define UNIT_TIME_USEC (120 * USEC_PER_SEC)
#define ANSWER_TIME_USEC (150 * USEC_PER_SEC)
/* A session that asks again at once learns the same again. */
#define SAME_ANSWER_USEC (30 * USEC_PER_SEC)
#define CALLS_MAX 1024U
#define WORD_MAX 32U

/* Of the one provider whose login is refreshed so. Made with the first request. */
struct CredentialRefresh {
        Manager *manager;
        sd_bus_message **calls;         /* who waits */
        size_t n_calls;
        sd_bus_slot *start;
        sd_event_source *io, *deadline;
        int fd;                         /* what the program says; < 0: it does not run */
        StrBuf word;
        bool ended;                     /* it has closed its end, before the start was answered */
        char *answer;                   /* the last one */
        uint64_t answered_usec;
};

static void running_done(CredentialRefresh *c) {
        c->start = sd_bus_slot_unref(c->start);
        c->io = sd_event_source_disable_unref(c->io);
        c->deadline = sd_event_source_disable_unref(c->deadline);
        c->fd = safe_close(c->fd);
        strbuf_done(&c->word);
        c->word = (StrBuf) {};
        c->ended = false;
}

static void calls_done(CredentialRefresh *c) {
        for (size_t i = 0; i < c->n_calls; i++)
                sd_bus_message_unref(c->calls[i]);
        free(c->calls);
        c->calls = NULL;
        c->n_calls = 0;
}

CredentialRefresh* credential_refresh_free(CredentialRefresh *c) {
        if (!c)
                return NULL;
        running_done(c);
        calls_done(c);
        free(c->answer);
        return mfree(c);
}

static void finish(CredentialRefresh *c, const char *answer) {
        running_done(c);
        (void) free_and_strdup(&c->answer, answer);
        c->answered_usec = now_boottime_usec();
        for (size_t i = 0; i < c->n_calls; i++)
                (void) sd_bus_reply_method_return(c->calls[i], "s", answer);
        calls_done(c);
}

static void fail(CredentialRefresh *c, const char *error_name, const char *text) {
        running_done(c);
        for (size_t i = 0; i < c->n_calls; i++)
                (void) bus_reply_errorf(c->calls[i], error_name, "%s", text);
        calls_done(c);
}

/* ---- the program's word ---- */

static bool word_is_known(const char *word) {
        static const char *const words[] = { "ok", "not-needed", "busy", "missing", "auth-failed", "failed" };

        for (size_t i = 0; i < ELEMENTSOF(words); i++)
                if (streq(words[i], word))
                        return true;
        return false;
}

/* Nothing, when it was killed. */
static void take_word(CredentialRefresh *c) {
        _cleanup_free_ char *word = strbuf_take(&c->word);

        if (word)
                word[strcspn(word, "\n")] = 0;
        finish(c, word && word_is_known(word) ? word : "failed");
}

static int on_word(sd_event_source *s, int fd, uint32_t revents, void *userdata) {
        CredentialRefresh *c = userdata;
        char buffer[WORD_MAX];
        ssize_t n = read(fd, buffer, sizeof(buffer));

        if (n < 0 && (errno == EAGAIN || errno == EINTR))
                return 0;
        if (n > 0 && c->word.size + (size_t) n <= WORD_MAX && strbuf_append(&c->word, buffer, (size_t) n) >= 0)
                return 0;
        if (c->start) { /* or there is no program: the service manager has dropped it with the request */
                c->ended = true;
                c->io = sd_event_source_disable_unref(c->io);
        } else
                take_word(c);
        return 0;
}

static int on_deadline(sd_event_source *s, uint64_t usec, void *userdata) {
        log_warning(UNIT_NAME " has not said what came of it.");
        finish(userdata, "failed");
        return 0;
}

/* ---- the unit ---- */

/* Nothing that keeps a CLI with a just-in-time compiler from running, and its user's home stays as it is. */
static int append_hardening(sd_bus_message *m) {
        static const char *const flags[] = {
                "PrivateUsers", "PrivateTmp", "PrivateDevices", "PrivateIPC", "NoNewPrivileges",
                "ProtectControlGroups", "ProtectKernelTunables", "ProtectKernelModules", "ProtectClock",
                "ProtectHostname", "LockPersonality", "RestrictRealtime", NULL,
        };
        int r;

        r = unit_append_string(m, "ProtectSystem", "strict");
        if (r >= 0)
                r = unit_append_flags(m, flags);
        if (r >= 0)
                r = unit_append_time(m, "CapabilityBoundingSet", 0);
        if (r >= 0)
                r = unit_append_time(m, "LimitCORE", 0);
        if (r >= 0)
                r = unit_append_time(m, "MemoryMax", MIB(2048));
        if (r >= 0)
                r = unit_append_time(m, "TasksMax", 256);
        return r < 0 ? r : sd_bus_message_append(m, "(sv)", "UMask", "u", 0077U);
}

static int credential_refresh_append(sd_bus_message *m, const char *provider, int stdout_fd) {
        const char *const argv[] = { PROGRAM, provider, NULL };
        _cleanup_free_ char *name = strjoin("puffo-credentials@", provider, ".service"),
                            *description = strjoin("Refresh of the login with ", provider);
        int r;

        if (!name || !description)
                return -ENOMEM;
        r = sd_bus_message_append(m, "ss", name, "fail");
        if (r >= 0)
                r = sd_bus_message_open_container(m, 'a', "(sv)");
        if (r >= 0)
                r = unit_append_string(m, "Description", description);
        if (r >= 0)
                r = unit_append_string(m, "CollectMode", "inactive-or-failed");
        if (r >= 0)
                r = unit_append_string(m, "Type", "exec");
        if (r >= 0) /* RuntimeMaxUSec= does not count for Type=oneshot */
                r = unit_append_time(m, "RuntimeMaxUSec", UNIT_TIME_USEC);
        if (r >= 0)
                r = unit_append_time(m, "TimeoutStopUSec", 5 * USEC_PER_SEC);
        if (r >= 0)
                r = unit_append_string(m, "KillMode", "control-group");
        if (r >= 0)
                r = unit_append_string(m, "Slice", "puffod.slice");
        if (r >= 0)
                r = sd_bus_message_append(m, "(sv)", "StandardOutputFileDescriptor", "h", stdout_fd);
        if (r >= 0) /* with the default, the journal as well, errors would go where the output goes */
                r = unit_append_string(m, "StandardOutput", "null");
        if (r >= 0)
                r = unit_append_string(m, "StandardError", "journal");
        if (r >= 0)
                r = append_hardening(m);
        if (r >= 0)
                r = unit_append_command(m, argv);
        if (r >= 0)
                r = sd_bus_message_close_container(m);
        return r < 0 ? r : sd_bus_message_append(m, "a(sa(sv))", 0);
}

static int on_started(sd_bus_message *m, void *userdata, sd_bus_error *reterr_error) {
        CredentialRefresh *c = userdata;
        const sd_bus_error *e = sd_bus_message_get_error(m);

        c->start = sd_bus_slot_unref(c->start);
        if (sd_bus_error_has_name(e, "org.freedesktop.systemd1.UnitExists")) /* another puffod's */
                finish(c, "busy");
        else if (e) {
                log_warning("Failed to start " UNIT_NAME ": %s", strempty(e->message));
                fail(c, PUFFO_ERROR_FAILED, "The refresh could not be started.");
        } else if (c->ended)
                take_word(c);
        return 0;
}

static int start(CredentialRefresh *c) {
        _cleanup_bus_message_ sd_bus_message *m = NULL;
        _cleanup_close_ int writer = -EBADF;
        int fds[2], r;

        if (pipe2(fds, O_CLOEXEC) < 0)
                return -errno;
        c->fd = fds[0];
        writer = fds[1];
        if (fcntl(c->fd, F_SETFL, O_NONBLOCK) < 0)
                return -errno;

        r = unit_manager_call(c->manager, "StartTransientUnit", &m);
        if (r >= 0)
                r = credential_refresh_append(m, PROVIDER, writer);
        if (r >= 0)
                r = sd_bus_call_async(c->manager->bus, &c->start, m, on_started, c, 0);
        if (r >= 0)
                r = sd_event_add_io(c->manager->event, &c->io, c->fd, EPOLLIN, on_word, c);
        if (r >= 0)
                r = event_arm_timer(c->manager->event, &c->deadline, ANSWER_TIME_USEC, 0, on_deadline, c);
        return r;
}

/* ---- requests ---- */

static int add_call(CredentialRefresh *c, sd_bus_message *message, sd_bus_error *reterr_error) {
        sd_bus_message **grown;

        if (c->n_calls >= CALLS_MAX)
                return bus_error_setf(reterr_error, SD_BUS_ERROR_LIMITS_EXCEEDED, "%zu calls wait already.",
                                      c->n_calls);
        grown = reallocarray(c->calls, c->n_calls + 1, sizeof(sd_bus_message*));
        if (!grown)
                return -ENOMEM;
        c->calls = grown;
        c->calls[c->n_calls++] = sd_bus_message_ref(message);
        return 1;
}

int credential_refresh_method(Manager *m, sd_bus_message *message, sd_bus_error *reterr_error) {
        const char *provider;
        int r = sd_bus_message_read(message, "s", &provider);

        return r < 0 ? r : credential_refresh_ask(m, provider, message, reterr_error);
}

int credential_refresh_ask(Manager *m, const char *provider, sd_bus_message *message, sd_bus_error *reterr_error) {
        CredentialRefresh *c = m->credential_refresh;
        int r;

        if (!streq(provider, PROVIDER))
                return bus_error_setf(reterr_error, PUFFO_ERROR_INVALID_ARGUMENT,
                                      "There is no login with '%.80s' that could be refreshed.", provider);
        if (m->scope == SCOPE_SYSTEM)
                return sd_bus_error_set(reterr_error, SD_BUS_ERROR_NOT_SUPPORTED,
                                        "In system mode there is no operator whose login could be refreshed.");

        if (!c) {
                c = new0(CredentialRefresh, 1);
                if (!c)
                        return -ENOMEM;
                *c = (CredentialRefresh) { .manager = m, .fd = -EBADF };
                m->credential_refresh = c;
        }
        if (c->fd < 0 && c->answer && now_boottime_usec() - c->answered_usec < SAME_ANSWER_USEC)
                return sd_bus_reply_method_return(message, "s", c->answer);
        r = add_call(c, message, reterr_error);
        if (r < 0 || c->fd >= 0)
                return r;
        r = start(c);
        if (r < 0) {
                running_done(c);
                calls_done(c);
                return r;
        }
        return 1;
}
