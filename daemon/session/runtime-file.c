/* SPDX-License-Identifier: MIT */

#include "event-util.h"
#include "file-util.h"
#include "json-util.h"
#include "runtime-file.h"

int runtime_file_write(const char *path, const RuntimeFile *f) {
        _cleanup_json_ json_object *o = json_object_new_object();
        const char *text;
        size_t size;
        int r;

        if (!o)
                return -ENOMEM;
        r = json_put_string(o, "status", f->status);
        if (r >= 0)
                r = json_put_int(o, "started_at", (int64_t) f->started_at);
        if (r >= 0)
                r = json_put_int(o, "updated_at", (int64_t) (now_realtime_usec() / USEC_PER_SEC));
        if (r >= 0)
                r = json_put_int(o, "msg_count", (int64_t) f->msg_count);
        if (r >= 0)
                r = json_put_int(o, "last_event_at", (int64_t) f->last_event_at);
        if (r >= 0)
                r = json_put_string(o, "error", f->error);
        if (r >= 0)
                r = json_put_string(o, "health", f->health);
        if (r < 0)
                return r;

        text = json_object_to_json_string_length(o, JSON_C_TO_STRING_PRETTY|JSON_C_TO_STRING_SPACED|
                                                 JSON_C_TO_STRING_NOSLASHESCAPE, &size);
        if (!text)
                return -ENOMEM;
        /* Written at each change of state, in front of a turn's first words too: those must not wait for a disk. */
        return file_write_snapshot(path, text, size, 0600);
}
