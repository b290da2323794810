/* SPDX-License-Identifier: MIT */

/* What a server may send to open a WebSocket, and the frames behind it, whole and byte by byte. */

#include <stdlib.h>

#include "fuzz.h"
#include "string-util.h"
#include "websocket-handshake.h"
#include "websocket-internal.h"

#define MESSAGE_MAX KIB(64)

typedef struct Input {
        const uint8_t *data;
        size_t size, step;
        bool blocked;           /* the piece of this turn has been read */
} Input;

static ssize_t input_read(void *transport, void *data, size_t size) {
        Input *in = transport;
        size_t n = MIN(MIN(size, in->size), in->step);

        if (in->size == 0)
                return 0;
        if (in->blocked)
                return -EAGAIN;
        in->blocked = in->step < in->size;
        memcpy(data, in->data, n);
        in->data += n;
        in->size -= n;
        return (ssize_t) n;
}

static ssize_t output_write(void *transport, const void *data, size_t size) {
        return (ssize_t) size;
}

static int read_all(const uint8_t *data, size_t size, size_t step, StrBuf *seen) {
        Input in = { .data = data, .size = size, .step = step };
        WebSocketFrames f = {};
        int r = websocket_frames_init(&f, MESSAGE_MAX);

        if (r < 0)
                return r;
        f.read = input_read;
        f.write = output_write;
        f.transport = &in;

        for (;;) {
                _cleanup_(websocket_message_freep) WebSocketMessage *m = NULL;

                in.blocked = false;
                r = websocket_frames_read(&f, &m);
                if (r > 0 && (m->size > MESSAGE_MAX || m->text[m->size] != 0 || !utf8_is_valid(m->text, m->size)))
                        abort();
                if (r > 0 && (strbuf_append(seen, m->text, m->size) < 0 || strbuf_append(seen, "", 1) < 0))
                        r = -ENOMEM;
                if (r < 0 || (r == 0 && wslay_event_get_close_received(f.wslay)))
                        break;
                (void) websocket_frames_write(&f);
        }
        websocket_frames_done(&f);
        return r;
}

static void check_opening(const uint8_t *data, size_t size) {
        const char *error;
        size_t head = 0;
        long status;
        int r = websocket_response_check((const char*) data, size, "dGhlIHNhbXBsZSBub25jZQ==", &head, &status, &error);

        if (r > 0 && (head == 0 || head > size || status != 101))
                abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        _cleanup_(strbuf_done) StrBuf whole = {}, bytes = {};
        int a, b;

        check_opening(data, size);
        if (size > KIB(256))
                return 0;

        a = read_all(data, size, MAX(size, (size_t) 1), &whole);
        b = read_all(data, size, 1, &bytes);
        if (a == -ENOMEM || b == -ENOMEM)
                return 0;
        /* How it ends may differ: of two faults at once either may be seen first, and libwslay looks at the reason of
         * a close frame only when it comes in one piece. What was received before must not. */
        if (whole.size != bytes.size || (whole.size > 0 && memcmp(whole.text, bytes.text, whole.size) != 0))
                abort();
        return 0;
}
