/* SPDX-License-Identifier: MIT */
#pragma once

#include "ctl.h"

/* puffoctl's commands, each in the file of its name. */
int verb_status(Ctl *c, const Arguments *a);
int verb_agent_list(Ctl *c, const Arguments *a);
int verb_agent_show(Ctl *c, const Arguments *a);
int verb_agent_create(Ctl *c, const Arguments *a);
int verb_agent_runtime(Ctl *c, const Arguments *a);
int verb_agent_start(Ctl *c, const Arguments *a);
int verb_agent_stop(Ctl *c, const Arguments *a);
int verb_agent_pause(Ctl *c, const Arguments *a);
int verb_agent_resume(Ctl *c, const Arguments *a);
int verb_agent_restart(Ctl *c, const Arguments *a);
int verb_agent_refresh(Ctl *c, const Arguments *a);
int verb_agent_refresh_ping(Ctl *c, const Arguments *a);
int verb_agent_archive(Ctl *c, const Arguments *a);
int verb_agent_delete(Ctl *c, const Arguments *a);
int verb_agent_export(Ctl *c, const Arguments *a);
int verb_agent_import(Ctl *c, const Arguments *a);
int verb_agent_chat(Ctl *c, const Arguments *a);
int verb_agent_logs(Ctl *c, const Arguments *a);
int verb_agent_history(Ctl *c, const Arguments *a);
int verb_agent_profile(Ctl *c, const Arguments *a);
int verb_agent_memory(Ctl *c, const Arguments *a);
int verb_agent_files(Ctl *c, const Arguments *a);
int verb_trace(Ctl *c, const Arguments *a);
int verb_approvals(Ctl *c, const Arguments *a);
int verb_approve(Ctl *c, const Arguments *a);
int verb_provider_list(Ctl *c, const Arguments *a);
int verb_provider_set(Ctl *c, const Arguments *a);
int verb_provider_default(Ctl *c, const Arguments *a);
int verb_pairing_show(Ctl *c, const Arguments *a);
int verb_pairing_unpair(Ctl *c, const Arguments *a);

extern const Program puffoctl_program;
extern const Option approvals_options[], approve_options[], chat_options[], create_options[], delete_options[],
                export_options[], files_options[], history_options[], list_options[], logs_options[],
                provider_options[], runtime_options[];
