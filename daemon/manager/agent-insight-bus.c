/* SPDX-License-Identifier: MIT */

/* Looking into an agent: its journal, its processes, a copy of it to take away. */

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>

#include "agent-file.h"
#include "agent-turn-bus.h"
#include "bus-util.h"
#include "file-util.h"
#include "helpers.h"
#include "option.h"
#include "private-server.h"
#include "string-util.h"
#include "unit.h"

#define JOURNAL_LINES_DEFAULT 100U
#define COMMAND_LINE_MAX 4096U

/* --- journal --- */

static const RuntimeOption journal_options[] = {
        { "Follow", 'b' }, { "Lines", 'u' }, { "Since", 't' }, {},
};

typedef struct JournalCall {
        sd_bus_message *call;
        int stream;
} JournalCall;

static int on_journal_started(sd_bus_message *m, void *userdata, sd_bus_error *reterr_error) {
        const sd_bus_error *e = sd_bus_message_get_error(m);
        JournalCall *j = userdata;

        (void) (e ? sd_bus_reply_method_error(j->call, e) : sd_bus_reply_method_return(j->call, "h", j->stream));
        sd_bus_message_unref(j->call);
        safe_close(j->stream);
        free(j);
        return 0;
}

/* journalctl does it: what may be read of which journal, rotation and following are its trade. The unit's fields are
 * written by journald itself and cannot be made up by a session; PUFFO_AGENT= is taken from puffod only. */
static int start_journal(Agent *a, const RuntimeOptions *o, int fd, JournalCall *j) {
        bool user = a->manager->scope == SCOPE_USER, follow = runtime_options_bool(o, "Follow", false);
        _cleanup_free_ char *name = NULL, *id = random_hex(8), *lines = NULL, *since = NULL, *by_unit = NULL,
                            *by_manager = NULL, *by_agent = NULL, *by_us = NULL;
        const char *argv[16] = { "/usr/bin/journalctl", "--output=json", "--no-pager", "--all" };
        size_t n = 4;
        uint64_t usec = runtime_options_number(o, "Since", 0);

        name = id ? strjoin("puffo-journal-", id, ".service") : NULL;
        lines = asprintf_new("--lines=%" PRIu64, runtime_options_number(o, "Lines", JOURNAL_LINES_DEFAULT));
        since = asprintf_new("--since=@%" PRIu64 ".%06" PRIu64, usec / USEC_PER_SEC, usec % USEC_PER_SEC);
        by_unit = strjoin(user ? "_SYSTEMD_USER_UNIT=" : "_SYSTEMD_UNIT=", a->unit);
        by_manager = strjoin(user ? "USER_UNIT=" : "UNIT=", a->unit);
        by_agent = strjoin("PUFFO_AGENT=", a->home->id);
        by_us = strdup(user ? "_SYSTEMD_USER_UNIT=puffod.service" : "_SYSTEMD_UNIT=puffod.service");
        if (!name || !lines || !since || !by_unit || !by_manager || !by_agent || !by_us)
                return -ENOMEM;

        argv[n++] = lines;
        if (usec > 0)
                argv[n++] = since;
        if (follow)
                argv[n++] = "--follow";
        argv[n++] = by_unit;
        argv[n++] = "+";
        argv[n++] = by_manager;
        argv[n++] = "+";
        argv[n++] = by_agent;
        argv[n++] = by_us;
        return unit_start_reader(a->manager, name, argv, fd, follow, on_journal_started, j);
}

int agent_method_open_journal(sd_bus_message *message, void *userdata, sd_bus_error *reterr_error) {
        _cleanup_(runtime_options_done) RuntimeOptions options = {};
        Agent *a = userdata;
        JournalCall *j;
        int fds[2], r;

        r = options_read(message, journal_options, NULL, &options, reterr_error);
        if (r < 0)
                return r;
        r = agent_verify(a, message, "ai.puffo.agents.chat", reterr_error);
        if (r <= 0)
                return r < 0 ? r : 1;
        if (pipe2(fds, O_CLOEXEC) < 0)
                return -errno;

        j = new0(JournalCall, 1);
        if (!j) {
                safe_close(fds[0]);
                safe_close(fds[1]);
                return -ENOMEM;
        }
        *j = (JournalCall) { sd_bus_message_ref(message), fds[0] };
        r = start_journal(a, &options, fds[1], j);
        safe_close(fds[1]);
        if (r < 0) {
                sd_bus_message_unref(j->call);
                safe_close(j->stream);
                free(j);
                return r;
        }
        return 1;
}

/* --- processes --- */

static uint32_t parent_of(uint32_t pid) {
        _cleanup_free_ char *path = asprintf_new("/proc/%u/stat", pid), *stat = NULL;
        unsigned parent = 0;
        char *end;

        /* "pid (name, which may contain anything) state ppid …" */
        if (!path || file_read(path, KIB(4), &stat, NULL) < 0 || !(end = strrchr(stat, ')')) ||
            sscanf(end + 1, " %*c %u", &parent) != 1)
                return 0;
        return parent;
}

