/* SPDX-License-Identifier: MIT */

/* What the vectors cannot say: an envelope's life, and its limits. */

#include <stdio.h>

#include "cert-fixture.h"
#include "envelope-internal.h"
#include "hpke.h"

static MessageDraft draft_of(const Person *from, const SignedValue *content) {
        MessageDraft m = {
                .kind = ENVELOPE_CHANNEL,
                .sender_slug = from->slug,
                .sender_subkey_id = from->subkey_id,
                .space_id = "sp_1",
                .channel_id = "ch_1",
                .content_type = CONTENT_TYPE_TEXT,
                .content = content,
                .sent_at = NOW,
        };

        signing_key_init(&m.subkey, from->subkey_seed);
        return m;
}

static int seal(const MessageDraft *m, const Person *to, StrBuf *ret) {
        Recipient recipient = { .device_id = to->device_id };
        _cleanup_free_ char *id = NULL;
        SealSecrets secrets;

        memcpy(recipient.kem_key, to->kem, KEY_SIZE);
        ASSERT_OK(seal_secrets_random(&secrets, &id));
        return envelope_seal(m, &recipient, 1, &secrets, ret);
}

/* A plaintext envelope with this payload and signature. */
static void put_plain(StrBuf *b, const char *payload, const uint8_t signature[SIGNATURE_SIZE]) {
        _cleanup_free_ char *text = base64url_encode(signature, SIGNATURE_SIZE);

        ASSERT_OK(strbuf_printf(b, "{\"type\":\"plaintext_message_envelope\",\"version\":1,\"envelope_id\":\"msg_1\","
                                   "\"signed_payload\":{\"payload\":%s,\"signature\":\"%s\"}}", payload, text));
}

static void put_payload(StrBuf *b, const Person *from, const char *thread, const char *content) {
        ASSERT_OK(strbuf_printf(b, "{\"channel_id\":\"ch_1\",\"content\":%s,\"content_type\":\"text/plain\","
                                   "\"envelope_kind\":\"channel\",\"message_nonce\":\"n\",\"reply_to_id\":null,"
                                   "\"sender_slug\":\"%s\",\"sender_subkey_id\":\"%s\",\"sent_at\":1,"
                                   "\"space_id\":\"sp_1\",\"thread_root_id\":%s,\"type\":\"message_payload\","
                                   "\"version\":1}", content, from->slug, from->subkey_id, thread));
}

static void sign(const Person *from, const char *text, size_t size, uint8_t ret[SIGNATURE_SIZE]) {
        sign_detached(from->subkey_seed, text, size, ret);
}

static EnvelopeError verify(Envelope *e, const Person *from, Message *ret) {
        EnvelopeError error = ENVELOPE_OK;
        int r = envelope_verify(e, (const uint8_t (*)[KEY_SIZE]) &from->subkey, 1, ret, &error);

        ASSERT_TRUE(r == 0 || r == -EBADMSG);
        return r == 0 ? ENVELOPE_OK : error;
}

static void fill(char *text, size_t n) {
        memset(text, 'x', n);
        text[n] = 0;
}

TEST(sealed_and_opened) {
        _cleanup_(signed_document_freep) SignedDocument *d = NULL;
        _cleanup_(envelope_freep) Envelope *e = NULL;
        _cleanup_(strbuf_done) StrBuf sealed = {};
        EnvelopeError error;
        MessageDraft draft;
        KemKey kem;
        Message m;
        PERSON(alice, "alice-0001");
        PERSON(bob, "bob-0001");

        ASSERT_OK(signed_document_new(&d));
        draft = draft_of(&alice, signed_string(d, "hello"));
        ASSERT_OK(seal(&draft, &bob, &sealed));
        ASSERT_OK(envelope_parse(&e, sealed.text, sealed.size));
        kem_key_init(&kem, bob.kem_secret);

        /* A device that it is not for finds that out as often as it asks. */
        for (unsigned i = 0; i < 3; i++) {
                ASSERT_ERROR(envelope_decrypt(e, alice.device_id, &kem, &error), EBADMSG);
                ASSERT_EQ(error, ENVELOPE_NO_RECIPIENT_ENTRY);
        }
        ASSERT_OK(envelope_decrypt(e, bob.device_id, &kem, &error));
        ASSERT_EQ(envelope_decrypt(e, bob.device_id, &kem, &error), 1);
        ASSERT_EQ(verify(e, &bob, &m), ENVELOPE_SIGNATURE_INVALID);
        ASSERT_EQ(verify(e, &alice, &m), ENVELOPE_OK);
        ASSERT_TRUE(m.encrypted);
        ASSERT_STREQ(m.content->text, "hello");
}

/* What is the same in two envelopes of one message. */
static void assert_same(const Envelope *a, const Envelope *b, const char *key) {
        ASSERT_STREQ(signed_get_string(envelope_outer(a), key), signed_get_string(envelope_outer(b), key));
}

