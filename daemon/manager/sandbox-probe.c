/* SPDX-License-Identifier: MIT */

#include <fcntl.h>
#include <sys/stat.h>
#include <systemd/sd-id128.h>

#include "bus-util.h"
#include "config.h"
#include "event-util.h"
#include "file-util.h"
#include "harness-properties.h"
#include "json-util.h"
#include "log.h"
#include "sandbox-probe.h"
#include "string-util.h"
#include "unit-property.h"

#define ANSWER_MAX KIB(64)
#define REASON_MAX 600U
#define PROBE_TIME_USEC (30 * USEC_PER_SEC)
#define RETRY_USEC (10 * USEC_PER_SEC)
#define CACHE_NAME "sandbox.json"
#define OK "ok"

/* One profile. */
typedef struct Trial {
        SandboxProbe *probe;
        SandboxProfile profile;
        char *unit, *path;
        char *verdict;                  /* OK or what is missing; NULL: not known */
        bool is_lasting;                /* else it could not be found out, and is tried again */
        uint64_t concluded_usec;        /* CLOCK_BOOTTIME */
        bool running;
        sd_bus_slot *slot;
        sd_event_source *io, *timeout;
        int fd;
        StrBuf answer;
        bool ended;                     /* … the answer has */
        char *job_result;
} Trial;

struct SandboxProbe {
        Manager *manager;
        char *key;                      /* of what the verdicts hold for; NULL: not asked for yet */
        char *cache;                    /* NULL: nowhere to keep them */
        sd_bus_slot *key_slot;
        Trial trials[_SANDBOX_PROFILE_MAX];
};

int sandbox_probe_new(SandboxProbe **ret, Manager *m) {
        SandboxProbe *p = new0(SandboxProbe, 1);
        const char *directory = getenv("RUNTIME_DIRECTORY");

        if (!p)
                return -ENOMEM;
        p->manager = m;
        if (directory && *directory == '/' && !strchr(directory, ':'))
                p->cache = strjoin(directory, "/" CACHE_NAME);
        for (SandboxProfile i = 0; i < _SANDBOX_PROFILE_MAX; i++)
                p->trials[i] = (Trial) { .probe = p, .profile = i, .fd = -EBADF };
        *ret = p;
        return 0;
}

static void trial_stop(Trial *t) {
        t->slot = sd_bus_slot_unref(t->slot);
        t->io = sd_event_source_disable_unref(t->io);
        t->timeout = sd_event_source_disable_unref(t->timeout);
        t->fd = safe_close(t->fd);
        strbuf_done(&t->answer);
        t->answer = (StrBuf) {};
        t->job_result = mfree(t->job_result);
        t->unit = mfree(t->unit);
        t->path = mfree(t->path);
        t->ended = t->running = false;
}

SandboxProbe* sandbox_probe_free(SandboxProbe *p) {
        if (!p)
                return NULL;
        for (SandboxProfile i = 0; i < _SANDBOX_PROFILE_MAX; i++) {
                trial_stop(p->trials + i);
                free(p->trials[i].verdict);
        }
        sd_bus_slot_unref(p->key_slot);
        free(p->cache);
        free(p->key);
        return mfree(p);
}

/* --- keeping what is known --- */

static void cache_write(const SandboxProbe *p) {
        _cleanup_json_ json_object *o = json_object_new_object();
        const char *text;
        size_t size;
        int r;

        if (!p->cache || !o || json_put_string(o, "key", p->key) < 0)
                return;
        for (SandboxProfile i = 0; i < _SANDBOX_PROFILE_MAX; i++)
                if (p->trials[i].verdict && p->trials[i].is_lasting &&
                    json_put_string(o, sandbox_profile_to_string(i), p->trials[i].verdict) < 0)
                        return;
        text = json_text(o, &size);
        r = text ? file_write_snapshot(p->cache, text, size, 0600) : -ENOMEM;
        if (r < 0)
                (void) log_warning_errno(r, "Failed to keep in '%s' what sandboxes can do, ignoring: %m", p->cache);
}

static void cache_read(SandboxProbe *p) {
        _cleanup_json_ json_object *o = NULL;
        _cleanup_free_ char *text = NULL;
        size_t size;

        if (!p->cache || file_read(p->cache, KIB(64), &text, &size) < 0 || json_parse(text, size, &o) < 0 ||
            !streq_ptr(json_get_string(o, "key"), p->key))
                return;
        for (SandboxProfile i = 0; i < _SANDBOX_PROFILE_MAX; i++) {
                const char *verdict = json_get_string(o, sandbox_profile_to_string(i));

                if (verdict && free_and_strdup(&p->trials[i].verdict, verdict) >= 0)
                        p->trials[i].is_lasting = true;
        }
}

