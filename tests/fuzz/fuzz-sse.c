/* SPDX-License-Identifier: MIT */

#include <stdlib.h>

#include "fuzz.h"
#include "sse.h"
#include "string-util.h"

#define EVENT_MAX 4096U

static int collect(const char *event, const char *data, size_t size, const char *id, void *userdata) {
        StrBuf *seen = userdata;

        if (strlen(event) > EVENT_MAX || strlen(id) > EVENT_MAX || data[size] != 0)
                abort();
        return sse_format(seen, event, data, size);
}

static int feed(const uint8_t *data, size_t size, size_t step, StrBuf *seen) {
        _cleanup_(sse_parser_freep) SseParser *p = NULL;
        int r;

        r = sse_parser_new(&p, EVENT_MAX, collect, seen);
        if (r < 0)
                return r;
        for (size_t at = 0; at < size; at += step) {
                r = sse_parser_feed(p, (const char*) data + at, MIN(step, size - at));
                if (r < 0)
                        return r;
        }
        return sse_parser_finish(p);
}

/* It makes no difference where the network has cut the stream. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        _cleanup_(strbuf_done) StrBuf whole = {}, bytes = {};
        int a, b;

        a = feed(data, size, MAX(size, (size_t) 1), &whole);
        b = feed(data, size, 1, &bytes);
        if (a == -ENOMEM || b == -ENOMEM)
                return 0;
        if (a != b || whole.size != bytes.size || (whole.size > 0 && memcmp(whole.text, bytes.text, whole.size) != 0))
                abort();
        return 0;
}
