/* SPDX-License-Identifier: MIT */

/* Every reader of a server's answers on the same bytes, and the one that takes missed messages apart in pieces. */

#include <stdlib.h>

#include "cert-page.h"
#include "envelope.h"
#include "fuzz.h"
#include "item-id.h"
#include "pending-reader.h"
#include "server-api.h"

#define ITEM_MAX KIB(16)

static int collect(const char *text, size_t size, void *userdata) {
        StrBuf *seen = userdata;

        if (size == 0 || size > ITEM_MAX)
                abort();
        if (strbuf_append(seen, text, size) < 0)
                return -ENOMEM;
        return strbuf_append(seen, "", 1);
}

static int too_large(const char *envelope_id, size_t size, void *userdata) {
        if (size <= ITEM_MAX)
                abort();
        return strbuf_puts(userdata, "too large") < 0 ? -ENOMEM : strbuf_puts(userdata, strempty(envelope_id));
}

/* What finds the id of an item that cannot be kept sees the one that a parser sees. */
static void check_item_id(const uint8_t *data, size_t size, const SignedValue *root) {
        const SignedValue *envelope = signed_get(root, "envelope") ?: root;
        const char *id = signed_get_string(envelope, "envelope_id");
        _cleanup_(item_id_done) ItemId f = {};
        _cleanup_free_ char *found = NULL;

        /* Keys are compared as they are written. */
        if (memmem(data, size, "\\u", 2))
                return;
        if (item_id_feed(&f, (const char*) data, size) < 0 || item_id_finish(&f, &found) < 0)
                return;
        if (isempty(id) || strlen(id) > ENVELOPE_ID_MAX ? !!found : !streq_ptr(found, id))
                abort();
}

static int read_pending(const uint8_t *data, size_t size, size_t step, StrBuf *seen) {
        _cleanup_(pending_reader_freep) PendingReader *p = NULL;
        int r = pending_reader_new(&p, ITEM_MAX, &(PendingHandlers) { collect, too_large, seen });

        for (size_t at = 0; at < size && r >= 0; at += step)
                r = pending_reader_feed(p, (const char*) data + at, MIN(step, size - at));
        return r < 0 ? r : pending_reader_finish(p);
}

static void check_pending(const uint8_t *data, size_t size) {
        _cleanup_(strbuf_done) StrBuf whole = {}, bytes = {};
        int a = read_pending(data, size, MAX(size, (size_t) 1), &whole), b = read_pending(data, size, 1, &bytes);

        if (a == -ENOMEM || b == -ENOMEM)
                return;
        if (a != b || whole.size != bytes.size || (whole.size > 0 && memcmp(whole.text, bytes.text, whole.size) != 0))
                abort();
}

/* What a reader refuses it must say why, and what it takes is there. */
static void check_texts(int r, const char *error, size_t n, const char *first) {
        if (r == -ENOMEM)
                return;
        if ((r < 0) != !!error || (r >= 0 && n > 0 && !first))
                abort();
}

/* A reader of lists, and a member that each of its items has. */
#define DEFINE_CHECK(type, reader, field) \
        static void check_##reader(const CallReply *reply) { \
                _cleanup_free_ type *items = NULL; \
                _cleanup_free_ char *error = NULL; \
                size_t n = 0; \
                int r = reader(reply, &items, &n, &error); \
                check_texts(r, error, n, r >= 0 && n > 0 ? items[0].field : NULL); \
        } struct _cleanup_semicolon_

DEFINE_CHECK(Profile, api_read_profiles, slug);
DEFINE_CHECK(Space, api_read_spaces, space_id);
DEFINE_CHECK(Channel, api_read_channels, channel_id);
DEFINE_CHECK(Member, api_read_members, role);

static int count_entry(const CertEntry *e, void *userdata) {
        (*(size_t*) userdata)++;
        return 0;
}

static void check_answer(const SignedValue *json) {
        CallReply reply = { .failure = CALL_OK, .status = 200, .json = json };
        _cleanup_free_ char *error = NULL, *error2 = NULL, *error3 = NULL, *error4 = NULL;
        size_t n = 0, left_out = 0, n_entries = 0;
        _cleanup_free_ Invite *invites = NULL;
        const char *blob = NULL, *problem;
        PostedMessage posted = {};
        EventPage page = {};
        CertPageEnd end;
        int r;

        check_api_read_profiles(&reply);
        check_api_read_spaces(&reply);
        check_api_read_channels(&reply);
        check_api_read_members(&reply);

        r = api_read_invites(&reply, &invites, &n, &left_out, &error);
        check_texts(r, error, n, r >= 0 && n > 0 ? invites[0].event_id : NULL);
        r = api_read_event_page(&reply, "0", &page, &error2);
        check_texts(r, error2, page.n_events, r >= 0 && page.n_events > 0 ? "" : NULL);
        if (page.next_cursor && streq(page.next_cursor, "0"))
                abort();
        free(page.events);
        r = api_read_posted(&reply, &posted, &error3);
        check_texts(r, error3, posted.n_missing, r >= 0 && posted.n_missing > 0 ? posted.missing_devices[0] : NULL);
        free(posted.missing_devices);
        r = api_read_uploaded(&reply, &blob, &error4);
        if (r >= 0 && !blob_id_is_valid(blob))
                abort();

        r = cert_page_read(json, "alice-0001", 7, count_entry, &n_entries, &end, &problem);
        if (r >= 0 && end.has_more && end.since <= 7)
                abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        _cleanup_(signed_document_freep) SignedDocument *d = NULL;

        check_pending(data, size);
        if (signed_document_parse(&d, (const char*) data, size) >= 0) {
                check_item_id(data, size, signed_document_root(d));
                check_answer(signed_document_root(d));
        }
        return 0;
}