static void emit_changed(const SandboxProbe *p) {
        (void) sd_bus_emit_properties_changed(p->manager->bus, PUFFO_BUS_PATH, PUFFO_BUS_MANAGER_INTERFACE, "Sandbox",
                                              NULL);
}

/* The verdict is taken over; NULL: out of memory. */
static void conclude(Trial *t, bool is_lasting, char *verdict) {
        SandboxProbe *p = t->probe;

        trial_stop(t);
        free(t->verdict);
        t->verdict = verdict ?: strdup("out of memory");
        t->is_lasting = is_lasting && verdict;
        t->concluded_usec = now_boottime_usec();
        if (verdict && streq(verdict, OK))
                log_info("The sandbox '%s' keeps what it promises.", sandbox_profile_to_string(t->profile));
        else
                log_warning("The sandbox '%s' cannot be had here: %s", sandbox_profile_to_string(t->profile),
                            strempty(t->verdict));
        if (t->is_lasting)
                cache_write(p);
        emit_changed(p);
        manager_queue_settle(p->manager);
}

/* --- trying --- */

static int append_reasons(StrBuf *b, json_object *list, const char *before) {
        int r = 0;

        for (size_t i = 0; i < json_object_array_length(list) && r >= 0; i++) {
                json_object *o = json_object_array_get_idx(list, i);

                r = strbuf_printf(b, "%s%s%s", b->size > 0 ? "; " : "", before,
                                  json_object_is_type(o, json_type_string) ? json_object_get_string(o) : "?");
        }
        return r;
}

/* What a puffo-sandbox that was to look for ways out has said: 0 when there are none, else -EPERM with *ret_reason;
 * -EBADMSG. */
static int sandbox_probe_parse(const char *text, size_t size, SandboxProfile profile, char **ret_reason) {
        _cleanup_json_ json_object *o = NULL;
        _cleanup_(strbuf_done) StrBuf b = {};
        json_object *violations, *missing;
        int r;

        r = json_parse(text, size, &o);
        if (r < 0)
                return r;
        violations = json_get(o, "violations");
        missing = json_get(o, "missing");
        if (!json_object_is_type(violations, json_type_array) || !json_object_is_type(missing, json_type_array) ||
            !streq_ptr(json_get_string(o, "profile"), sandbox_profile_to_string(profile)))
                return -EBADMSG;
        if (json_object_array_length(violations) == 0 && json_object_array_length(missing) == 0)
                return 0;
        r = append_reasons(&b, missing, "");
        if (r >= 0)
                r = append_reasons(&b, violations, "from within it one can ");
        if (r < 0)
                return r;
        *ret_reason = str_printable(b.text, REASON_MAX);
        return *ret_reason ? -EPERM : -ENOMEM;
}

static const char* journal_hint(const Trial *t) {
        return t->probe->manager->scope == SCOPE_USER ? "journalctl --user --unit='puffo-probe-*'"
                                                      : "journalctl --unit='puffo-probe-*'";
}

static int on_status(sd_bus_message *m, void *userdata, sd_bus_error *reterr_error) {
        Trial *t = userdata;
        const char *step = NULL;
        int32_t status = 0;

        t->slot = sd_bus_slot_unref(t->slot);
        if (!sd_bus_message_is_method_error(m, NULL) && sd_bus_message_read(m, "v", "i", &status) >= 0)
                step = unit_sandbox_step(status);
        (void) sd_bus_call_method_async(t->probe->manager->bus, NULL, SYSTEMD, SYSTEMD_PATH, SYSTEMD_MANAGER,
                                        "UnrefUnit", NULL, NULL, "s", t->unit);
        if (step)
                conclude(t, true, asprintf_new("the service manager cannot make it (step: %s); see %s", step,
                                               journal_hint(t)));
        else
                conclude(t, false, asprintf_new("the look for ways out of it has failed (status %d); see %s", status,
                                                journal_hint(t)));
        return 0;
}

