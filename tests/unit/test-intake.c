/* SPDX-License-Identifier: MIT */

#include <stdio.h>

#include "dispatch-store.h"
#include "file-util.h"
#include "intake.h"
#include "string-util.h"
#include "tests.h"

typedef struct Fixture {
        char *directory, *path;
        Database *db;
        SignedDocument *document;
        unsigned n;
        IntakePolicy policy;
} Fixture;

static void fixture_done(Fixture *f) {
        (void) database_free(f->db);
        (void) directory_remove(f->directory);
        signed_document_free(f->document);
        free(f->path);
        free(f->directory);
}

static Fixture fixture_new(void) {
        Fixture f = { .directory = strdup("/tmp/puffo-test-intake-XXXXXX"),
                      .policy = { .own_slug = "helper-9a7c", .on_dm = true, .on_mention = true, .on_all = true } };

        ASSERT_NOT_NULL(mkdtemp(f.directory));
        f.path = path_join(f.directory, "messages.db");
        ASSERT_OK(database_open(&f.db, f.path, NULL));
        ASSERT_OK(signed_document_new(&f.document));
        return f;
}
#define FIXTURE(name) _cleanup_(fixture_done) Fixture name = fixture_new()

static int take_as(Fixture *f, EnvelopeKind kind, const char *id, const char *sender, const char *root,
                   const char *text, const IntakeHooks *hooks) {
        char nonce[32];

        (void) snprintf(nonce, sizeof(nonce), "nonce-%u", f->n++);
        return intake_message(f->db, NULL, &(Message) {
                .kind = kind, .envelope_id = id, .sender_slug = sender,
                .space_id = kind == ENVELOPE_DM ? NULL : "sp_1", .channel_id = kind == ENVELOPE_DM ? NULL : "ch_1",
                .recipient_slug = kind == ENVELOPE_DM ? "helper-9a7c" : NULL, .thread_root_id = root,
                .message_nonce = nonce, .content_type = CONTENT_TYPE_TEXT,
                .content = signed_string(f->document, text), .sent_at = 1000, .encrypted = true,
        }, &f->policy, hooks, 2000);
}

static int take(Fixture *f, EnvelopeKind kind, const char *id, const char *text) {
        return take_as(f, kind, id, "bo-17fe", NULL, text, NULL);
}

static void assert_next(Fixture *f, const char *root, DispatchPriority priority) {
        _cleanup_(dispatch_thread_done) DispatchThread t = {};

        ASSERT_EQ(dispatch_store_next(f->db, &t), 1);
        ASSERT_STREQ(t.root_id, root);
        ASSERT_EQ(t.priority, priority);
}

static void assert_stored(Fixture *f, const char *id, bool stored) {
        StoredMessage *m = NULL;

        ASSERT_EQ(message_store_get(f->db, id, &m), stored);
        if (stored)
                stored_messages_free(m, 1);
}

/* message-pipeline §6.2 */
static void test_priorities(void **state) {
        FIXTURE(f);

        ASSERT_EQ(take(&f, ENVELOPE_CHANNEL, "msg_1", "for all"), INTAKE_QUEUED);
        assert_next(&f, "msg_1", DISPATCH_OTHER);
        ASSERT_EQ(take(&f, ENVELOPE_CHANNEL, "msg_2", "hey @helper-9a7c!"), INTAKE_QUEUED);
        assert_next(&f, "msg_2", DISPATCH_ADDRESSED);
        ASSERT_EQ(take(&f, ENVELOPE_CHANNEL, "msg_3", "not @helper-9a7cd"), INTAKE_QUEUED);
        ASSERT_EQ(take_as(&f, ENVELOPE_CHANNEL, "msg_4", "bo-17fe", "msg_1", "@helper-9a7c", NULL), INTAKE_QUEUED);
        assert_next(&f, "msg_2", DISPATCH_ADDRESSED);
        ASSERT_EQ(take(&f, ENVELOPE_DM, "msg_5", "psst"), INTAKE_QUEUED);
        assert_next(&f, "msg_2", DISPATCH_ADDRESSED);
}

