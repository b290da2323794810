/* SPDX-License-Identifier: MIT */

/* Which keys an envelope is tried with, and where they come from. */

#include "cert-world.h"
#include "receiver.h"

typedef struct Inbox {
        World *world;
        Receiver *receiver;
        Envelope *envelope;
        Identity *identity;
        unsigned n;
        ReceiptKind kind;
        char reason[64];
} Inbox;

static void on_received(Receiver *r, const Receipt *receipt, void *userdata) {
        Inbox *i = userdata;

        i->n++;
        i->kind = receipt->kind;
        (void) snprintf(i->reason, sizeof(i->reason), "%s", strempty(receipt->reason));
}

static void inbox_begin(Inbox *i, World *w, const Person *who) {
        IdentitySecrets secrets = {};

        *i = (Inbox) { .world = w };
        memcpy(secrets.kem_secret, who->kem_secret, KEY_SIZE);
        ASSERT_OK(identity_new(&i->identity, who->slug, who->device_id, "http://localhost", &secrets));
        ASSERT_OK(receiver_new(&i->receiver, i->identity, w->cache, on_received, i));
}

static void inbox_end(Inbox *i) {
        receiver_free(i->receiver);
        envelope_free(i->envelope);
        identity_free(i->identity);
}
#define INBOX(i, world, who) \
        _cleanup_(inbox_end) Inbox i; \
        inbox_begin(&i, &(world), &(who))

/* A message signed by this key, whatever subkey it names. */
static void take(Inbox *i, const Person *from, const uint8_t seed[KEY_SIZE], const char *named, const char *content) {
        Recipient recipient = { .device_id = i->identity->device_id };
        _cleanup_(signed_document_freep) SignedDocument *d = NULL;
        _cleanup_(strbuf_done) StrBuf sealed = {};
        _cleanup_free_ char *id = NULL;
        SealSecrets secrets;
        MessageDraft m = {
                .kind = ENVELOPE_DM,
                .sender_slug = from->slug,
                .sender_subkey_id = named,
                .recipient_slug = i->identity->slug,
                .content_type = CONTENT_TYPE_TEXT,
                .sent_at = NOW,
        };

        ASSERT_OK(signed_document_new(&d));
        m.content = signed_string(d, content);
        signing_key_init(&m.subkey, seed);
        kem_public_key(i->identity->secrets->kem_secret, recipient.kem_key);
        ASSERT_OK(seal_secrets_random(&secrets, &id));
        ASSERT_OK(envelope_seal(&m, &recipient, 1, &secrets, &sealed));
        i->envelope = envelope_free(i->envelope);
        ASSERT_OK(envelope_parse(&i->envelope, sealed.text, sealed.size));
        receiver_take(i->receiver, i->envelope);
        run(i->world);
}

static void add_subkey(Page *p, const Person *who, const uint8_t seed[KEY_SIZE]) {
        SignedValue *cert = NULL;
        uint8_t key[KEY_SIZE];

        sign_public_key(seed, key);
        ASSERT_OK(subkey_cert_new(p->d, who->device_seed, who->device_id, key, NOW, SUBKEY_LIFETIME_MS, &cert));
        page_add(p, "subkey_cert", who->slug, cert);
}

TEST(keys_are_fetched_and_kept) {
        PERSON(bob, "bob-0001");
        PERSON(amy, "amy-0002");
        WORLD(w, 0, 0);
        INBOX(i, w, amy);
        PAGE(page);

        take(&i, &bob, bob.subkey_seed, bob.subkey_id, "hello");
        ASSERT_EQ(i.n, 0);
        page_add_all(&page, &bob);
        answer(&w, "bob-0001 since 0", &page);
        run(&w);
        ASSERT_EQ(i.n, 1);
        ASSERT_EQ(i.kind, RECEIPT_MESSAGE);
        take(&i, &bob, bob.subkey_seed, bob.subkey_id, "hello again");
        ASSERT_EQ(i.n, 2);
        ASSERT_EQ(i.kind, RECEIPT_MESSAGE);
        ASSERT_EQ(w.n_requests, 1);
}

