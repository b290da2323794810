/* SPDX-License-Identifier: MIT */
#pragma once

#include "scope.h"

/* Where everything lies (agent-home §1, agent-proxy §4). All absolute, resolved once at start.
 *
 *                  user mode                               system mode
 *   home           $PUFFO_AGENT_HOME | $PUFFO_HOME |       /var/lib/puffod
 *                  ~/.puffo-agent
 *   agents         <home>/agents                           /var/lib/private/puffo
 *   daemon_yml     <home>/daemon.yml                       /etc/puffo/daemon.yml
 *   pairing_json   <home>/pairing.json                     <home>/pairing.json
 *   archived       <home>/archived                         <home>/archived
 *   proxy_home     $AGENT_PROXY_HOME | ~/.agent_proxy      NULL
 *   proxy_state    <proxy_home>/.state                     <home>/proxy
 *   role_agents    <proxy_state>/agents                    = agents
 *   templates      <proxy_home>/.templates                 /etc/puffo/templates
 *   owners         NULL                                    <home>/owners
 *
 * In system mode a role agent's workspace is <agent dir>/workspace, since a session may write nothing else. */
typedef struct HomePaths {
        Scope scope;
        char *home, *agents, *daemon_yml, *pairing_json, *archived, *proxy_home, *proxy_state, *role_agents,
             *templates, *owners;
} HomePaths;

/* -ENXIO when $HOME is needed and not set. */
int home_paths_new(HomePaths **ret, Scope scope);
HomePaths* home_paths_free(HomePaths *p);
DEFINE_TRIVIAL_CLEANUP_FUNC(HomePaths*, home_paths_free);
/* Makes the directories (0700; in system mode agents is 0755) that must be there for watching them. */
int home_paths_make(const HomePaths *p);
