/* SPDX-License-Identifier: MIT */

#include "approvals-bus.h"
#include "bus-util.h"
#include "string-util.h"

#define LIST_MAX 100U

static int append_row(sd_bus_message *m, const char *agent, const ApprovalRow *row, bool input) {
        const struct { const char *key, *value; } texts[] = {
                { "Id", row->id }, { "Agent", agent }, { "Tool", row->tool }, { "Summary", row->summary },
                { "Turn", row->turn }, { "State", approval_state_to_string(row->state) },
                { "AnsweredBy", row->answered_by }, { "Reason", row->reason }, { "Operator", row->operator },
        };
        const struct { const char *key; uint64_t value; } numbers[] = {
                { "InputSize", (uint64_t) row->input_size },
                { "CreatedAt", (uint64_t) row->created_at * USEC_PER_MSEC },
                { "ExpiresAt", (uint64_t) row->expires_at * USEC_PER_MSEC },
                { "AnsweredAt", (uint64_t) row->answered_at * USEC_PER_MSEC },
        };
        int r = sd_bus_message_open_container(m, 'a', "{sv}");

        for (size_t i = 0; i < ELEMENTSOF(texts) && r >= 0; i++)
                r = bus_append_text_entry(m, texts[i].key, texts[i].value);
        for (size_t i = 0; i < ELEMENTSOF(numbers) && r >= 0; i++)
                r = sd_bus_message_append(m, "{sv}", numbers[i].key, "t", numbers[i].value);
        if (r >= 0 && input && row->state == APPROVAL_PENDING)
                r = bus_append_text_entry(m, "Input", row->input);
        return r < 0 ? r : sd_bus_message_close_container(m);
}

int approvals_bus_list(Approvals *a, const char *agent, sd_bus_message *m) {
        _cleanup_bus_message_ sd_bus_message *reply = NULL;
        ApprovalRow **rows = NULL;
        int all, inputs, r;
        size_t n = 0;

        r = sd_bus_message_read(m, "bb", &all, &inputs);
        if (r >= 0)
                r = approvals_list(a, all ? LIST_MAX : 0, &rows, &n);
        if (r >= 0)
                r = sd_bus_message_new_method_return(m, &reply);
        if (r >= 0)
                r = sd_bus_message_open_container(reply, 'a', "a{sv}");
        for (size_t i = 0; i < n && r >= 0; i++)
                r = append_row(reply, agent, rows[i], inputs);
        if (r >= 0)
                r = sd_bus_message_close_container(reply);
        approval_rows_free(rows, n);
        return r < 0 ? r : sd_bus_message_send(reply);
}

int approvals_bus_answer(Approvals *a, sd_bus_message *m, sd_bus_error *reterr_error) {
        _cleanup_(approval_row_freep) ApprovalRow *row = NULL;
        _cleanup_free_ char *how = NULL;
        ApprovalAnswer answer = {};
        int allow, r;

        r = sd_bus_message_read(m, "sbsss", &answer.id, &allow, &answer.reason, &answer.by, &answer.token);
        if (r < 0)
                return r;
        answer.allow = allow;
        r = approvals_answer(a, &answer, &row);
        if (r == -ENOENT)
                return bus_error_setf(reterr_error, PUFFO_ERROR_NO_SUCH_APPROVAL,
                                      "There is no request '%.120s'; 'puffoctl approvals' shows all.", answer.id);
        if (r == -EALREADY) {
                how = approval_row_describe(row);
                return how ? bus_error_setf(reterr_error, PUFFO_ERROR_ALREADY_ANSWERED,
                                            "The request '%s' was already answered: it was %s.", row->id, how)
                           : -ENOMEM;
        }
        return r < 0 ? sd_bus_error_set_errnof(reterr_error, r, "The answer could not be stored: %m")
                     : sd_bus_reply_method_return(m, NULL);
}
