/* SPDX-License-Identifier: MIT */

#include <fcntl.h>
#include <sys/stat.h>

#include "bus-util.h"
#include "crash-point.h"
#include "file-util.h"
#include "inbox-files.h"
#include "json-util.h"
#include "log.h"
#include "turn-files.h"
#include "workspace-file.h"

#define TYPE_SIZE_MAX 100U
/* Turns at once. */
#define SWEEP_MAX 1000U

int turn_files_read(sd_bus_message *m, TurnFiles *ret, sd_bus_error *reterr_error) {
        const char *name, *type, *use;
        int fd, r;

        r = sd_bus_message_enter_container(m, 'v', "a(sssh)");
        if (r < 0)
                return sd_bus_error_set(reterr_error, PUFFO_ERROR_INVALID_ARGUMENT,
                                        "Files is no list of name, media type, use and descriptor.");
        r = sd_bus_message_enter_container(m, 'a', "(sssh)");
        while (r >= 0 && (r = sd_bus_message_read(m, "(sssh)", &name, &type, &use, &fd)) > 0) {
                if (ret->n >= TURN_FILES_MAX)
                        return bus_error_setf(reterr_error, PUFFO_ERROR_INVALID_ARGUMENT,
                                              "A turn comes with at most %u files.", TURN_FILES_MAX);
                if (!streq(use, "file") && !streq(use, "image"))
                        return sd_bus_error_set(reterr_error, PUFFO_ERROR_INVALID_ARGUMENT,
                                                "A file is used as 'file' or as 'image'.");
                ret->files[ret->n++] = (TurnFile) {
                        .name = name, .type = type, .image = streq(use, "image"), .fd = fd,
                };
        }
        for (unsigned i = 0; i < 2 && r >= 0; i++)
                r = sd_bus_message_exit_container(m);
        return r;
}

/* --- writing --- */

/* From its beginning, wherever the caller has left the descriptor. Only of what cannot keep us waiting. */
static int file_content(int fd, char **ret, size_t *ret_size) {
        _cleanup_free_ char *data = NULL;
        size_t size = 0, room;
        struct stat st;
        ssize_t n;

        if (fstat(fd, &st) < 0)
                return -errno;
        if (!S_ISREG(st.st_mode))
                return -EBADF;
        if ((uint64_t) st.st_size > TURN_FILE_SIZE_MAX)
                return -EFBIG;
        room = (size_t) st.st_size;
        data = malloc(room + 1);
        if (!data)
                return -ENOMEM;
        while (size < room) {
                n = pread(fd, data + size, room - size, (off_t) size);
                if (n < 0 && errno != EINTR)
                        return -errno;
                if (n == 0)     /* it has become shorter */
                        break;
                size += n > 0 ? (size_t) n : 0;
        }
        *ret = TAKE_PTR(data);
        *ret_size = size;
        return 0;
}

static bool name_is_used(char *const *names, const char *name) {
        return strv_contains(names, name);
}

/* Files of one name are numbered. */
static int choose_name(const char *given, char ***names) {
        _cleanup_free_ char *name = inbox_file_name(given, ""), *numbered = NULL;
        const char *dot;

        if (!name)
                return -ENOMEM;
        dot = strrchr(name, '.');
        if (!dot || dot == name)
                dot = name + strlen(name);
        for (unsigned k = 1; name_is_used(*names, numbered ?: name); k++) {
                free(numbered);
                numbered = asprintf_new("%.*s-%u%s", (int) (dot - name), name, k, dot);
                if (!numbered)
                        return -ENOMEM;
        }
        return strv_extend(names, numbered ?: name);
}

