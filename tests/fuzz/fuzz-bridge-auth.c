/* SPDX-License-Identifier: MIT */

#include <stdlib.h>

#include "base64url.h"
#include "bridge-auth.h"
#include "fuzz.h"
#include "request-signing.h"

/* Alice of the vectors, at their time. */
#define NOW ((int64_t) 1780000000000)
#define HEADERS_MAX 12U

static const uint8_t device_seed[KEY_SIZE] = {
        0xe3, 0xc6, 0xbf, 0x1b, 0xbe, 0x01, 0x1b, 0x92, 0x2d, 0x56, 0xb6, 0xaa, 0x5e, 0xff, 0x17, 0xf4,
        0xa2, 0xfa, 0xd8, 0xeb, 0x07, 0xef, 0xf5, 0xc4, 0xe1, 0x21, 0x50, 0xba, 0x0b, 0x34, 0x43, 0x51,
};
static const BridgePairing alice = {
        .slug = "alice-0001",
        .device_id = "dev_nLDeKQODg-hiJovAZfW-mmYYIIRfWGyW-z-0_1FZdEo",
        .root_public_key = "6s8wQzBF4mq34BWACIU26qiRY2LR00bsmWyiBBsAQf8",
        .device_signing_public_key = "y4N5uDqnxuQl3VEdgk4R_m6UnAgaqKoxPeBbYuDv_sk",
};

typedef struct Request {
        char *text;             /* all of it, cut into the pieces below */
        char *method, *target;
        char *names[HEADERS_MAX], *values[HEADERS_MAX];
        size_t n_headers;
        BridgeRequest q;
        char *signature;        /* NULL: the one in the headers */
} Request;

static void request_done(Request *r) {
        free(r->text);
        free(r->signature);
}

static const char* header_of(void *userdata, const char *name) {
        const Request *r = userdata;

        if (r->signature && streq(name, "x-puffo-signature"))
                return r->signature;
        for (size_t i = 0; i < r->n_headers; i++)
                if (streq(r->names[i], name))
                        return r->values[i];
        return NULL;
}

/* "METHOD TARGET", header lines, an empty line, the body. False when it is no such thing. */
static bool request_read(Request *r, const uint8_t *data, size_t size) {
        char *line, *end, *newline;

        r->text = memdup0(data, size);
        if (!r->text)
                return false;
        end = r->text + size;
        for (line = r->text; (newline = memchr(line, '\n', (size_t) (end - line))); line = newline + 1) {
                char *colon;

                *newline = 0;
                if (!r->method) {
                        r->method = line;
                        r->target = strchr(line, ' ');
                        if (!r->target)
                                return false;
                        *r->target++ = 0;
                        continue;
                }
                if (!*line) {
                        r->q = (BridgeRequest) {
                                .method = r->method,
                                .target = r->target,
                                .header = header_of,
                                .userdata = r,
                                .body = newline + 1,
                                .body_size = (size_t) (end - newline - 1),
                                .now_ms = NOW,
                        };
                        return true;
                }
                colon = strchr(line, ':');
                if (!colon || r->n_headers >= HEADERS_MAX)
                        return false;
                *colon = 0;
                r->names[r->n_headers] = line;
                r->values[r->n_headers++] = colon + 1 + strspn(colon + 1, " ");
        }
        return false;
}

static void check_refusal(int r, BridgeRefusal *refusal) {
        if (r == -EACCES && ((refusal->status != 400 && refusal->status != 401) || isempty(refusal->error)))
                abort();
        bridge_refusal_done(refusal);
}

/* Whatever gets through does so once. */
static void check_request(const Request *request) {
        _cleanup_(nonce_memory_freep) NonceMemory *nonces = NULL;
        const BridgeRequest *q = &request->q;
        BridgeRefusal refusal = {};
        BridgeAccess access = _BRIDGE_ACCESS_MAX;
        BridgeOffer offer = {};
        int admitted, r;

        if (nonce_memory_new(&nonces, 2) < 0)
                return;
        admitted = bridge_request_admit(q, &alice, nonces, &access, &refusal);
        check_refusal(admitted, &refusal);
        if (admitted >= 0 && access >= _BRIDGE_ACCESS_MAX)
                abort();

        r = bridge_request_verify(q, &alice, nonces, &refusal);
        check_refusal(r, &refusal);
        if (r >= 0) {
                if (admitted < 0 || nonce_memory_size(nonces) != 1)
                        abort();
                r = bridge_request_verify(q, &alice, nonces, &refusal);
                if (r != -EACCES || !streq(refusal.error, "nonce already used"))
                        abort();
                check_refusal(r, &refusal);
        } else if (nonce_memory_size(nonces) != 0)
                abort();

        r = bridge_request_pair(q, nonces, &offer, &refusal);
        check_refusal(r, &refusal);
        if (r >= 0 && (isempty(offer.slug) || isempty(offer.device_id) || !offer.identity_cert || !offer.device_cert))
                abort();
        bridge_offer_done(&offer);
}

/* The same, with a signature of the paired device. */
static void check_signed(Request *request) {
        const char *target = request->target, *mark = strchr(target, '?');
        _cleanup_free_ char *cut = memdup0(target, mark && !mark[1] ? (size_t) (mark - target) : strlen(target));
        const SignedRequest s = {
                .method = request->method,
                .path = cut,
                .timestamp = strempty(header_of(request, "x-puffo-timestamp")),
                .nonce = strempty(header_of(request, "x-puffo-nonce")),
                .body = request->q.body,
                .body_size = request->q.body_size,
        };

        if (!cut || signed_request_sign(&s, device_seed, &request->signature) < 0)
                abort();
        check_request(request);
}

/* What a memory writes it reads, and then writes the same. */
static void check_memory(const uint8_t *data, size_t size) {
        _cleanup_(nonce_memory_freep) NonceMemory *m = NULL, *again = NULL;
        _cleanup_(strbuf_done) StrBuf text = {}, second = {};

        if (nonce_memory_new(&m, 8) < 0 || nonce_memory_new(&again, 8) < 0)
                return;
        (void) nonce_memory_load(m, (const char*) data, size, NOW);
        if (nonce_memory_size(m) > 8 || nonce_memory_format(m, &text) < 0 ||
            nonce_memory_load(again, text.text, text.size, NOW) < 0 || nonce_memory_format(again, &second) < 0 ||
            text.size != second.size || nonce_memory_size(m) != nonce_memory_size(again))
                abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        _cleanup_(request_done) Request request = {};
        static bool ready;

        if (!ready && crypto_init() < 0)
                abort();
        ready = true;

        check_memory(data, size);
        if (!request_read(&request, data, size))
                return 0;
        check_request(&request);
        check_signed(&request);
        return 0;
}
