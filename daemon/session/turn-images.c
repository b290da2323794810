/* SPDX-License-Identifier: MIT */

#include <fcntl.h>
#include <sys/stat.h>

#include "image-type.h"
#include "json-util.h"
#include "log.h"
#include "string-util.h"
#include "turn-images.h"
#include "workspace-file.h"

ImageRoom image_room(const ModelImageLimits *limits) {
        return limits ? (ImageRoom) { .limits = limits, .n = MODEL_IMAGES_MAX, .size = limits->total } :
                        (ImageRoom) {};
}

void turn_images_free(ModelImage *images, size_t n) {
        for (size_t i = 0; i < n; i++)
                safe_close(images[i].fd);
        free(images);
}

/* A file of the inbox, and nothing that a link in the workspace makes of it. */
static int open_in_inbox(const char *workspace, const char *path) {
        const char *inbox = NULL;
        _cleanup_close_ int root_fd = -EBADF;

        for (const char *next = path; (next = strstr(next, "/" INBOX_DIRECTORY "/")); )
                inbox = ++next;
        if (!inbox)
                return -EUCLEAN;
        root_fd = open(workspace, O_PATH | O_DIRECTORY | O_CLOEXEC);
        return root_fd < 0 ? -errno : workspace_open_file(root_fd, inbox);
}

/* What to say of it; *ret_fd >= 0: it is shown. */
static const char* image_open(const char *workspace, const char *path, bool again, const ImageRoom *room,
                              ModelImage *ret) {
        _cleanup_close_ int fd = open_in_inbox(workspace, path);
        char head[IMAGE_HEAD_SIZE];
        const char *type;
        struct stat st;
        ssize_t n;

        if (fd == -ENOENT)
                return "not shown to you: it is not kept any more";
        n = fd < 0 ? -1 : pread(fd, head, sizeof(head), 0);
        if (n < 0 || fstat(fd, &st) < 0) {
                (void) log_warning_errno(fd < 0 ? fd : -errno, "Failed to read '%s', going on without it: %m", path);
                return "not shown to you: it cannot be read";
        }
        type = image_type_of(head, (size_t) n);
        if (!type)
                return "not shown to you: it is no PNG, JPEG, GIF or WebP image";
        if (streq(type, "image/gif") && !room->limits->gif)
                return "not shown to you: your provider takes no GIF images";
        if ((uint64_t) st.st_size > room->limits->each)
                return "not shown to you: it is larger than your provider takes";
        if (room->n == 0 || (uint64_t) st.st_size > room->size)
                return again ? "not shown to you again" : "not shown to you: there are more than your provider takes";
        *ret = (ModelImage) { .type = type, .size = (uint64_t) st.st_size, .fd = TAKE_FD(fd) };
        return "shown to you";
}

int turn_images_open(const char *list, const char *workspace, bool again, ImageRoom *room, TurnImages *ret) {
        _cleanup_json_ json_object *parsed = NULL;
        TurnImages t = {};
        int r;

        *ret = t;
        if (!room->limits)
                return 0;
        r = turn_files_parse(list, &parsed);
        if (r < 0 || !parsed)
                return r;
        t.images = new0(ModelImage, TURN_FILES_MAX);
        if (!t.images)
                return -ENOMEM;
        for (size_t i = 0; i < MIN(json_object_array_length(parsed), (size_t) TURN_FILES_MAX); i++) {
                json_object *o = json_object_array_get_idx(parsed, i);
                ModelImage *image = t.images + t.n;

                if (!json_get_bool(o, "image", false))
                        continue;
                *image = (ModelImage) { .fd = -EBADF };
                t.remarks[i] = image_open(workspace, strempty(json_get_string(o, "path")), again, room, image);
                if (image->fd < 0)
                        continue;
                room->n--;
                room->size -= image->size;
                t.n++;
        }
        *ret = t;
        return 0;
}
