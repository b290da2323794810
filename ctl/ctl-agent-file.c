/* SPDX-License-Identifier: MIT */

/* An agent's texts and files: profile, memory, workspace, and the whole of it as a zip. */

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "ctl-bus.h"
#include "ctl-line.h"
#include "ctl-verbs.h"
#include "file-util.h"
#include "string-util.h"

#define TEXT_SIZE_MAX MIB(1)

const Option export_options[] = {
        { "secrets", 0, NULL, "with its keys" },
        { "workspace", 0, NULL, "with its workspace" },
        { "messages", 0, NULL, "with its conversations" },
        { "force", 0, NULL, "replace a file that is there" },
        {},
};

const Option files_options[] = {
        { "get", 0, "FILE", "print a file of the workspace instead" },
        {},
};

/* Text that came from an agent: as it is for a pipe, safe for a terminal. */
static void print_text(const char *text) {
        size_t n = strlen(text);

        if (isatty(STDOUT_FILENO))
                (void) text_write_safe(stdout, text);
        else
                (void) fwrite(text, 1, n, stdout);
        if (n > 0 && text[n - 1] != '\n')
                fputc('\n', stdout);
}

/* --- profile --- */

static int write_profile(Ctl *c, const char *id, const char *text) {
        _cleanup_bus_error_ sd_bus_error error = SD_BUS_ERROR_NULL;
        int r;

        if (!utf8_is_valid(text, strlen(text)))
                return ctl_fail(c, "cannot write the profile of agent '%s': it is no UTF-8 text", id);
        r = ctl_call_agent(c, id, &error, NULL, CTL_CALL_TIMEOUT_USEC, "WriteProfile", "s", text);
        if (r < 0)
                return ctl_fail_bus(c, r, &error, "cannot write the profile of agent '%s'", id);
        return ctl_print_done(c, id, "profile written");
}

/* Waits for the editor. Words of $EDITOR are separated by blanks ("code --wait"). */
static int run_editor(Ctl *c, const char *path) {
        const char *editor = getenv("VISUAL") ?: getenv("EDITOR") ?: "editor";
        _cleanup_free_ char *words = strdup(isempty(editor) ? "editor" : editor);
        char *argv[16], *state = NULL;
        size_t n = 0;
        int status;
        pid_t pid;

        if (!words)
                return ctl_oom(c);
        for (char *w = strtok_r(words, " ", &state); w && n < ELEMENTSOF(argv) - 2; w = strtok_r(NULL, " ", &state))
                argv[n++] = w;
        argv[n++] = (char*) path;
        argv[n] = NULL;

        fflush(NULL);
        pid = fork();
        if (pid < 0)
                return ctl_fail(c, "cannot start '%s': %m", argv[0]);
        if (pid == 0) {
                execvp(argv[0], argv);
                _exit(127);
        }
        if (waitpid(pid, &status, 0) < 0)
                return ctl_fail(c, "cannot wait for '%s': %m", argv[0]);
        if (WIFEXITED(status) && WEXITSTATUS(status) == 127)
                return ctl_fail(c, "cannot run the editor '%s' (set EDITOR)", argv[0]);
        return WIFEXITED(status) && WEXITSTATUS(status) == 0
                               ? 0
                               : ctl_fail(c, "'%s' failed, nothing was changed", argv[0]);
}

static int edit_profile(Ctl *c, const char *id, const char *before) {
        const char *directory = getenv("TMPDIR") ?: "/tmp";
        _cleanup_free_ char *path = strjoin(directory, "/puffo-profile-XXXXXX.md"), *after = NULL;
        _cleanup_close_ int fd = -EBADF;
        size_t size;
        int r, status;

        if (!path)
                return ctl_oom(c);
        fd = mkostemps(path, strlen(".md"), O_CLOEXEC);
        if (fd < 0 || dprintf(fd, "%s", before) < 0)
                return ctl_fail(c, "cannot write %s: %m", path);
        status = run_editor(c, path);
        if (status == 0) {
                r = file_read(path, TEXT_SIZE_MAX, &after, &size);
                if (r < 0)
                        status = ctl_fail(c, "cannot read %s: %s", path, strerror(-r));
        }
        (void) unlink(path);
        if (status != 0)
                return status;
        if (streq(before, after)) {
                ctl_say(c, "profile unchanged");
                return EXIT_SUCCESS;
        }
        return write_profile(c, id, after);
}