/* The fetch that is under way began before the sender had the subkey. */
TEST(older_fetch_is_not_the_last_word) {
        PERSON(bob, "bob-0001");
        PERSON(amy, "amy-0002");
        uint8_t newer[KEY_SIZE] = { 7 };

        for (unsigned unknown = 0; unknown <= 1; unknown++) {
                WORLD(w, 0, 0);
                INBOX(i, w, amy);
                LOOK_UP(l, w, "bob-0001");
                PAGE(old);
                PAGE(new);

                take(&i, &bob, newer, "sk_newer", "hello");
                ASSERT_EQ(w.n_requests, 1);
                if (!unknown)
                        page_add_all(&old, &bob);
                answer(&w, "bob-0001 since 0", &old);
                run(&w);
                ASSERT_EQ(i.n, 0);
                page_add_all(&new, &bob);
                add_subkey(&new, &bob, newer);
                answer(&w, "bob-0001 since 0", &new);
                run(&w);
                ASSERT_EQ(i.n, 1);
                ASSERT_EQ(i.kind, RECEIPT_MESSAGE);
                ASSERT_EQ(w.n_requests, 2);
        }
}

/* A bad one does not have them fetched for ever. */
TEST(no_key_fits) {
        PERSON(bob, "bob-0001");
        PERSON(amy, "amy-0002");
        uint8_t other[KEY_SIZE] = { 7 };
        WORLD(w, 0, 0);
        INBOX(i, w, amy);

        for (unsigned n = 1; n <= 3; n++) {
                LOOK_UP(l, w, "bob-0001");

                take(&i, &bob, other, "sk_other", "hello");
                while (w.n_answered < w.n_requests) {
                        PAGE(page);

                        page_add_all(&page, &bob);
                        answer(&w, "bob-0001 since 0", &page);
                        run(&w);
                }
                ASSERT_EQ(i.n, n);
                ASSERT_EQ(i.kind, RECEIPT_REFUSED);
                ASSERT_STREQ(i.reason, "signature_invalid");
                ASSERT_TRUE(w.n_requests <= 2 * n);
        }
}

/* The loop does not stand still for a large message that may be of any of many keys. */
TEST(large_messages_are_tried_with_few_keys) {
        static const struct { size_t size; unsigned age; const char *named; ReceiptKind kind; } t[] = {
                { 10, 99, "sk_none", RECEIPT_MESSAGE },
                { MIB(4), 2, "sk_none", RECEIPT_MESSAGE },
                { MIB(4), 99, "sk_none", RECEIPT_REFUSED },
                { MIB(4), 99, NULL, RECEIPT_MESSAGE },
        };
        PERSON(bob, "bob-0001");
        PERSON(amy, "amy-0002");

        for (size_t k = 0; k < ELEMENTSOF(t); k++) {
                _cleanup_free_ char *content = malloc(t[k].size + 1), *id = NULL;
                WORLD(w, 0, 0);
                INBOX(i, w, amy);
                uint8_t seed[KEY_SIZE] = {}, key[KEY_SIZE];
                PAGE(page);

                ASSERT_NOT_NULL(content);
                memset(content, 'x', t[k].size);
                content[t[k].size] = 0;
                page_add_all(&page, &bob);
                for (unsigned n = 0; n < 100; n++) {
                        seed[0] = (uint8_t) (100 + n);
                        add_subkey(&page, &bob, seed);
                }
                seed[0] = (uint8_t) (199 - t[k].age);
                sign_public_key(seed, key);
                id = key_id("sk", key);
                take(&i, &bob, seed, t[k].named ?: id, content);
                answer(&w, "bob-0001 since 0", &page);
                run(&w);
                ASSERT_EQ(i.n, 1);
                ASSERT_EQ(i.kind, t[k].kind);
        }
}

#define TEST_SUITE "receiver"
TEST_MAIN();
