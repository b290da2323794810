/* SPDX-License-Identifier: MIT */

#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <sys/stat.h>

#include "attachment.h"
#include "crash-point.h"
#include "file-util.h"
#include "inbox-files.h"
#include "log.h"
#include "server-api.h"

#define FILE_NAME_SIZE_MAX 200U
#define EXTENSION_SIZE_MAX 32U
#define SHOWN_NAME_MAX 200U
#define ID_HASH_SIZE 16U

typedef struct Slot {
        Attachment attachment;          /* of a file that has no problem yet */
        InboxFile file;
} Slot;

struct InboxFiles {
        ServerClient *client;
        char *workspace, *directory, *envelope_id;
        SignedDocument *content;
        Slot slots[ATTACHMENTS_MAX + 1];        /* the last one stands for all that are too many */
        InboxFile files[ATTACHMENTS_MAX + 1];   /* what is told of them */
        size_t n_slots, current;
        size_t size_saved;
        char temporary[32];             /* a name that none of the files has */
        ServerCall *call;
        sd_event_source *defer;
        inbox_files_done_t on_done;
        void *userdata;
};

/* --- names --- */

/* As many bytes as fit without cutting a code point. */
static size_t fitting(const char *s, size_t size, size_t max) {
        return size <= max ? size : utf8_complete_prefix(s, max);
}

/* Where the extension begins; the end when there is none to speak of. */
static size_t stem_size(const char *name) {
        const char *dot = strrchr(name, '.');

        return !dot || dot == name || strlen(dot) > EXTENSION_SIZE_MAX ? strlen(name) : (size_t) (dot - name);
}

/* The name with something before its extension, within what a file name may have. */
static char* name_with_suffix(const char *name, const char *suffix) {
        size_t stem = stem_size(name), rest = strlen(name + stem) + strlen(suffix);
        _cleanup_free_ char *cut = memdup0(name, fitting(name, stem, FILE_NAME_SIZE_MAX - rest));

        return cut ? strjoin(cut, suffix, name + stem) : NULL;
}

/* One '_' for each control character (C0, DEL, C1). */
static void replace_controls(char *name) {
        char *w = name;

        for (const unsigned char *p = (const unsigned char*) name; *p; p++)
                if (*p < 0x20 || *p == 0x7f)
                        *w++ = '_';
                else if (p[0] == 0xc2 && p[1] >= 0x80 && p[1] < 0xa0) {
                        *w++ = '_';
                        p++;
                } else
                        *w++ = (char) *p;
        *w = 0;
}

char* inbox_file_name(const char *filename, const char *blob_id) {
        _cleanup_free_ char *safe = attachment_safe_name(filename, blob_id), *name = NULL;
        const char *last;

        if (!safe)
                return NULL;
        last = strrchr(safe, '\\');
        name = strdup(last ? last + 1 : safe);
        if (!name)
                return NULL;
        replace_controls(name);
        if (isempty(name) || streq(name, ".") || streq(name, ".."))
                return strdup("attachment");
        if (name[0] == '-') {
                char *prefixed = strjoin("_", name);

                free(name);
                name = prefixed;
        }
        return name ? name_with_suffix(name, "") : NULL;
}

/* An id that can be a name is one (message-pipeline §6.3). Of another one the name is made by the replacement rule of
 * wire-protocol §12, step 4, and told from those of all other ids by a hash, behind a character that no id keeps. */
static char* inbox_directory_name(const char *envelope_id) {
        _cleanup_free_ char *safe = attachment_safe_name("", envelope_id);
        uint8_t hash[ID_HASH_SIZE];
        char suffix[1 + 2 * ID_HASH_SIZE + 1];

        if (!safe || (streq(safe, envelope_id) && strlen(safe) <= FILE_NAME_SIZE_MAX))
                return TAKE_PTR(safe);
        if (crypto_generichash(hash, sizeof(hash), (const uint8_t*) envelope_id, strlen(envelope_id), NULL, 0) < 0)
                return NULL;
        suffix[0] = '~';
        (void) sodium_bin2hex(suffix + 1, sizeof(suffix) - 1, hash, sizeof(hash));
        safe[MIN(strlen(safe), FILE_NAME_SIZE_MAX - strlen(suffix))] = 0;
        return strjoin(safe, suffix);
}