int verb_agent_profile(Ctl *c, const Arguments *a) {
        _cleanup_bus_error_ sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_bus_message_ sd_bus_message *reply = NULL;
        _cleanup_free_ char *piped = NULL;
        _cleanup_json_ json_object *o = NULL;
        const char *id = a->words[0], *text;
        int r;

        if (a->n_words > 1 && !streq(a->words[1], "edit"))
                return ctl_refuse(c, "what is '%s'? 'puffoctl agent profile %s edit' edits the profile", a->words[1],
                                  id);
        if (a->n_words > 1 && !isatty(STDIN_FILENO)) {
                r = stdin_read(TEXT_SIZE_MAX, &piped);
                return r < 0 ? ctl_fail(c, "cannot read the profile: %s", strerror(-r)) : write_profile(c, id, piped);
        }

        r = ctl_call_agent(c, id, &error, &reply, CTL_CALL_TIMEOUT_USEC, "ReadProfile", NULL);
        if (r >= 0)
                r = sd_bus_message_read(reply, "s", &text);
        if (r < 0)
                return ctl_fail_bus(c, r, &error, "cannot read the profile of agent '%s'", id);
        if (a->n_words > 1)
                return edit_profile(c, id, text);
        if (!c->json) {
                print_text(text);
                return EXIT_SUCCESS;
        }
        o = json_object_new_object();
        if (!o || json_put_string(o, "agent", id) < 0 || json_put_string(o, "text", text) < 0)
                return ctl_oom(c);
        return ctl_print_json(c, o);
}

/* --- memory --- */

static const Column memory_columns[] = {
        { "topic", "TOPIC" }, { "bytes", "SIZE", true }, { "modified", "MODIFIED", true }, {},
};

static int list_memory(Ctl *c, const char *id) {
        _cleanup_bus_error_ sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_bus_message_ sd_bus_message *reply = NULL;
        _cleanup_(table_freep) Table *t = NULL;
        uint64_t bytes, modified;
        const char *topic;
        int r;

        r = ctl_call_agent(c, id, &error, &reply, CTL_CALL_TIMEOUT_USEC, "ListMemory", NULL);
        if (r >= 0)
                r = sd_bus_message_enter_container(reply, 'a', "(stt)");
        if (r >= 0)
                r = table_new(&t, memory_columns);
        while (r >= 0 && (r = sd_bus_message_read(reply, "(stt)", &topic, &bytes, &modified)) > 0) {
                r = table_add_string(t, topic);
                if (r >= 0)
                        r = table_add_bytes(t, bytes);
                if (r >= 0)
                        r = table_add_age(t, modified);
        }
        return r < 0 ? ctl_fail_bus(c, r, &error, "cannot read the memory of agent '%s'", id) : ctl_print_table(c, t);
}

int verb_agent_memory(Ctl *c, const Arguments *a) {
        _cleanup_bus_error_ sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_bus_message_ sd_bus_message *reply = NULL;
        _cleanup_json_ json_object *o = NULL;
        const char *id = a->words[0], *text;
        int r;

        if (a->n_words == 1)
                return list_memory(c, id);
        r = ctl_call_agent(c, id, &error, &reply, CTL_CALL_TIMEOUT_USEC, "ReadMemory", "s", a->words[1]);
        if (r >= 0)
                r = sd_bus_message_read(reply, "s", &text);
        if (r < 0)
                return ctl_fail_bus(c, r, &error, "cannot read what agent '%s' remembers about '%s'", id, a->words[1]);
        if (!c->json) {
                print_text(text);
                return EXIT_SUCCESS;
        }
        o = json_object_new_object();
        if (!o || json_put_string(o, "agent", id) < 0 || json_put_string(o, "topic", a->words[1]) < 0 ||
            json_put_string(o, "text", text) < 0)
                return ctl_oom(c);
        return ctl_print_json(c, o);
}

/* --- workspace --- */

static const Column file_columns[] = {
        { "name", "NAME" }, { "type", "TYPE" }, { "bytes", "SIZE", true }, { "modified", "MODIFIED", true }, {},
};

