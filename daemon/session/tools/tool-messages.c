/* SPDX-License-Identifier: MIT */

#include <fcntl.h>
#include <sodium.h>
#include <sys/stat.h>

#include "attachment.h"
#include "base64url.h"
#include "crash-point.h"
#include "envelope.h"
#include "file-util.h"
#include "mime-type.h"
#include "outbox-store.h"
#include "server-api.h"
#include "tool-internal.h"
#include "workspace-file.h"

#define ID_SIZE_MAX 200U
#define PATH_SHOWN_MAX 200U

/* --- where to --- */

typedef struct Target {
        char *channel;                  /* as given */
        char *channel_id, *space_id;    /* both, or … */
        char *slug;                     /* … this */
        char *root_id;                  /* "": a new post */
} Target;

static void target_done(Target *t) {
        free(t->channel);
        free(t->channel_id);
        free(t->space_id);
        free(t->slug);
        free(t->root_id);
}

/* Ids are opaque, but they are not text. */
static bool id_is_sane(const char *id) {
        if (strlen(id) > ID_SIZE_MAX)
                return false;
        for (const char *p = id; *p; p++)
                if ((unsigned char) *p <= 0x20 || *p == 0x7f)
                        return false;
        return true;
}

/* 1, 0: the call has been ended, -ENOMEM. */
static int target_read(ToolCall *c, Target *t) {
        int r;

        r = tool_trimmed(c, "root_id", &t->root_id);
        if (r >= 0)
                r = tool_channel(c, &t->channel);
        if (r <= 0)
                return r;
        if (!id_is_sane(t->root_id))
                return tool_fail(c, "root_id is no envelope id");
        if (!id_is_sane(t->channel))
                return tool_fail(c, "channel is neither a channel id nor @ and a person's slug");

        if (*t->channel != '@') {
                r = free_and_strdup(&t->channel_id, t->channel);
                return r < 0 ? r : tool_space_of(c, t->channel_id, &t->space_id);
        }
        if (t->channel[1] == 0)
                return tool_fail(c, "channel is @ without the person's slug");
        if (!slug_is_valid(t->channel + 1))
                return tool_fail(c, "%s is no slug", t->channel);
        r = free_and_strdup(&t->slug, t->channel + 1);
        return r < 0 ? r : 1;
}

/* --- on its way --- */

static int watch_row(ToolCall *c, int64_t id, outbox_done_t on_done) {
        c->row_id = id;
        return outbox_watch(puffo_outbox(c->box->puffo), id, on_done, c, &c->watch);
}

static int post(ToolCall *c, const Target *t, const char *content_type, const char *content, outbox_done_t on_done) {
        _cleanup_free_ char *turn = c->key ? strndup(c->key, strcspn(c->key, "/")) : NULL;
        int64_t id;
        int r;

        if (c->key && !turn)
                return -ENOMEM;
        crash_point("tool-message");
        r = outbox_add(puffo_outbox(c->box->puffo), &(OutgoingMessage) {
                .key = c->key,
                .turn = turn,
                .channel_id = t->channel_id,
                .space_id = t->space_id,
                .recipient_slug = t->slug,
                .thread_root_id = t->root_id,
                .content_type = content_type,
                .content = content,
        }, &id);
        if (r == -E2BIG)
                return tool_fail(c, "the text is larger than %zu KiB", OUTBOX_TEXT_MAX / KIB(1));
        return r < 0 ? r : watch_row(c, id, on_done);
}

/* 1: this call was made before, by a process that is gone, and its message is looked after; 0: it was not. */
static int take_up(ToolCall *c, outbox_done_t on_done) {
        int64_t id;
        int r;

        if (!c->key)
                return 0;
        r = outbox_find(puffo_outbox(c->box->puffo), c->key, &id);
        if (r <= 0)
                return r;
        r = watch_row(c, id, on_done);
        return r < 0 ? r : 1;
}