static bool is_used(const InboxFiles *f, const char *name) {
        for (size_t i = 0; i < f->n_slots; i++)
                if (streq_ptr(f->slots[i].file.name, name))
                        return true;
        return false;
}

/* Files of one name are numbered within the message. */
static char* unused_name(const InboxFiles *f, const char *filename, const char *blob_id) {
        _cleanup_free_ char *name = inbox_file_name(filename, blob_id);

        if (!name || !is_used(f, name))
                return TAKE_PTR(name);
        for (unsigned k = 1;; k++) {
                _cleanup_free_ char *numbered = NULL;
                char suffix[16];

                (void) snprintf(suffix, sizeof(suffix), "-%u", k);
                numbered = name_with_suffix(name, suffix);
                if (!numbered || !is_used(f, numbered))
                        return TAKE_PTR(numbered);
        }
}

/* --- what the message says --- */

static int slot_refuse(Slot *s, const char *problem) {
        s->file.problem = strdup(problem);
        return s->file.problem ? 0 : -ENOMEM;
}

static int slot_read(InboxFiles *f, Slot *s, const SignedValue *meta) {
        const char *claimed = strempty(signed_get_string(meta, "filename"));
        AttachmentError error;
        char *name;
        int r;

        r = attachment_read(meta, &s->attachment, &error);
        if (r == -ENOMEM)
                return r;
        name = r < 0 ? inbox_file_name(claimed, "") : unused_name(f, s->attachment.filename, s->attachment.blob_id);
        if (!name)
                return -ENOMEM;
        s->file.name = name;
        if (r < 0)
                return slot_refuse(s, "the message does not say properly what and where it is");
        if (!blob_id_is_valid(s->attachment.blob_id))
                return slot_refuse(s, "the message does not say properly where it is");
        if (s->attachment.size > ATTACHMENT_SIZE_MAX)
                return slot_refuse(s, "larger than 8 MiB");
        if (!f->workspace)
                return slot_refuse(s, "the agent has no workspace");
        return 0;
}

static int read_content(InboxFiles *f, const char *content) {
        const SignedValue *list;
        int r = signed_document_parse(&f->content, content, strlen(content));

        if (r < 0)
                return r == -ENOMEM ? r : 0;
        list = signed_get(signed_document_root(f->content), "attachments");
        if (!list || list->type != SIGNED_ARRAY)
                return 0;

        for (const SignedValue *v = list->child; v; v = v->next) {
                Slot *s = f->slots + f->n_slots;

                if (f->n_slots == ATTACHMENTS_MAX) {
                        f->n_slots++;
                        s->file.name = asprintf_new("%zu more", list->size - ATTACHMENTS_MAX);
                        return s->file.name ? slot_refuse(s, "more than 10 files in one message") : -ENOMEM;
                }
                r = slot_read(f, s, v);
                f->n_slots++;
                if (r < 0)
                        return r;
        }
        return 0;
}

/* --- writing --- */

/* The agent works in here with hands of its own: whatever it has put in the place of a directory is not followed. */
static int open_directory_at(int dir_fd, const char *name) {
        int fd;

        if (mkdirat(dir_fd, name, 0700) < 0 && errno != EEXIST)
                return -errno;
        fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        return fd < 0 ? -errno : fd;
}

