/* SPDX-License-Identifier: MIT */

#include <fcntl.h>
#include <sys/stat.h>
#include <time.h>

#include "audit-log.h"
#include "cli-file.h"
#include "string-util.h"

#define DIRECTORY ".puffo-agent"
#define FILE_NAME "audit.log"
#define FILE_SIZE_MAX MIB(16)
#define FIELD_CHARS_MAX 2000U
#define LINE_SIZE_MAX KIB(256)
#define SUFFIX "... (truncated)"

static const char *const events[_AUDIT_EVENT_MAX] = {
        [AUDIT_SESSION_START] = "session.start", [AUDIT_TURN_INPUT] = "turn.input",
        [AUDIT_ASSISTANT_TEXT] = "assistant.text", [AUDIT_TOOL] = "tool", [AUDIT_TURN_END] = "turn.end",
        [AUDIT_STREAM_ERROR] = "session.stream_error", [AUDIT_AUTH_ERROR] = "auth_error.detected",
        [AUDIT_AUTH_EXHAUSTED] = "auth_error.exhausted_retries",
};

/* ---- a record ---- */

static json_object* cut_string(json_object *o) {
        const char *s = json_object_get_string(o), *p = s, *end = s + json_object_get_string_len(o);
        _cleanup_(strbuf_done) StrBuf b = {};

        for (unsigned n = 0; p < end; p++)
                if (((unsigned char) *p & 0xc0) != 0x80 && n++ == FIELD_CHARS_MAX)
                        break;
        if (p == end)
                return json_object_get(o);
        if (strbuf_append(&b, s, (size_t) (p - s)) < 0 || strbuf_puts(&b, SUFFIX) < 0)
                return NULL;
        return json_object_new_string_len(b.text, (int) b.size);
}

/* A copy with long texts cut, in there too. NULL: out of memory; never called for a null. */
static json_object* cut_value(json_object *o) {
        _cleanup_json_ json_object *copy = NULL;

        switch (json_object_get_type(o)) {
        case json_type_string:
                return cut_string(o);
        case json_type_array:
                copy = json_object_new_array();
                for (size_t i = 0; copy && i < json_object_array_length(o); i++) {
                        json_object *v = json_object_array_get_idx(o, i), *cut = v ? cut_value(v) : NULL;

                        if ((v && !cut) || json_object_array_add(copy, cut) < 0) {
                                json_object_put(cut);
                                return NULL;
                        }
                }
                return TAKE_PTR(copy);
        case json_type_object:
                copy = json_object_new_object();
                if (!copy)
                        return NULL;
                json_object_object_foreach(o, key, v) {
                        json_object *cut = v ? cut_value(v) : NULL;

                        if ((v && !cut) || json_put(copy, key, cut) < 0)
                                return NULL;
                }
                return TAKE_PTR(copy);
        default:
                return json_object_get(o);
        }
}

static int record_new(const AgentHome *h, AuditEvent event, json_object **ret) {
        _cleanup_json_ json_object *o = json_object_new_object();
        time_t now = time(NULL);
        char stamp[32];
        struct tm tm;
        int r;

        if (!o)
                return -ENOMEM;
        if (!gmtime_r(&now, &tm) || strftime(stamp, sizeof(stamp), "%Y-%m-%dT%H:%M:%S+00:00", &tm) == 0)
                return -EINVAL;
        r = json_put_string(o, "ts", stamp);
        if (r >= 0)
                r = json_put_string(o, "agent", h->id);
        if (r >= 0)
                r = json_put_string(o, "event", events[event]);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(o);
        return 0;
}

static int add_fields(json_object *record, json_object *fields) {
        _cleanup_json_ json_object *cut = fields ? cut_value(fields) : NULL;

        if (!cut)
                return fields ? -ENOMEM : 0;
        json_object_object_foreach(cut, key, v) {
                int r = json_put(record, key, json_object_get(v));

                if (r < 0)
                        return r;
        }
        return 0;
}

static int line_new(const AgentHome *h, AuditEvent event, json_object *fields, char **ret) {
        _cleanup_json_ json_object *record = NULL;
        const char *text = NULL;
        size_t size = 0;
        int r;

        r = record_new(h, event, &record);
        if (r >= 0)
                r = add_fields(record, fields);
        if (r < 0)
                return r;
        text = json_text(record, &size);
        if (text && size > LINE_SIZE_MAX) { /* thousands of fields */
                json_object_put(TAKE_PTR(record));
                r = record_new(h, event, &record);
                if (r >= 0)
                        r = json_put_bool(record, "truncated", true);
                if (r < 0)
                        return r;
                text = json_text(record, &size);
        }
        *ret = text ? strjoin(text, "\n") : NULL;
        return *ret ? 0 : -ENOMEM;
}

/* ---- the file ---- */

static int directory_open_audit(const AgentHome *h) {
        _cleanup_close_ int root = open(h->workspace, O_PATH | O_DIRECTORY | O_CLOEXEC);

        return root < 0 ? -errno : cli_directory_make(root, DIRECTORY, 0700);
}

/* A link, a FIFO or a second name of another file in its place is moved out of the way. */
static int file_open_audit(int dir) {
        const int flags = O_WRONLY | O_APPEND | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC;

        for (unsigned i = 0; i < 3; i++) {
                _cleanup_close_ int fd = openat(dir, FILE_NAME, flags, 0600);
                struct stat st;
                int r;

                if (fd >= 0 && fstat(fd, &st) < 0)
                        return -errno;
                if (fd >= 0 && S_ISREG(st.st_mode) && st.st_nlink == 1) {
                        if ((uint64_t) st.st_size <= FILE_SIZE_MAX)
                                return TAKE_FD(fd);
                        if (renameat(dir, FILE_NAME, dir, FILE_NAME ".1") < 0)
                                return -errno;
                        continue;
                }
                if (fd < 0 && errno != ELOOP && errno != ENXIO && errno != EISDIR && errno != ENODEV)
                        return -errno;
                r = cli_file_move_aside(dir, FILE_NAME);
                if (r < 0)
                        return r;
        }
        return -ELOOP;
}

const char* audit_event_to_string(AuditEvent e) {
        return e >= 0 && e < _AUDIT_EVENT_MAX ? events[e] : NULL;
}

int audit_log_append(const AgentHome *h, AuditEvent event, json_object *fields) {
        _cleanup_close_ int dir = -EBADF, fd = -EBADF;
        _cleanup_free_ char *line = NULL;
        size_t size;
        ssize_t n;
        int r;

        assert(event >= 0 && event < _AUDIT_EVENT_MAX);
        r = line_new(h, event, fields, &line);
        if (r < 0)
                return r;
        dir = directory_open_audit(h);
        if (dir < 0)
                return dir;
        fd = file_open_audit(dir);
        if (fd < 0)
                return fd;
        /* One write, so that a line is whole also where two processes append. */
        size = strlen(line);
        n = write(fd, line, size);
        return n < 0 ? -errno : (size_t) n == size ? 0 : -ENOSPC;
}