/* --- send_message --- */

static void on_message_sent(OutboxWatch *w, const OutboxResult *result, void *userdata) {
        ToolCall *c = userdata;
        _cleanup_free_ char *channel = NULL;
        _cleanup_(strbuf_done) StrBuf b = {};
        int r;

        if (result->error < 0) {
                (void) tool_fail(c, "%s", result->text);
                return;
        }
        r = tool_trimmed(c, "channel", &channel);
        if (r >= 0)
                r = strbuf_printf(&b, "posted %s to ", result->envelope_id);
        if (r >= 0)
                r = tool_put_line(&b, channel, ID_SIZE_MAX);
        (void) tool_succeed(c, r < 0 ? NULL : strbuf_take(&b));
}

int tool_send_message(ToolCall *c) {
        _cleanup_(target_done) Target t = {};
        _cleanup_json_ json_object *text = NULL;
        const char *content;
        int r;

        r = take_up(c, on_message_sent);
        if (r != 0)
                return r < 0 ? r : 0;
        r = target_read(c, &t);
        if (r <= 0)
                return r;
        text = json_object_new_string(tool_string(c, "text"));
        content = text ? json_text(text, NULL) : NULL;
        if (!content)
                return -ENOMEM;
        if (strlen(tool_string(c, "text")) > OUTBOX_TEXT_MAX)
                return tool_fail(c, "the text is larger than %zu KiB", OUTBOX_TEXT_MAX / KIB(1));
        return post(c, &t, CONTENT_TYPE_TEXT, content, on_message_sent);
}

/* --- upload_file --- */

typedef struct UploadFile {
        char *path, *name, *blob_id;
        int fd;                         /* held from the check on: what is sent is what was checked */
        Attachment attachment;
} UploadFile;

typedef struct Upload {
        Target target;
        UploadFile files[ATTACHMENTS_MAX];
        size_t n_files, current;
} Upload;

static void upload_free(void *state) {
        Upload *u = state;

        for (size_t i = 0; i < u->n_files; i++) {
                UploadFile *f = u->files + i;

                free(f->path);
                free(f->name);
                free(f->blob_id);
                safe_close(f->fd);
        }
        target_done(&u->target);
        sodium_memzero(u, sizeof(*u));
        free(u);
}

/* Names and sizes are read from what was posted: after a crash the files may be others. */
static int format_uploaded(ToolCall *c, const char *envelope_id, StrBuf *b) {
        _cleanup_(outbox_row_freep) OutboxRow *row = NULL;
        _cleanup_json_ json_object *content = NULL;
        _cleanup_free_ char *channel = NULL;
        json_object *files;
        uint64_t total = 0;
        size_t n;
        int r;

        r = outbox_store_get(puffo_database(c->box->puffo), c->row_id, &row);
        if (r <= 0)
                return r < 0 ? r : -ENOENT;
        r = json_parse(row->content, strlen(row->content), &content);
        if (r >= 0)
                r = tool_trimmed(c, "channel", &channel);
        if (r < 0)
                return r;
        files = json_get(content, "attachments");
        n = json_object_is_type(files, json_type_array) ? json_object_array_length(files) : 0;

        r = strbuf_printf(b, "uploaded %zu file(s) [", n);
        for (size_t i = 0; i < n && r >= 0; i++) {
                json_object *file = json_object_array_get_idx(files, i);

                total += (uint64_t) json_get_int(file, "size", 0);
                r = i > 0 ? strbuf_puts(b, ", ") : 0;
                if (r >= 0)
                        r = tool_put_line(b, strempty(json_get_string(file, "filename")), PATH_SHOWN_MAX);
        }
        if (r >= 0)
                r = strbuf_printf(b, "] (%" PRIu64 " bytes total) to ", total);
        if (r >= 0)
                r = tool_put_line(b, channel, ID_SIZE_MAX);
        if (r >= 0 && !isempty(row->thread_root_id))
                r = strbuf_printf(b, " in thread %s", row->thread_root_id);
        return r < 0 ? r : strbuf_printf(b, " (envelope_id %s)", envelope_id);
}