static int open_inbox(InboxFiles *f) {
        _cleanup_close_ int fd = open(f->workspace, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        const char *const parts[] = { ".puffo", "inbox", f->directory };

        if (fd < 0)
                return -errno;
        for (size_t i = 0; i < ELEMENTSOF(parts); i++) {
                int next = open_directory_at(fd, parts[i]);

                if (next < 0)
                        return next;
                safe_close(fd);
                fd = next;
        }
        if (fchmod(fd, 0700) < 0)
                return -errno;
        return TAKE_FD(fd);
}

static int write_all(int fd, const uint8_t *data, size_t size) {
        while (size > 0) {
                ssize_t n = write(fd, data, size);

                if (n < 0 && errno != EINTR)
                        return -errno;
                if (n > 0) {
                        data += n;
                        size -= (size_t) n;
                }
        }
        return 0;
}

/* What a crash leaves of the temporary file is taken away by the next one, and a file that the disk did not get in
 * time is fetched again with its message: nothing here waits for the disk. */
static int save(InboxFiles *f, const char *name, const uint8_t *data, size_t size) {
        _cleanup_close_ int dir_fd = open_inbox(f), fd = -EBADF;
        int r;

        if (dir_fd < 0)
                return dir_fd;
        if (unlinkat(dir_fd, f->temporary, 0) < 0 && errno != ENOENT)
                return -errno;
        fd = openat(dir_fd, f->temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (fd < 0)
                return -errno;
        crash_point("file-write");
        r = fchmod(fd, 0600) < 0 ? -errno : write_all(fd, data, size);
        crash_point("file-written");
        if (r >= 0 && renameat(dir_fd, f->temporary, dir_fd, name) < 0)
                r = -errno;
        if (r < 0)
                (void) unlinkat(dir_fd, f->temporary, 0);
        return r;
}

/* --- one after the other --- */

static int next(InboxFiles *f);

static int save_opened(InboxFiles *f, Slot *s, const uint8_t *data, size_t size) {
        _cleanup_free_ char *problem = NULL;
        int r;

        if (size > ATTACHMENT_SIZE_MAX)
                return slot_refuse(s, "larger than 8 MiB");
        if (f->size_saved + size > INBOX_MESSAGE_SIZE_MAX)
                return slot_refuse(s, "more than 32 MiB in one message");
        if (size != s->attachment.size)
                log_warning("The file '%s' of message %s has %zu bytes, not the %" PRIu64 " that were announced.",
                            s->file.name, f->envelope_id, size, s->attachment.size);

        r = save(f, s->file.name, data, size);
        if (r < 0) {
                (void) log_warning_errno(r, "Failed to save the file '%s' of message %s: %m", s->file.name,
                                         f->envelope_id);
                problem = strjoin("it could not be written: ", strerror(-r));
                return problem ? slot_refuse(s, problem) : -ENOMEM;
        }
        f->size_saved += size;
        s->file.path = asprintf_new("%s/.puffo/inbox/%s/%s", f->workspace, f->directory, s->file.name);
        return s->file.path ? 0 : -ENOMEM;
}

static int open_blob(InboxFiles *f, Slot *s, const CallReply *reply) {
        _cleanup_free_ uint8_t *data = NULL;
        AttachmentError error;
        size_t size;
        int r = attachment_open(&s->attachment, reply->body, reply->body_size, &data, &size, &error);

        if (r == -ENOMEM)
                return r;
        if (r < 0)
                return slot_refuse(s, "it cannot be decrypted");
        return save_opened(f, s, data, size);
}

static int refuse_blob(InboxFiles *f, Slot *s, const CallReply *reply) {
        _cleanup_free_ char *problem = NULL;

        log_warning("Failed to fetch the file '%s' of message %s: %s", s->file.name, f->envelope_id,
                    strempty(reply->error));
        if (reply->failure != CALL_STATUS)
                return slot_refuse(s, reply->failure == CALL_PROTOCOL ? "the server did not give it, or too much"
                                                                      : "the server could not be reached");
        problem = asprintf_new("the server refused it with status %ld", reply->status);
        return problem ? slot_refuse(s, problem) : -ENOMEM;
}

static void on_blob(ServerCall *call, const CallReply *reply, void *userdata) {
        InboxFiles *f = userdata;
        Slot *s = f->slots + f->current++;
        int r = reply->failure == CALL_OK ? open_blob(f, s, reply) : refuse_blob(f, s, reply);

        f->call = server_call_free(f->call);
        if (r >= 0)
                r = next(f);
        if (r < 0)
                /* Whoever waits must not wait for ever; what has neither path nor problem gets one there. */
                (void) sd_event_source_set_enabled(f->defer, SD_EVENT_ONESHOT);
}

static int next(InboxFiles *f) {
        for (; f->current < f->n_slots; f->current++) {
                Slot *s = f->slots + f->current;
                int r;

                if (s->file.problem)
                        continue;
                if (f->size_saved + s->attachment.size > INBOX_MESSAGE_SIZE_MAX)
                        r = slot_refuse(s, "more than 32 MiB in one message");
                else {
                        r = api_download_blob(f->client, s->attachment.blob_id, on_blob, f, &f->call);
                        if (r >= 0)
                                return 0;
                }
                if (r < 0)
                        return r;
        }
        return sd_event_source_set_enabled(f->defer, SD_EVENT_ONESHOT);
}

static int on_defer(sd_event_source *source, void *userdata) {
        InboxFiles *f = userdata;

        for (size_t i = 0; i < f->n_slots; i++) {
                f->files[i] = f->slots[i].file;
                if (!f->files[i].path && !f->files[i].problem)
                        f->files[i].problem = (char*) "out of memory";
        }
        f->on_done(f, f->files, f->n_slots, f->userdata);
        return 0;
}

/* A name that no file of the message gets, the same each time. */
static void choose_temporary(InboxFiles *f) {
        for (unsigned k = 0;; k++) {
                (void) snprintf(f->temporary, sizeof(f->temporary), ".part-%u", k);
                if (!is_used(f, f->temporary))
                        return;
        }
}

/* The directory is there even when none of its files arrives. */
static int prepare(InboxFiles *f) {
        _cleanup_close_ int fd = -EBADF;

        if (f->n_slots == 0 || !f->workspace)
                return 0;
        fd = open_inbox(f);
        if (fd < 0)
                (void) log_warning_errno(fd, "Failed to make the inbox directory of message %s: %m", f->envelope_id);
        return 0;
}

int inbox_files_fetch(InboxFiles **ret, sd_event *event, ServerClient *client, const char *workspace,
                      const char *content, const char *envelope_id, inbox_files_done_t on_done, void *userdata) {
        _cleanup_(inbox_files_freep) InboxFiles *f = new0(InboxFiles, 1);
        int r;

        assert(ret && event && client && content && envelope_id && on_done);
        if (!f)
                return -ENOMEM;
        f->client = client;
        f->on_done = on_done;
        f->userdata = userdata;
        f->envelope_id = str_printable(envelope_id, SHOWN_NAME_MAX);
        f->directory = inbox_directory_name(envelope_id);
        if (!f->envelope_id || !f->directory)
                return -ENOMEM;
        if (!isempty(workspace)) {
                f->workspace = path_join("/", workspace);
                if (!f->workspace)
                        return -ENOMEM;
        }

        r = sd_event_add_defer(event, &f->defer, on_defer, f);
        if (r >= 0)
                r = sd_event_source_set_enabled(f->defer, SD_EVENT_OFF);
        if (r >= 0)
                r = read_content(f, content);
        if (r >= 0) {
                choose_temporary(f);
                r = prepare(f);
        }
        if (r >= 0)
                r = next(f);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(f);
        return 0;
}

InboxFiles* inbox_files_free(InboxFiles *f) {
        if (!f)
                return NULL;
        (void) server_call_free(f->call);
        sd_event_source_disable_unref(f->defer);
        for (size_t i = 0; i < f->n_slots; i++) {
                sodium_memzero(&f->slots[i].attachment, sizeof(f->slots[i].attachment));
                free(f->slots[i].file.path);
                free(f->slots[i].file.name);
                free(f->slots[i].file.problem);
        }
        signed_document_free(f->content);
        free(f->workspace);
        free(f->directory);
        free(f->envelope_id);
        return mfree(f);
}