static int list_files(Ctl *c, const char *id, const char *directory) {
        _cleanup_bus_error_ sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_bus_message_ sd_bus_message *reply = NULL;
        _cleanup_(table_freep) Table *t = NULL;
        const char *name, *type;
        uint64_t bytes, modified;
        int r;

        r = ctl_call_agent(c, id, &error, &reply, CTL_CALL_TIMEOUT_USEC, "ListFiles", "s", directory);
        if (r >= 0)
                r = sd_bus_message_enter_container(reply, 'a', "(sstt)");
        if (r >= 0)
                r = table_new(&t, file_columns);
        while (r >= 0 && (r = sd_bus_message_read(reply, "(sstt)", &name, &type, &bytes, &modified)) > 0) {
                r = table_add_coloured(t, name, streq(type, "directory") ? COLOUR_BOLD : COLOUR_NONE);
                if (r >= 0)
                        r = table_add_string(t, type);
                if (r >= 0)
                        r = table_add_bytes(t, bytes);
                if (r >= 0)
                        r = table_add_age(t, modified);
        }
        return r < 0 ? ctl_fail_bus(c, r, &error, "cannot list '%s' in the workspace of agent '%s'", directory, id)
                     : ctl_print_table(c, t);
}

/* 0 or negative errno; safe: for a terminal. */
static int copy_out(int from, FILE *to, bool safe) {
        char buffer[KIB(64) + 1];
        size_t held = 0;

        for (;;) {
                ssize_t n = read(from, buffer + held, sizeof(buffer) - 1 - held);
                size_t ready;

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return -errno;
                if (n == 0 && held == 0)
                        return 0;
                ready = held + (size_t) n;
                if (!safe) {
                        if (fwrite(buffer, 1, ready, to) != ready)
                                return errno_or_else(EIO);
                        continue;
                }
                /* A character may lie across two reads. */
                held = n == 0 ? 0 : ready - utf8_complete_prefix(buffer, ready);
                ready -= held;
                for (size_t i = 0; i < ready; i++)
                        if (buffer[i] == 0)
                                buffer[i] = '?';
                {
                        _cleanup_free_ char *piece = memdup0(buffer, ready);

                        if (!piece || text_write_safe(to, piece) < 0)
                                return -ENOMEM;
                }
                memmove(buffer, buffer + ready, held);
        }
}

static int print_file(Ctl *c, const char *id, const char *path) {
        _cleanup_bus_error_ sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_bus_message_ sd_bus_message *reply = NULL;
        int r, fd;

        r = ctl_call_agent(c, id, &error, &reply, CTL_CALL_TIMEOUT_USEC, "OpenFile", "s", path);
        if (r >= 0)
                r = sd_bus_message_read(reply, "h", &fd);
        if (r < 0)
                return ctl_fail_bus(c, r, &error, "cannot read '%s' in the workspace of agent '%s'", path, id);
        r = copy_out(fd, stdout, isatty(STDOUT_FILENO));
        return r < 0 ? ctl_fail(c, "cannot copy '%s': %s", path, strerror(-r)) : EXIT_SUCCESS;
}

int verb_agent_files(Ctl *c, const Arguments *a) {
        const char *get = arguments_value(a, "get");
        int status;

        if (!get)
                return list_files(c, a->words[0], a->n_words > 1 ? a->words[1] : "");
        if (a->n_words > 1)
                return ctl_refuse(c, "either a directory to list or --get with a file");
        status = ctl_need_descriptors(c, "read a file");
        return status != 0 ? status : print_file(c, a->words[0], get);
}

/* --- zip --- */