static void on_upload_sent(OutboxWatch *w, const OutboxResult *result, void *userdata) {
        ToolCall *c = userdata;
        _cleanup_(strbuf_done) StrBuf b = {};
        int r;

        if (result->error < 0) {
                (void) tool_fail(c, "%s", result->text);
                return;
        }
        r = format_uploaded(c, result->envelope_id, &b);
        if (r < 0)
                (void) tool_fail_errno(c, r);
        else
                (void) tool_succeed(c, strbuf_take(&b));
}

static int put_attachment(json_object *list, const UploadFile *f) {
        json_object *o = json_object_new_object();
        _cleanup_free_ char *key = base64url_encode(f->attachment.key, sizeof(f->attachment.key)),
                            *nonce = base64url_encode(f->attachment.nonce, sizeof(f->attachment.nonce));
        int r;

        if (!o)
                return -ENOMEM;
        if (json_object_array_add(list, o) < 0) {
                json_object_put(o);
                return -ENOMEM;
        }
        if (!key || !nonce)
                return -ENOMEM;
        r = json_put_string(o, "blob_id", f->blob_id);
        if (r >= 0)
                r = json_put_string(o, "filename", f->name);
        if (r >= 0)
                r = json_put_string(o, "mime_type", f->attachment.mime_type);
        if (r >= 0)
                r = json_put_int(o, "size", (int64_t) f->attachment.size);
        if (r >= 0)
                r = json_put_string(o, "key", key);
        return r < 0 ? r : json_put_string(o, "nonce", nonce);
}

static int post_files(ToolCall *c) {
        Upload *u = c->state;
        _cleanup_json_ json_object *content = json_object_new_object();
        json_object *list = json_object_new_array();
        const char *text;
        int r;

        if (!content || !list) {
                json_object_put(list);
                return -ENOMEM;
        }
        r = json_put_string(content, "text", tool_string(c, "caption"));
        if (r < 0)
                json_object_put(list);
        else
                r = json_put(content, "attachments", list);
        for (size_t i = 0; i < u->n_files && r >= 0; i++)
                r = put_attachment(list, u->files + i);
        text = r < 0 ? NULL : json_text(content, NULL);
        if (!text)
                return r < 0 ? r : -ENOMEM;
        return post(c, &u->target, CONTENT_TYPE_ATTACHMENTS, text, on_upload_sent);
}

static int upload_next(ToolCall *c);

static void on_uploaded(ServerCall *call, const CallReply *reply, void *userdata) {
        ToolCall *c = userdata;
        Upload *u = c->state;
        UploadFile *f = u->files + u->current;
        _cleanup_free_ char *error = NULL;
        const char *blob_id;
        int r;

        if (reply->failure != CALL_OK) {
                error = tool_call_reason(reply);
                (void) tool_fail(c, "uploading %s: %s", f->path, error ?: "out of memory");
                return;
        }
        r = api_read_uploaded(reply, &blob_id, &error);
        if (r == -EBADMSG) {
                (void) tool_fail(c, "uploading %s: %s", f->path, error);
                return;
        }
        if (r >= 0)
                r = free_and_strdup(&f->blob_id, blob_id);
        c->server_call = server_call_free(call);
        crash_point("upload-done");
        u->current++;
        if (r >= 0)
                r = upload_next(c);
        if (r < 0)
                (void) tool_fail_errno(c, r);
}

