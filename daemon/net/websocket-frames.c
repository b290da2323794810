/* SPDX-License-Identifier: MIT */

#include <sys/random.h>

#include "string-util.h"
#include "websocket-internal.h"

/* Read in one turn of the loop. */
#define TURN_BYTES_MAX KIB(256)
/* Queued frames, mostly pongs for a peer that sends pings and reads nothing. */
#define QUEUED_MAX 4096U

bool websocket_frames_want_read(const WebSocketFrames *f) {
        return wslay_event_get_read_enabled(f->wslay) && wslay_event_get_queued_msg_count(f->wslay) < QUEUED_MAX;
}

static ssize_t frames_on_recv(wslay_event_context_ptr ctx, uint8_t *data, size_t size, int flags, void *userdata) {
        WebSocketFrames *f = userdata;
        ssize_t n;

        /* One message at a time: it stops here until that one was read. */
        if (!STAILQ_EMPTY(&f->received) || f->budget == 0 || !websocket_frames_want_read(f)) {
                f->more = f->budget == 0;
                wslay_event_set_error(ctx, WSLAY_ERR_WOULDBLOCK);
                return -1;
        }
        n = f->read(f->transport, data, size);
        if (n > 0) {
                f->heard = true;
                f->budget -= MIN(f->budget, (size_t) n);
                return n;
        }
        if (n == -EAGAIN)
                wslay_event_set_error(ctx, WSLAY_ERR_WOULDBLOCK);
        else {
                f->ended = n == 0;
                f->failed = n < 0;
                wslay_event_set_error(ctx, WSLAY_ERR_CALLBACK_FAILURE);
        }
        return -1;
}

static ssize_t frames_on_send(wslay_event_context_ptr ctx, const uint8_t *data, size_t size, int flags,
                              void *userdata) {
        WebSocketFrames *f = userdata;
        ssize_t n = f->write(f->transport, data, size);

        if (n > 0)
                return n;
        wslay_event_set_error(ctx, n == -EAGAIN ? WSLAY_ERR_WOULDBLOCK : WSLAY_ERR_CALLBACK_FAILURE);
        return -1;
}

static int frames_on_mask(wslay_event_context_ptr ctx, uint8_t *data, size_t size, void *userdata) {
        return getrandom(data, size, 0) == (ssize_t) size ? 0 : -1;
}

static bool is_control(uint8_t opcode) {
        return opcode & 0x08;
}

/* wslay would keep each frame's payload by itself, which takes a hundred times as much when frames are of one byte. */
static void frames_on_frame(wslay_event_context_ptr ctx, const struct wslay_event_on_frame_recv_start_arg *arg,
                            void *userdata) {
        WebSocketFrames *f = userdata;

        f->opcode = arg->opcode;
        if (is_control(arg->opcode))
                return;
        if (arg->opcode != WSLAY_CONTINUATION_FRAME)
                f->wanted = arg->opcode == WSLAY_TEXT_FRAME;
        if (f->wanted && arg->payload_length > f->max_message - f->text.size) {
                (void) wslay_event_queue_close(ctx, WSLAY_CODE_MESSAGE_TOO_BIG, NULL, 0);
                wslay_event_shutdown_read(ctx);
                f->wanted = false;
        }
}

static void frames_on_chunk(wslay_event_context_ptr ctx, const struct wslay_event_on_frame_recv_chunk_arg *arg,
                            void *userdata) {
        WebSocketFrames *f = userdata;

        if (f->wanted && !is_control(f->opcode) &&
            strbuf_append(&f->text, (const char*) arg->data, arg->data_length) < 0)
                f->no_memory = true;
}

static void frames_on_message(wslay_event_context_ptr ctx, const struct wslay_event_on_msg_recv_arg *arg,
                              void *userdata) {
        WebSocketFrames *f = userdata;
        WebSocketMessage *m;

        if (arg->opcode == WSLAY_PONG)
                f->pong = true;
        if (arg->opcode != WSLAY_TEXT_FRAME || !f->wanted)
                return;

        m = f->no_memory ? NULL : new0(WebSocketMessage, 1);
        if (!m) {
                f->no_memory = true;
                return;
        }
        m->size = f->text.size;
        m->text = strbuf_take(&f->text);
        if (!m->text) {
                free(m);
                f->no_memory = true;
                return;
        }
        STAILQ_INSERT_TAIL(&f->received, m, messages);
}

int websocket_frames_init(WebSocketFrames *f, size_t max_message) {
        static const struct wslay_event_callbacks callbacks = {
                .recv_callback = frames_on_recv,
                .send_callback = frames_on_send,
                .genmask_callback = frames_on_mask,
                .on_frame_recv_start_callback = frames_on_frame,
                .on_frame_recv_chunk_callback = frames_on_chunk,
                .on_msg_recv_callback = frames_on_message,
        };

        STAILQ_INIT(&f->received);
        if (wslay_event_context_client_init(&f->wslay, &callbacks, f) != 0)
                return -ENOMEM;
        wslay_event_config_set_no_buffering(f->wslay, 1);
        wslay_event_config_set_max_recv_msg_length(f->wslay, max_message);
        f->max_message = max_message;
        return 0;
}

WebSocketMessage* websocket_message_free(WebSocketMessage *m) {
        if (!m)
                return NULL;
        free(m->text);
        return mfree(m);
}

static WebSocketMessage* frames_take(WebSocketFrames *f) {
        WebSocketMessage *m = STAILQ_FIRST(&f->received);

        if (m)
                STAILQ_REMOVE_HEAD(&f->received, messages);
        return m;
}

void websocket_frames_done(WebSocketFrames *f) {
        WebSocketMessage *m;

        if (f->wslay) {
                wslay_event_context_free(f->wslay);
                while ((m = frames_take(f)))
                        websocket_message_free(m);
        }
        strbuf_done(&f->text);
        *f = (WebSocketFrames) {};
}

int websocket_frames_read(WebSocketFrames *f, WebSocketMessage **ret) {
        int k = 0;

        f->more = false;
        f->budget = TURN_BYTES_MAX;
        if (STAILQ_EMPTY(&f->received))
                k = wslay_event_recv(f->wslay);

        *ret = frames_take(f);
        if (*ret)
                return 1;
        if (f->no_memory || k == WSLAY_ERR_NOMEM)
                return -ENOMEM;
        if (f->ended || f->failed)
                return f->ended ? -EPIPE : -EIO;
        /* Too large, no UTF-8, reserved bits …: wslay has queued the fitting close frame and reads no more. */
        if (k != 0 || (!wslay_event_get_read_enabled(f->wslay) && !wslay_event_get_close_received(f->wslay)))
                return -EPROTO;
        return 0;
}

int websocket_frames_write(WebSocketFrames *f) {
        if (wslay_event_send(f->wslay) != 0)
                return -EPIPE;
        return wslay_event_want_write(f->wslay);
}