/* What looks like a key is nobody's business: the value behind "key", "token" or "secret", and "sk-…". */
static void mask_secrets(char *s) {
        static const char *const markers[] = {
                        "sk-", "api-key=", "api_key=", "apikey=", "token=", "secret=", "password="};

        for (size_t i = 0; i < ELEMENTSOF(markers); i++)
                for (char *p = strcasestr(s, markers[i]); p; p = strcasestr(p, markers[i])) {
                        p += strlen(markers[i]);
                        for (; *p && *p != ' '; p++)
                                *p = '*';
                }
}

static int append_processes(sd_bus_message *reply, sd_bus_message *m, const char *unit) {
        const char *command;
        uint32_t pid;
        int r;

        r = sd_bus_message_enter_container(m, 'a', "(sus)");
        if (r < 0)
                return r;
        while ((r = sd_bus_message_read(m, "(sus)", NULL, &pid, &command)) > 0) {
                _cleanup_free_ char *text = str_printable(command, COMMAND_LINE_MAX);

                if (!text)
                        return -ENOMEM;
                mask_secrets(text);
                r = sd_bus_message_append(reply, "(suus)", unit, pid, parent_of(pid), text);
                if (r < 0)
                        return r;
        }
        return r;
}

typedef struct ProcessCall {
        sd_bus_message *call, *reply;
        Manager *manager;
        char *harness_unit;
} ProcessCall;

static void process_call_free(ProcessCall *p) {
        sd_bus_message_unref(p->call);
        sd_bus_message_unref(p->reply);
        free(p->harness_unit);
        free(p);
}

/* A unit that is not there has no processes. */
static int on_harness_processes(sd_bus_message *m, void *userdata, sd_bus_error *reterr_error) {
        ProcessCall *p = userdata;
        int r = 0;

        if (!sd_bus_message_is_method_error(m, NULL))
                r = append_processes(p->reply, m, p->harness_unit);
        if (r >= 0)
                r = sd_bus_message_close_container(p->reply);
        (void) (r < 0 ? sd_bus_reply_method_errno(p->call, r, NULL) : sd_bus_send(NULL, p->reply, NULL));
        process_call_free(p);
        return 0;
}

static int ask_processes(Manager *m, const char *unit, sd_bus_message_handler_t callback, void *userdata) {
        return sd_bus_call_method_async(m->bus, NULL, "org.freedesktop.systemd1", "/org/freedesktop/systemd1",
                                        "org.freedesktop.systemd1.Manager", "GetUnitProcesses", callback, userdata,
                                        "s", unit);
}

static int on_session_processes(sd_bus_message *m, void *userdata, sd_bus_error *reterr_error) {
        _cleanup_free_ char *unit = NULL;
        ProcessCall *p = userdata;
        int r = 0;

        unit = strjoin("puffo-session@", p->harness_unit + strlen("puffo-harness@"));
        if (!unit)
                r = -ENOMEM;
        else if (!sd_bus_message_is_method_error(m, NULL))
                r = append_processes(p->reply, m, unit);
        if (r >= 0)
                r = ask_processes(p->manager, p->harness_unit, on_harness_processes, p);
        if (r < 0) {
                (void) sd_bus_reply_method_errno(p->call, r, NULL);
                process_call_free(p);
        }
        return 0;
}

int agent_method_get_processes(sd_bus_message *message, void *userdata, sd_bus_error *reterr_error) {
        Agent *a = userdata;
        ProcessCall *p;
        int r;

        r = agent_verify(a, message, "ai.puffo.agents.chat", reterr_error);
        if (r <= 0)
                return r < 0 ? r : 1;
        p = new0(ProcessCall, 1);
        if (!p)
                return -ENOMEM;
        *p = (ProcessCall) {
                .call = sd_bus_message_ref(message),
                .manager = a->manager,
                .harness_unit = strjoin("puffo-harness@", a->unit + strlen("puffo-session@")),
        };
        r = p->harness_unit ? sd_bus_message_new_method_return(message, &p->reply) : -ENOMEM;
        if (r >= 0)
                r = sd_bus_message_open_container(p->reply, 'a', "(suus)");
        if (r >= 0)
                r = ask_processes(a->manager, a->unit, on_session_processes, p);
        if (r < 0) {
                process_call_free(p);
                return r;
        }
        return 1;
}

/* --- export --- */

static const RuntimeOption export_options[] = {
        { "Secrets", 'b' }, { "Workspace", 'b' }, { "Messages", 'b' }, {},
};

typedef struct ExportCall {
        Manager *manager;
        sd_bus_message *call;
        uid_t uid;
        char *agent_id;
        ExportFlags flags;
        bool messages;
        int destination, backup;
} ExportCall;