static int upload_next(ToolCall *c) {
        Upload *u = c->state;
        UploadFile *f = u->files + u->current;
        _cleanup_free_ uint8_t *sealed = NULL;
        _cleanup_free_ char *data = NULL;
        size_t size, sealed_size;
        int r;

        if (u->current == u->n_files)
                return post_files(c);

        r = file_read_fd(f->fd, ATTACHMENT_SIZE_MAX, &data, &size);
        f->fd = safe_close(f->fd);
        if (r == -EFBIG)
                return tool_fail(c, "%s is larger than 8 MiB", f->path);
        if (r < 0)
                return r == -ENOMEM ? r : tool_fail(c, "%s cannot be read", f->path);

        f->attachment = (Attachment) { .filename = f->name, .mime_type = mime_type_of(f->name), .size = size };
        r = attachment_seal(&f->attachment, data, size, &sealed, &sealed_size);
        if (r < 0)
                return r;
        crash_point("upload-begin");
        return api_upload_blob(puffo_client(c->box->puffo), sealed, sealed_size, NULL, on_uploaded, c,
                               &c->server_call);
}

/* 1, 0: the call has been ended, < 0. */
static int upload_check_file(ToolCall *c, int root, UploadFile *f) {
        const char *name = strrchr(f->path, '/');
        struct stat st;
        int r;

        if (*f->path == 0)
                return tool_fail(c, "paths contains an empty path");
        if (*f->path == '/')
                return tool_fail(c, "%s is not relative to the workspace", f->path);

        f->fd = workspace_open_file(root, f->path);
        if (f->fd == -ENOMEM)
                return f->fd;
        if (f->fd == -EXDEV)
                return tool_fail(c, "%s leads out of the workspace, or contains ..", f->path);
        if (f->fd == -ENOENT || f->fd == -ENOTDIR)
                return tool_fail(c, "%s does not exist in the workspace", f->path);
        if (f->fd == -EISDIR || f->fd == -ELOOP || (name && name[1] == 0))
                return tool_fail(c, "%s is no regular file", f->path);
        if (f->fd < 0 || fstat(f->fd, &st) < 0)
                return tool_fail(c, "%s cannot be read", f->path);
        if ((uint64_t) st.st_size > ATTACHMENT_SIZE_MAX)
                return tool_fail(c, "%s is larger than 8 MiB", f->path);

        r = free_and_strdup(&f->name, name ? name + 1 : f->path);
        return r < 0 ? r : 1;
}

static int upload_check_files(ToolCall *c, json_object *paths) {
        _cleanup_close_ int root = -EBADF;
        Upload *u = c->state;
        size_t n = json_object_array_length(paths);
        int r = 1;

        if (isempty(c->box->workspace))
                return tool_fail(c, "no workspace is configured");
        root = open(c->box->workspace, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (root < 0)
                return tool_fail(c, "the workspace cannot be opened");
        if (n == 0)
                return tool_fail(c, "paths must not be empty");
        if (n > ATTACHMENTS_MAX)
                return tool_fail(c, "at most %u files can be sent at once", ATTACHMENTS_MAX);

        for (size_t i = 0; i < n && r > 0; i++) {
                UploadFile *f = u->files + u->n_files++;

                f->fd = -EBADF;
                r = tool_trim(json_object_get_string(json_object_array_get_idx(paths, i)), &f->path);
                if (r >= 0)
                        r = upload_check_file(c, root, f);
        }
        return r;
}

int tool_upload_file(ToolCall *c) {
        Upload *u;
        int r;

        r = take_up(c, on_upload_sent);
        if (r != 0)
                return r < 0 ? r : 0;
        u = new0(Upload, 1);
        if (!u)
                return -ENOMEM;
        c->state = u;
        c->state_free = upload_free;

        r = upload_check_files(c, json_get(c->arguments, "paths"));
        if (r <= 0)
                return r;
        if (strlen(tool_string(c, "caption")) > OUTBOX_TEXT_MAX)
                return tool_fail(c, "the caption is larger than %zu KiB", OUTBOX_TEXT_MAX / KIB(1));
        r = target_read(c, &u->target);
        return r <= 0 ? r : upload_next(c);
}
