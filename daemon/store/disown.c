/* SPDX-License-Identifier: MIT */

#include "approval-store.h"
#include "disown.h"
#include "turn-store.h"

/* A question to the operator that was asked may be answered wherever the agent is then: those rows stay. */
static const char of_the_chat[] =
        "UPDATE dispatch_state SET state = 'failed' WHERE state IN ('queued', 'running');"
        "UPDATE outbox SET state = 'failed', envelope = NULL,"
        " error = 'it belongs to the agent that this is a copy of'"
        " WHERE state IN ('queued', 'sealed');"
        "UPDATE invites SET state = 'done' WHERE state IN ('accepting', 'announcing', 'answered', 'acting');"
        "DELETE FROM session_values WHERE name GLOB 'introduce/*' OR name GLOB 'find-channel/*';"
        "DELETE FROM harness_runs;"
        "DELETE FROM harness_requests;";

static int exec(sqlite3 *db, const char *sql) {
        return database_error(sqlite3_exec(db, sql, NULL, NULL, NULL));
}

int database_disown(sqlite3 *db) {
        int r = exec(db, "BEGIN IMMEDIATE");

        if (r < 0)
                return r;
        r = turn_store_disown(db);
        if (r >= 0)
                r = approval_store_disown(db);
        if (r >= 0)
                r = exec(db, of_the_chat);
        if (r >= 0)
                r = exec(db, "COMMIT");
        if (r < 0)
                (void) exec(db, "ROLLBACK");
        return r;
}