/* For a device that was forgotten: the same message, not a second one. */
TEST(sealed_again) {
        _cleanup_(signed_document_freep) SignedDocument *d = NULL;
        _cleanup_(envelope_freep) Envelope *first = NULL, *second = NULL;
        _cleanup_(strbuf_done) StrBuf sealed = {}, again = {};
        EnvelopeError error;
        MessageDraft draft;
        KemKey own, kem;
        Message m;
        PERSON(alice, "alice-0001");
        PERSON(bob, "bob-0001");
        Recipient recipient = { .device_id = bob.device_id };

        memcpy(recipient.kem_key, bob.kem, KEY_SIZE);
        ASSERT_OK(signed_document_new(&d));
        draft = draft_of(&alice, signed_string(d, "hello"));
        ASSERT_OK(seal(&draft, &alice, &sealed));
        kem_key_init(&own, alice.kem_secret);
        kem_key_init(&kem, bob.kem_secret);

        ASSERT_ERROR(envelope_seal_again("{}", 2, alice.device_id, &own, &recipient, 1, &again), EBADMSG);
        ASSERT_ERROR(envelope_seal_again("[", 1, alice.device_id, &own, &recipient, 1, &again), EBADMSG);
        ASSERT_ERROR(envelope_seal_again(sealed.text, sealed.size, bob.device_id, &kem, &recipient, 1, &again), EBADMSG);
        ASSERT_ERROR(envelope_seal_again(sealed.text, sealed.size, alice.device_id, &kem, &recipient, 1, &again),
                     EBADMSG);
        ASSERT_ERROR(envelope_seal_again(sealed.text, sealed.size, alice.device_id, &own, &recipient, 0, &again),
                     ENODEV);
        ASSERT_EQ(again.size, 0);

        ASSERT_OK(envelope_seal_again(sealed.text, sealed.size, alice.device_id, &own, &recipient, 1, &again));
        ASSERT_OK(envelope_parse(&first, sealed.text, sealed.size));
        ASSERT_OK(envelope_parse(&second, again.text, again.size));
        ASSERT_EQ(signed_get(envelope_outer(second), "recipients")->size, 1);
        ASSERT_EQ(envelope_outer(first)->size, envelope_outer(second)->size);
        assert_same(first, second, "envelope_id");
        assert_same(first, second, "content_nonce");
        assert_same(first, second, "content_ciphertext");
        ASSERT_ERROR(envelope_decrypt(second, alice.device_id, &own, &error), EBADMSG);
        ASSERT_EQ(error, ENVELOPE_NO_RECIPIENT_ENTRY);
        ASSERT_OK(envelope_decrypt(second, bob.device_id, &kem, &error));
        ASSERT_EQ(verify(second, &alice, &m), ENVELOPE_OK);
        ASSERT_STREQ(m.content->text, "hello");
}

TEST(what_cannot_be_sent) {
        static const char *const bad[] = { "", "a\nb", "\xf0", "a\x7f" };
        _cleanup_(signed_document_freep) SignedDocument *d = NULL;
        char longest[ENVELOPE_ID_MAX + 2];
        PERSON(alice, "alice-0001");

        ASSERT_OK(signed_document_new(&d));
        fill(longest, ENVELOPE_ID_MAX + 1);
        for (size_t i = 0; i <= ELEMENTSOF(bad); i++) {
                const char *const text = i < ELEMENTSOF(bad) ? bad[i] : longest;
                MessageDraft m = draft_of(&alice, signed_string(d, "hello"));
                const char **const members[] = {
                        &m.sender_slug, &m.sender_subkey_id, &m.space_id, &m.channel_id,
                        &m.thread_root_id, &m.reply_to_id, &m.content_type,
                };

                for (size_t k = 0; k < ELEMENTSOF(members); k++) {
                        _cleanup_(strbuf_done) StrBuf sealed = {};
                        const char *was = *members[k];

                        *members[k] = text;
                        ASSERT_ERROR(seal(&m, &alice, &sealed), EINVAL);
                        *members[k] = was;
                }
        }
}

/* The RFC 8785 form of such a number does not exist; what there is of the form up to it counts for nothing. */
TEST(half_a_canonical_form_is_not_signed) {
        _cleanup_(strbuf_done) StrBuf payload = {}, plain = {};
        _cleanup_(envelope_freep) Envelope *e = NULL;
        uint8_t signature[SIGNATURE_SIZE];
        char digits[401];
        EnvelopeError error;
        Message m;
        PERSON(alice, "alice-0001");
        PERSON(bob, "bob-0001");

        memset(digits, '9', sizeof(digits) - 1);
        digits[sizeof(digits) - 1] = 0;
        put_payload(&payload, &alice, "null", digits);
        sign(&alice, payload.text, (size_t) (strstr(payload.text, digits) - payload.text), signature);
        put_plain(&plain, payload.text, signature);

        ASSERT_OK(envelope_parse(&e, plain.text, plain.size));
        ASSERT_OK(envelope_decrypt(e, "dev", NULL, &error));
        ASSERT_EQ(verify(e, &bob, &m), ENVELOPE_SIGNATURE_INVALID);
        ASSERT_EQ(verify(e, &alice, &m), ENVELOPE_SIGNATURE_INVALID);
}