static const char* clean_type(const char *type) {
        size_t n = strspn(type, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789!#$&^_.+-/");

        return n > 0 && n <= TYPE_SIZE_MAX && type[n] == 0 && strchr(type, '/') ? type : "application/octet-stream";
}

static int entry_add(json_object *list, const TurnFile *f, const char *name, const char *path, size_t size) {
        _cleanup_json_ json_object *o = json_object_new_object();

        if (!o || json_put_string(o, "name", name) < 0 || json_put_string(o, "path", path) < 0 ||
            json_put_string(o, "type", clean_type(f->type)) < 0 || json_put_int(o, "size", (int64_t) size) < 0 ||
            json_put_bool(o, "image", f->image) < 0 || json_object_array_add(list, o) < 0)
                return -ENOMEM;
        TAKE_PTR(o);
        return 0;
}

static int file_save(int root_fd, const TurnFile *f, const char *directory, const char *workspace, char ***names,
                     json_object *list) {
        _cleanup_free_ char *data = NULL, *path = NULL;
        const char *name;
        size_t size = 0;
        int r;

        r = file_content(f->fd, &data, &size);
        if (r >= 0)
                r = choose_name(f->name, names);
        if (r < 0)
                return r;
        name = (*names)[strv_length(*names) - 1];
        r = workspace_write_file(root_fd, directory, name, data, size, 0600);
        if (r < 0)
                return r;
        path = strjoin(workspace, "/", directory, "/", name);
        return path ? entry_add(list, f, name, path, size) : -ENOMEM;
}

int turn_files_save(const TurnFiles *files, const char *workspace, const char *turn, char **ret_list) {
        _cleanup_json_ json_object *list = json_object_new_array();
        _cleanup_(strv_freep) char **names = NULL;
        _cleanup_free_ char *directory = strjoin(INBOX_DIRECTORY "/", turn);
        _cleanup_close_ int root_fd = -EBADF;
        const char *text;
        int r;

        if (!list || !directory)
                return -ENOMEM;
        root_fd = open(workspace, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (root_fd < 0)
                return -errno;
        for (size_t i = 0; i < files->n; i++) {
                r = file_save(root_fd, files->files + i, directory, workspace, &names, list);
                if (r < 0)
                        return r;
        }
        text = json_text(list, NULL);
        *ret_list = text ? strdup(text) : NULL;
        return *ret_list ? 0 : -ENOMEM;
}

int turn_files_sweep(Database *db, const char *workspace) {
        _cleanup_close_ int root_fd = open(workspace, O_PATH | O_DIRECTORY | O_CLOEXEC);
        _cleanup_(strv_freep) char **turns = NULL;
        int r, n = 0;

        if (root_fd < 0)
                return -errno;
        r = turn_store_list_left_files(db, SWEEP_MAX, &turns);
        for (size_t i = 0; r >= 0 && turns && turns[i]; i++) {
                int k = turn_id_is_valid(turns[i]) ? workspace_remove(root_fd, INBOX_DIRECTORY, turns[i]) : 0;

                crash_point("files-removed");
                if (k < 0 && k != -ENOENT) {
                        (void) log_warning_errno(k, "Failed to remove the files of turn '%s' from '%s', trying again "
                                                 "tomorrow: %m", turns[i], workspace);
                        n++;
                } else
                        r = turn_store_forget_files(db, turns[i]);
        }
        return r < 0 ? r : n;
}

/* --- what is stored --- */

int turn_files_parse(const char *list, json_object **ret) {
        int r;

        *ret = NULL;
        if (isempty(list))
                return 0;
        r = json_parse(list, strlen(list), ret);
        if (r >= 0 && json_object_is_type(*ret, json_type_array))
                return 0;
        json_object_put(TAKE_PTR(*ret));
        return r == -ENOMEM ? r : -EUCLEAN;
}

int turn_files_list(const char *list, const char *const remarks[], char **ret) {
        _cleanup_json_ json_object *parsed = NULL;
        _cleanup_(strbuf_done) StrBuf b = {};
        int r;

        *ret = NULL;
        r = turn_files_parse(list, &parsed);
        if (r < 0 || !parsed || json_object_array_length(parsed) == 0)
                return r;
        r = strbuf_puts(&b, "[files that came with this]");
        for (size_t i = 0; i < json_object_array_length(parsed) && r >= 0; i++) {
                json_object *o = json_object_array_get_idx(parsed, i);

                const char *remark = remarks && i < TURN_FILES_MAX ? remarks[i] : NULL;

                r = strbuf_printf(&b, "\n- %s (%s, %" PRIi64 " bytes%s%s)", strempty(json_get_string(o, "path")),
                                  strempty(json_get_string(o, "type")), json_get_int(o, "size", 0),
                                  remark ? "; " : "", strempty(remark));
        }
        if (r < 0)
                return r;
        *ret = strbuf_take(&b);
        return *ret ? 0 : -ENOMEM;
}

int turn_files_append_names(sd_bus_message *m, const char *list) {
        _cleanup_json_ json_object *parsed = NULL;
        int r;

        r = turn_files_parse(list, &parsed);
        if (r >= 0)
                r = sd_bus_message_open_container(m, 'a', "s");
        for (size_t i = 0; parsed && i < json_object_array_length(parsed) && r >= 0; i++)
                r = bus_append_text(m, json_get_string(json_object_array_get_idx(parsed, i), "name"));
        return r < 0 ? r : sd_bus_message_close_container(m);
}
