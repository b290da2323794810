/* SPDX-License-Identifier: MIT */
#pragma once

#include "approvals.h"

/* Shared by approvals.c and its words, approval-text.c. All texts are for the caller to free, NULL when out of
 * memory. */

/* Of a tool or an argument: nothing but what names are made of. */
char* approval_name(const char *name);
/* For the model: why not. */
char* approval_model_text(const ApprovalRow *row);
/* For the operator. */
char* approval_question_text(const ApprovalRow *row, bool cut);
char* approval_outcome_text(const ApprovalRow *row, bool by_operator);