TEST(payload_that_cannot_be_canonical) {
        _cleanup_(strbuf_done) StrBuf payload = {}, plain = {};
        _cleanup_(envelope_freep) Envelope *e = NULL;
        EnvelopeError error;
        PERSON(alice, "alice-0001");

        put_payload(&payload, &alice, "null", "1e999");
        put_plain(&plain, payload.text, (const uint8_t[SIGNATURE_SIZE]) {});
        ASSERT_OK(envelope_parse(&e, plain.text, plain.size));
        for (unsigned i = 0; i < 3; i++) {
                ASSERT_ERROR(envelope_decrypt(e, "dev", NULL, &error), EBADMSG);
                ASSERT_EQ(error, ENVELOPE_PLAINTEXT_INVALID);
        }
}

/* Repeats are told by it. */
TEST(nonce_that_is_no_text) {
        static const struct { const char *nonce; EnvelopeError error; } t[] = {
                { "\"n\"", ENVELOPE_OK },
                { "7", ENVELOPE_PLAINTEXT_INVALID },
                { "null", ENVELOPE_PLAINTEXT_INVALID },
                { "\"n\\u0000\"", ENVELOPE_PLAINTEXT_INVALID },
        };
        PERSON(alice, "alice-0001");

        for (size_t i = 0; i < ELEMENTSOF(t); i++) {
                _cleanup_(strbuf_done) StrBuf before = {}, payload = {}, plain = {};
                _cleanup_(envelope_freep) Envelope *e = NULL;
                uint8_t signature[SIGNATURE_SIZE];
                const char *old = "\"message_nonce\":\"n\"", *at;
                EnvelopeError error;
                Message m;

                put_payload(&before, &alice, "null", "\"hello\"");
                at = strstr(before.text, old);
                ASSERT_OK(strbuf_append(&payload, before.text, (size_t) (at - before.text)));
                ASSERT_OK(strbuf_printf(&payload, "\"message_nonce\":%s%s", t[i].nonce, at + strlen(old)));
                sign(&alice, payload.text, payload.size, signature);
                put_plain(&plain, payload.text, signature);
                ASSERT_OK(envelope_parse(&e, plain.text, plain.size));
                ASSERT_OK(envelope_decrypt(e, "dev", NULL, &error));
                ASSERT_EQ(verify(e, &alice, &m), t[i].error);
        }
}

TEST(long_ids) {
        static const char *const members[] = {
                "envelope_id", "sender_slug", "space_id", "channel_id", "recipient_slug",
        };
        char id[ENVELOPE_ID_MAX + 2];

        for (size_t n = ENVELOPE_ID_MAX; n <= ENVELOPE_ID_MAX + 1; n++)
                for (size_t i = 0; i < ELEMENTSOF(members); i++) {
                        _cleanup_(envelope_freep) Envelope *e = NULL;
                        _cleanup_(strbuf_done) StrBuf text = {};

                        fill(id, n);
                        ASSERT_OK(strbuf_printf(&text, "{\"%s\":\"%s\"}", members[i], id));
                        ASSERT_EQ(envelope_parse(&e, text.text, text.size), n > ENVELOPE_ID_MAX ? -E2BIG : 0);
                }
}

TEST(long_ids_in_the_payload) {
        char id[ENVELOPE_ID_MAX + 4] = "\"";
        PERSON(alice, "alice-0001");

        for (size_t n = ENVELOPE_ID_MAX; n <= ENVELOPE_ID_MAX + 1; n++) {
                _cleanup_(strbuf_done) StrBuf payload = {}, plain = {};
                _cleanup_(envelope_freep) Envelope *e = NULL;
                uint8_t signature[SIGNATURE_SIZE];
                EnvelopeError error;
                Message m;

                fill(id + 1, n);
                strcat(id, "\"");
                put_payload(&payload, &alice, id, "\"hello\"");
                sign(&alice, payload.text, payload.size, signature);
                put_plain(&plain, payload.text, signature);
                ASSERT_OK(envelope_parse(&e, plain.text, plain.size));
                ASSERT_OK(envelope_decrypt(e, "dev", NULL, &error));
                ASSERT_EQ(verify(e, &alice, &m), n > ENVELOPE_ID_MAX ? ENVELOPE_PLAINTEXT_INVALID : ENVELOPE_OK);
        }
}

#define TEST_SUITE "envelope"
TEST_MAIN();