/* Item 2: each comes once, whatever it calls itself. */
static void test_known(void **state) {
        FIXTURE(f);

        ASSERT_EQ(take(&f, ENVELOPE_DM, "msg_1", "x"), INTAKE_QUEUED);
        ASSERT_EQ(take(&f, ENVELOPE_DM, "msg_1", "x"), INTAKE_KNOWN);
        f.n = 0;
        ASSERT_EQ(take(&f, ENVELOPE_DM, "msg_2", "x"), INTAKE_KNOWN);
        assert_stored(&f, "msg_2", false);
}

/* P-26 */
static void test_own(void **state) {
        _cleanup_(dispatch_thread_done) DispatchThread t = {};
        FIXTURE(f);

        ASSERT_EQ(take_as(&f, ENVELOPE_DM, "msg_1", "helper-9a7c", NULL, "from my other device", NULL), INTAKE_STORED);
        assert_stored(&f, "msg_1", true);
        ASSERT_EQ(dispatch_store_next(f.db, &t), 0);
}

/* P-3: the switches are filters, and what they keep away is part of the history. */
static void test_triggers(void **state) {
        _cleanup_(dispatch_thread_done) DispatchThread t = {};
        FIXTURE(f);

        f.policy.on_dm = f.policy.on_mention = f.policy.on_all = false;
        ASSERT_EQ(take(&f, ENVELOPE_DM, "msg_1", "x"), INTAKE_STORED);
        ASSERT_EQ(take(&f, ENVELOPE_CHANNEL, "msg_2", "@helper-9a7c"), INTAKE_STORED);
        ASSERT_EQ(take(&f, ENVELOPE_CHANNEL, "msg_3", "x"), INTAKE_STORED);
        assert_stored(&f, "msg_3", true);
        ASSERT_EQ(dispatch_store_next(f.db, &t), 0);
        /* Once filtered, it does not come back with the switch. */
        f.policy.on_dm = f.policy.on_mention = true;
        ASSERT_EQ(take(&f, ENVELOPE_DM, "msg_1", "x"), INTAKE_KNOWN);
        ASSERT_EQ(take(&f, ENVELOPE_CHANNEL, "msg_4", "x"), INTAKE_STORED);
        ASSERT_EQ(take(&f, ENVELOPE_CHANNEL, "msg_5", "@helper-9a7c"), INTAKE_QUEUED);
        ASSERT_EQ(take(&f, ENVELOPE_DM, "msg_6", "x"), INTAKE_QUEUED);
}

static int consume(const Message *m, void *userdata) {
        int *answer = userdata;

        return *answer;
}

static void test_consumed(void **state) {
        _cleanup_(dispatch_thread_done) DispatchThread t = {};
        int answer = 1;
        IntakeHooks hooks = { .consume = consume, .userdata = &answer };
        FIXTURE(f);

        ASSERT_EQ(take_as(&f, ENVELOPE_DM, "msg_1", "bo-17fe", "msg_0", "y", &hooks), INTAKE_STORED);
        assert_stored(&f, "msg_1", true);
        ASSERT_EQ(dispatch_store_next(f.db, &t), 0);
        /* When that fails, nothing has happened and it may come again. */
        answer = -EIO;
        ASSERT_EQ(take_as(&f, ENVELOPE_DM, "msg_2", "bo-17fe", "msg_0", "y", &hooks), -EIO);
        assert_stored(&f, "msg_2", false);
        answer = 0;
        ASSERT_EQ(take_as(&f, ENVELOPE_DM, "msg_2", "bo-17fe", "msg_0", "y", &hooks), INTAKE_QUEUED);
        assert_next(&f, "msg_0", DISPATCH_ADDRESSED);
}

int main(void) {
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_priorities),
                cmocka_unit_test(test_known),
                cmocka_unit_test(test_own),
                cmocka_unit_test(test_triggers),
                cmocka_unit_test(test_consumed),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