static void export_call_free(ExportCall *e) {
        transfer_end(e->manager, e->uid);
        sd_bus_message_unref(e->call);
        safe_close(e->destination);
        safe_close(e->backup);
        free(e->agent_id);
        free(e);
}

typedef struct ExportArgs {
        const Agent *agent;
        const ExportCall *call;
} ExportArgs;

static int export_run(void *userdata, char **ret_text) {
        const ExportArgs *args = userdata;
        _cleanup_close_ int stopped = -EBADF, wal = -EBADF;
        const Agent *a = args->agent;
        int messages = args->call->backup;

        if (args->call->messages && messages < 0) {
                /* An agent that has never run has none. */
                messages = stopped = agent_file_open(a->home->directory, "messages.db", O_RDONLY | O_NONBLOCK);
                if (stopped < 0 && stopped != -ENOENT)
                        return stopped;
                if (stopped >= 0)
                        wal = agent_file_open(a->home->directory, "messages.db-wal", O_RDONLY | O_NONBLOCK);
                if (wal < 0 && wal != -ENOENT && wal != -EBADF)
                        return wal;
        }
        return agent_home_export(a->home, a->config, args->call->flags, messages, wal, args->call->destination);
}

static void export_done(int r, const char *text, void *userdata) {
        _cleanup_bus_error_ sd_bus_error error = SD_BUS_ERROR_NULL;
        ExportCall *e = userdata;

        if (r < 0) {
                (void) manager_error(&error, r, "export agent", e->agent_id);
                (void) sd_bus_reply_method_error(e->call, &error);
        } else
                (void) sd_bus_reply_method_return(e->call, NULL);
        export_call_free(e);
}

static int export_start(ExportCall *e) {
        const Agent *a = manager_find_agent(e->manager, e->agent_id);
        ExportArgs args = { a, e };

        return a && a->config ? worker_run(e->manager->event, export_run, &args, TRANSFER_TIME_USEC, export_done, e)
                              : -ENOENT;
}

static int on_backup(sd_bus_message *m, void *userdata, sd_bus_error *reterr_error) {
        const sd_bus_error *error = sd_bus_message_get_error(m);
        ExportCall *e = userdata;
        int r;

        if (error) {
                (void) sd_bus_reply_method_error(e->call, error);
                export_call_free(e);
                return 0;
        }
        r = export_start(e);
        if (r < 0) {
                (void) sd_bus_reply_method_errno(e->call, r, NULL);
                export_call_free(e);
        }
        return 0;
}

/* The database belongs to the session; while there is one, it makes the copy. */
static int ask_for_backup(Agent *a, ExportCall *e) {
        _cleanup_bus_message_ sd_bus_message *call = NULL;
        int r;

        e->backup = open(a->home->directory, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
        if (e->backup < 0)
                return -errno;
        r = session_link_new_call(a->link, "BackupMessages", &call);
        if (r >= 0)
                r = sd_bus_message_append(call, "h", e->backup);
        return r < 0 ? r : session_link_call(a->link, call, on_backup, e, 10 * 60 * USEC_PER_SEC);
}

int agent_method_export(sd_bus_message *message, void *userdata, sd_bus_error *reterr_error) {
        _cleanup_(runtime_options_done) RuntimeOptions options = {};
        Agent *a = userdata;
        uid_t uid = 0;
        ExportCall *e;
        int fd, r;

        r = sd_bus_message_read(message, "h", &fd);
        if (r >= 0)
                r = options_read(message, export_options, NULL, &options, reterr_error);
        if (r < 0)
                return r;
        r = agent_verify(a, message, "ai.puffo.agents.manage", reterr_error);
        if (r <= 0)
                return r < 0 ? r : 1;
        r = agent_check_stays(a, reterr_error);
        if (r >= 0)
                r = manager_sender_uid(message, &uid);
        if (r >= 0)
                r = transfer_begin(a->manager, uid, reterr_error);
        if (r < 0)
                return r;

        e = new0(ExportCall, 1);
        if (!e) {
                transfer_end(a->manager, uid);
                return -ENOMEM;
        }
        *e = (ExportCall) {
                .manager = a->manager,
                .call = sd_bus_message_ref(message),
                .uid = uid,
                .agent_id = strdup(a->home->id),
                .flags = (runtime_options_bool(&options, "Secrets", false) ? EXPORT_SECRETS : 0) |
                         (runtime_options_bool(&options, "Workspace", false) ? EXPORT_WORKSPACE : 0),
                .messages = runtime_options_bool(&options, "Messages", false),
                .destination = fcntl(fd, F_DUPFD_CLOEXEC, 3),
                .backup = -EBADF,
        };
        r = e->agent_id && e->destination >= 0 ? 0 : -ENOMEM;
        if (r >= 0)
                r = e->messages && a->link ? ask_for_backup(a, e) : export_start(e);
        if (r < 0) {
                export_call_free(e);
                return manager_error(reterr_error, r, "export agent", a->home->id);
        }
        return 1;
}
