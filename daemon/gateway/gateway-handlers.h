/* SPDX-License-Identifier: MIT */
#pragma once

#include "gateway.h"
#include "turn-client.h"

/* What answers the routes. All take a call whose body is complete. */
void models_list(Call *c);
void models_get(Call *c);
void agents_list(Call *c);
void agents_events(Call *c);
void agent_messages(Call *c);
void agent_interrupt(Call *c);
void approvals_list(Call *c);
void approval_answer(Call *c);
void page_session_open(Call *c);
void page_session_close(Call *c);
void health_get(Call *c);
void page_get(Call *c);                 /* the chat page and what it consists of */
void hire_post(Call *c);
void responses_create(Call *c);
void chat_completions_create(Call *c);
void responses_get(Call *c);            /* the object, or with ?stream=true its events */
void responses_delete(Call *c);
void responses_cancel(Call *c);
void responses_input_items(Call *c);

/* {"agents": […]} as the client may see them, and one of them. -ENOMEM. */
int agents_object_new(const Call *c, json_object **ret);
int agent_object_new(const MirroredAgent *a, json_object **ret);

ApprovalGather* approval_gather_free(ApprovalGather *g);

/* The events of a known response, from number after + 1 on. Takes the record's contents. */
void response_stream_again(Call *c, const MirroredAgent *a, const TurnRecord *record, int64_t after);

/* Part of the exchange's life. */
void response_turn_on_writable(ResponseTurn *t);
/* The exchange is over; takes the turn, which may live on until the agent was told that its client has gone. */
void response_turn_on_end(ResponseTurn *t, bool client_gone);
/* The gateway goes: the last words. */
void response_turn_say_goodbye(ResponseTurn *t);
ResponseTurn* response_turn_free(ResponseTurn *t);