/* How it ended is asked for only when it had nothing to say. */
static void check_ended(Trial *t) {
        _cleanup_free_ char *reason = NULL;
        int r;

        if (t->ended && t->answer.size > 0) {
                r = sandbox_probe_parse(t->answer.text, t->answer.size, t->profile, &reason);
                (void) sd_bus_call_method_async(t->probe->manager->bus, NULL, SYSTEMD, SYSTEMD_PATH, SYSTEMD_MANAGER,
                                                "UnrefUnit", NULL, NULL, "s", t->unit);
                if (r == 0)
                        conclude(t, true, strdup(OK));
                else if (r == -EPERM)
                        conclude(t, true, TAKE_PTR(reason));
                else
                        conclude(t, false, strdup("the look for ways out of it gave no answer that could be read"));
                return;
        }
        if (!t->ended || !t->job_result || t->slot)
                return;
        r = sd_bus_call_method_async(t->probe->manager->bus, &t->slot, SYSTEMD, t->path,
                                     "org.freedesktop.DBus.Properties", "Get", on_status, t, "ss", SYSTEMD_SERVICE,
                                     "ExecMainStatus");
        if (r < 0)
                conclude(t, false, strdup(strerror(-r)));
}

void sandbox_probe_on_job_removed(SandboxProbe *p, const char *unit, const char *result) {
        for (SandboxProfile i = 0; p && i < _SANDBOX_PROFILE_MAX; i++) {
                Trial *t = p->trials + i;

                if (!t->running || !streq_ptr(t->unit, unit) || free_and_strdup(&t->job_result, result) < 0)
                        continue;
                check_ended(t);
        }
}

static int on_answer(sd_event_source *s, int fd, uint32_t revents, void *userdata) {
        Trial *t = userdata;
        char buffer[4096];
        ssize_t n = read(fd, buffer, sizeof(buffer));

        if (n < 0 && (errno == EAGAIN || errno == EINTR))
                return 0;
        if (n > 0 && t->answer.size + (size_t) n <= ANSWER_MAX &&
            strbuf_append(&t->answer, buffer, (size_t) n) >= 0)
                return 0;
        t->io = sd_event_source_disable_unref(t->io);
        t->ended = true;
        check_ended(t);
        return 0;
}

static int on_timeout(sd_event_source *s, uint64_t usec, void *userdata) {
        Trial *t = userdata;

        (void) sd_bus_call_method_async(t->probe->manager->bus, NULL, SYSTEMD, SYSTEMD_PATH, SYSTEMD_MANAGER,
                                        "StopUnit", NULL, NULL, "ss", t->unit, "replace");
        (void) sd_bus_call_method_async(t->probe->manager->bus, NULL, SYSTEMD, SYSTEMD_PATH, SYSTEMD_MANAGER,
                                        "UnrefUnit", NULL, NULL, "s", t->unit);
        conclude(t, false, asprintf_new("the look for ways out of it has not ended in time; see %s", journal_hint(t)));
        return 0;
}

static int on_started(sd_bus_message *m, void *userdata, sd_bus_error *reterr_error) {
        const sd_bus_error *e = sd_bus_message_get_error(m);
        Trial *t = userdata;

        t->slot = sd_bus_slot_unref(t->slot);
        if (e)
                conclude(t, false, asprintf_new("the look for ways out of it was not started: %s",
                                                e->message ?: e->name));
        else
                check_ended(t);
        return 0;
}

static int trial_begin(Trial *t) {
        _cleanup_bus_message_ sd_bus_message *m = NULL;
        _cleanup_close_ int writer = -EBADF;
        _cleanup_free_ char *salt = random_hex(4), *reason = NULL;
        Manager *manager = t->probe->manager;
        int fds[2], r;

        /* Another name each time: whatever one of before has left behind is not in the way. */
        t->unit = salt ? strjoin("puffo-probe-", sandbox_profile_to_string(t->profile), "-", salt, ".service") : NULL;
        if (!t->unit)
                return -ENOMEM;
        r = sd_bus_path_encode("/org/freedesktop/systemd1/unit", t->unit, &t->path);
        if (r < 0)
                return r;
        if (pipe2(fds, O_CLOEXEC) < 0)
                return -errno;
        t->fd = fds[0];
        writer = fds[1];
        if (fcntl(t->fd, F_SETFL, O_NONBLOCK) < 0)
                return -errno;
        r = sd_event_add_io(manager->event, &t->io, t->fd, EPOLLIN, on_answer, t);
        if (r >= 0)
                r = event_arm_timer(manager->event, &t->timeout, PROBE_TIME_USEC, 0, on_timeout, t);
        if (r >= 0)
                r = unit_manager_call(manager, "StartTransientUnit", &m);
        if (r >= 0)
                r = unit_append_probe(m, manager, t->unit, t->profile, writer, &reason);
        if (r >= 0)
                r = sd_bus_call_async(manager->bus, &t->slot, m, on_started, t, 0);
        t->running = r >= 0;
        if (r < 0 && reason) { /* tried again after a while: the user may have put it right */
                conclude(t, false, TAKE_PTR(reason));
                return -EOPNOTSUPP;
        }
        return r;
}