/* Exports are written to a regular file; for a pipe there is an unnamed one in between. */
static int open_unnamed(void) {
        int fd = open(getenv("TMPDIR") ?: "/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

        return fd < 0 ? -errno : fd;
}

static int call_export(Ctl *c, const Arguments *a, const char *id, int fd, sd_bus_error *reterr) {
        _cleanup_bus_message_ sd_bus_message *m = NULL;
        int r;

        r = ctl_new_agent_call(c, id, &m, reterr, "Export");
        if (r >= 0)
                r = sd_bus_message_append(m, "h", fd);
        if (r >= 0)
                r = sd_bus_message_open_container(m, 'a', "{sv}");
        if (r >= 0)
                r = bus_append_bool_option(m, "Secrets", arguments_has(a, "secrets"));
        if (r >= 0)
                r = bus_append_bool_option(m, "Workspace", arguments_has(a, "workspace"));
        if (r >= 0)
                r = bus_append_bool_option(m, "Messages", arguments_has(a, "messages"));
        if (r >= 0)
                r = sd_bus_message_close_container(m);
        return r < 0 ? r : ctl_send_call(c, m, CTL_STOP_TIMEOUT_USEC, reterr, NULL);
}

static int export_to_stdout(Ctl *c, const Arguments *a, const char *id) {
        _cleanup_bus_error_ sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_close_ int fd = open_unnamed();
        int r;

        if (isatty(STDOUT_FILENO))
                return ctl_refuse(c, "a zip file is nothing for a terminal");
        r = fd < 0 ? fd : call_export(c, a, id, fd, &error);
        if (r >= 0)
                r = lseek(fd, 0, SEEK_SET) < 0 ? -errno : copy_out(fd, stdout, false);
        return r < 0 ? ctl_fail_bus(c, r, &error, "cannot export agent '%s'", id) : EXIT_SUCCESS;
}

int verb_agent_export(Ctl *c, const Arguments *a) {
        _cleanup_bus_error_ sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_free_ char *path = NULL, *temporary = NULL, *done = NULL;
        _cleanup_close_ int fd = -EBADF;
        const char *id = a->words[0];
        int r, status;

        status = ctl_need_descriptors(c, "export an agent");
        if (status != 0)
                return status;
        if (a->n_words > 1 && streq(a->words[1], "-"))
                return export_to_stdout(c, a, id);

        path = a->n_words > 1 ? strdup(a->words[1]) : strjoin(id, ".zip");
        temporary = path ? strjoin(path, ".tmp-XXXXXX") : NULL;
        if (!temporary)
                return ctl_oom(c);
        if (!arguments_has(a, "force") && access(path, F_OK) == 0)
                return ctl_fail(c, "there is a file %s already (--force replaces it)", path);
        fd = mkostemp(temporary, O_CLOEXEC);
        if (fd < 0)
                return ctl_fail(c, "cannot write %s: %m", path);
        r = call_export(c, a, id, fd, &error);
        if (r >= 0)
                r = rename(temporary, path) < 0 ? -errno : 0;
        if (r < 0) {
                (void) unlink(temporary);
                return ctl_fail_bus(c, r, &error, "cannot export agent '%s'", id);
        }
        done = asprintf_new("exported %s to %s", id, path);
        return done ? ctl_print_done(c, id, done) : ctl_oom(c);
}

/* A regular file to read from. */
static int open_archive(const char *path) {
        _cleanup_close_ int fd = -EBADF, copy = -EBADF;
        struct stat st;
        FILE *f;
        int r;

        fd = streq(path, "-") ? fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3) : open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
        if (fd < 0 || fstat(fd, &st) < 0)
                return -errno;
        if (S_ISREG(st.st_mode))
                return TAKE_FD(fd);
        copy = open_unnamed();
        if (copy < 0)
                return copy;
        f = fdopen(dup(copy), "w");
        if (!f)
                return -errno;
        r = copy_out(fd, f, false);
        if (fclose(f) == EOF && r >= 0)
                r = -errno;
        if (r < 0)
                return r;
        return lseek(copy, 0, SEEK_SET) < 0 ? -errno : TAKE_FD(copy);
}

int verb_agent_import(Ctl *c, const Arguments *a) {
        _cleanup_bus_error_ sd_bus_error error = SD_BUS_ERROR_NULL;
        _cleanup_bus_message_ sd_bus_message *reply = NULL;
        _cleanup_free_ char *id = NULL, *done = NULL;
        _cleanup_close_ int fd = -EBADF;
        const char *path;
        int r, status;

        status = ctl_need_descriptors(c, "import an agent");
        if (status != 0)
                return status;
        fd = open_archive(a->words[0]);
        if (fd < 0)
                return ctl_fail(c, "cannot read %s: %s", a->words[0], strerror(-fd));
        r = ctl_call_manager(c, &error, &reply, CTL_STOP_TIMEOUT_USEC, "Import", "hs", fd,
                             a->n_words > 1 ? a->words[1] : "");
        if (r >= 0)
                r = sd_bus_message_read(reply, "o", &path);
        if (r >= 0)
                r = sd_bus_path_decode(path, PUFFO_BUS_AGENT_PREFIX, &id);
        if (r < 0 || !id)
                return ctl_fail_bus(c, r, &error, "cannot import %s", a->words[0]);
        done = asprintf_new("imported %s; 'puffoctl agent start %s' starts it", id, id);
        return done ? ctl_print_done(c, id, done) : ctl_oom(c);
}
