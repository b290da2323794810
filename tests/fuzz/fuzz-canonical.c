/* SPDX-License-Identifier: MIT */

#include <stdlib.h>

#include "../unit/json-spaced.h"
#include "fuzz.h"
#include "signed-json.h"

typedef int (*format_t)(const SignedValue *v, StrBuf *b);

static int format_compat(const SignedValue *v, StrBuf *b) {
        return canonical_format(v, CANONICAL_COMPAT, b);
}

static int format_rfc8785(const SignedValue *v, StrBuf *b) {
        return canonical_format(v, CANONICAL_RFC8785, b);
}

/* A form that is printed is accepted, and comes out the same again. */
static void check_form(const SignedValue *v, format_t format) {
        _cleanup_(signed_document_freep) SignedDocument *d = NULL;
        _cleanup_(strbuf_done) StrBuf text = {}, again = {};

        if (format(v, &text) < 0)
                return;
        if (signed_document_parse(&d, text.text, text.size) < 0 || format(signed_document_root(d), &again) < 0 ||
            text.size != again.size || memcmp(text.text, again.text, text.size) != 0)
                abort();
}

/* What is sent stands for the same as what came: both sides have to find the same bytes to sign. */
static void check_sent(const SignedValue *v) {
        _cleanup_(strbuf_done) StrBuf sent = {}, canonical = {}, theirs = {};
        _cleanup_(signed_document_freep) SignedDocument *d = NULL;
        int r;

        if (signed_value_format(v, &sent) < 0 || signed_document_parse(&d, sent.text, sent.size) < 0)
                abort();
        r = canonical_format_for_signing(v, CANONICAL_COMPAT, &canonical);
        if (canonical_format_for_signing(signed_document_root(d), CANONICAL_COMPAT, &theirs) != r)
                abort();
        if (r >= 0 && (canonical.size != theirs.size || memcmp(canonical.text, theirs.text, canonical.size) != 0))
                abort();
}

/* Objects of a list that are taken as a whole are what they are when they are parsed one by one. */
static void check_spaced(const uint8_t *data, size_t size, const SignedValue *root) {
        _cleanup_(strbuf_done) StrBuf spaced = {}, one = {}, other = {};
        _cleanup_(signed_document_freep) SignedDocument *d = NULL;
        int r;

        if (json_spaced((const char*) data, size, &spaced) < 0)
                return;
        r = signed_document_parse(&d, strempty(spaced.text), spaced.size);
        if (!root != (r < 0))
                abort();
        if (!root || signed_value_format(root, &one) < 0 || signed_value_format(signed_document_root(d), &other) < 0)
                return;
        if (one.size != other.size || memcmp(one.text, other.text, one.size) != 0)
                abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        _cleanup_(signed_document_freep) SignedDocument *d = NULL;
        const SignedValue *root;

        if (signed_document_parse(&d, (const char*) data, size) < 0) {
                check_spaced(data, size, NULL);
                return 0;
        }
        root = signed_document_root(d);
        check_spaced(data, size, root);
        check_form(root, format_compat);
        check_form(root, format_rfc8785);
        check_form(root, signed_value_format);
        check_sent(root);
        return 0;
}