/* --- what a verdict holds for --- */

/* "<boot>-<start of the service manager>-<its version>-<our program>". */
static int make_key(SandboxProbe *p, const char *version, uint64_t started) {
        struct stat st = {};
        sd_id128_t boot;
        int r = sd_id128_get_boot(&boot);

        if (r < 0)
                return r;
        (void) stat(PKGLIBEXECDIR "/puffo-sandbox", &st);
        p->key = asprintf_new(SD_ID128_FORMAT_STR "-%" PRIu64 "-%s-" PROJECT_VERSION "-%" PRIu64 "-%" PRIu64
                              "-%" PRIu64, SD_ID128_FORMAT_VAL(boot), started, version, (uint64_t) st.st_ino,
                              (uint64_t) st.st_mtim.tv_sec, (uint64_t) st.st_mtim.tv_nsec);
        return p->key ? 0 : -ENOMEM;
}

static int on_manager_properties(sd_bus_message *m, void *userdata, sd_bus_error *reterr_error) {
        const char *version = "", *name;
        SandboxProbe *p = userdata;
        uint64_t started = 0;
        int r;

        p->key_slot = sd_bus_slot_unref(p->key_slot);
        r = sd_bus_message_is_method_error(m, NULL) ? -EIO : sd_bus_message_enter_container(m, 'a', "{sv}");
        while (r >= 0 && (r = sd_bus_message_enter_container(m, 'e', "sv")) > 0) {
                r = sd_bus_message_read(m, "s", &name);
                if (r >= 0)
                        r = streq(name, "Version")                         ? sd_bus_message_read(m, "v", "s", &version)
                            : streq(name, "UserspaceTimestampMonotonic") ? sd_bus_message_read(m, "v", "t", &started)
                                                                           : sd_bus_message_skip(m, "v");
                if (r >= 0)
                        r = sd_bus_message_exit_container(m);
        }
        if (r >= 0)
                r = make_key(p, version, started);
        if (r >= 0)
                cache_read(p);
        else {
                (void) log_warning_errno(r, "The service manager does not tell who it is, so that what sandboxes can "
                                            "do is found out anew by each puffod: %m");
                p->cache = mfree(p->cache);
                p->key = strdup("");
        }
        emit_changed(p);
        manager_queue_settle(p->manager);
        return 0;
}

int sandbox_probe_check(SandboxProbe *p, SandboxProfile profile, const char **ret_reason) {
        Trial *t = p->trials + profile;
        int r;

        if (!p->key) {
                if (!p->key_slot) {
                        r = sd_bus_call_method_async(p->manager->bus, &p->key_slot, SYSTEMD, SYSTEMD_PATH,
                                                     "org.freedesktop.DBus.Properties", "GetAll",
                                                     on_manager_properties, p, "s", SYSTEMD_MANAGER);
                        if (r < 0) {
                                *ret_reason = strerror(-r);
                                return r;
                        }
                }
                return 0;
        }
        if (t->running)
                return 0;
        if (t->verdict && (t->is_lasting || now_boottime_usec() < t->concluded_usec + RETRY_USEC)) {
                if (streq(t->verdict, OK))
                        return 1;
                *ret_reason = t->verdict;
                return -EOPNOTSUPP;
        }
        r = trial_begin(t);
        if (r < 0) {
                trial_stop(t);
                *ret_reason = r == -EOPNOTSUPP && t->verdict ? t->verdict : strerror(-r);
                return r;
        }
        return 0;
}

void sandbox_probe_forget_failures(SandboxProbe *p) {
        bool changed = false;

        for (SandboxProfile i = 0; p && i < _SANDBOX_PROFILE_MAX; i++)
                if (p->trials[i].verdict && !streq(p->trials[i].verdict, OK)) {
                        p->trials[i].verdict = mfree(p->trials[i].verdict);
                        changed = true;
                }
        if (changed) {
                cache_write(p);
                emit_changed(p);
        }
}

int sandbox_probe_property_get(sd_bus *bus, const char *path, const char *interface, const char *property,
                               sd_bus_message *reply, void *userdata, sd_bus_error *reterr_error) {
        const SandboxProbe *p = ((Manager*) userdata)->sandbox_probe;
        int r = sd_bus_message_open_container(reply, 'a', "{ss}");

        for (SandboxProfile i = 0; p && i < _SANDBOX_PROFILE_MAX && r >= 0; i++)
                if (p->trials[i].verdict)
                        r = sd_bus_message_append(reply, "{ss}", sandbox_profile_to_string(i), p->trials[i].verdict);
        return r < 0 ? r : sd_bus_message_close_container(reply);
}
