/* SPDX-License-Identifier: MIT */

#include <sodium.h>

#include "conversation.h"
#include "hands-internal.h"

/* What a CLI calls the conversations that clients have named: "<harness>:<its id>". The main one is in a file that the
 * original knows, too (cli_session_load()). */
#define PREFIX CONVERSATION_CLI_PREFIX
/* The value with the hash of what the CLI has been told of itself. */
#define PROMPT_TOLD "cli-prompt"

/* Each conversation has an id of the CLI's; those of sdk-local are told all of theirs in each turn. */
static bool has_ids(HarnessKind k) {
        return k == HARNESS_CLAUDE || k == HARNESS_CODEX || k == HARNESS_CODEX_EXEC;
}

bool hands_has_conversations(HarnessKind k) {
        return has_ids(k) || k == HARNESS_CLAUDE_SDK;
}

int hands_conversation_choose(HandsLaunch *l, const char *conversation) {
        crypto_generichash_state s;

        if (!has_ids(l->kind) || isempty(conversation))
                return 0;
        l->conversation = strdup(conversation);
        if (!l->conversation)
                return -ENOMEM;
        /* A process of Codex takes part in all of them, others in one only. */
        if (l->kind == HARNESS_CODEX)
                return 0;
        (void) crypto_generichash_init(&s, NULL, 0, sizeof(l->hash));
        (void) crypto_generichash_update(&s, l->hash, sizeof(l->hash));
        (void) crypto_generichash_update(&s, (const uint8_t*) conversation, strlen(conversation));
        (void) crypto_generichash_final(&s, l->hash, sizeof(l->hash));
        return 0;
}

int hands_conversation_use(Hands *h, const SessionConfig *config, const HandsLaunch *wanted) {
        _cleanup_free_ char *id = NULL;
        int r;

        if (harness_kind(h->driver) != HARNESS_CODEX || streq(h->run->conversation, strempty(wanted->conversation)))
                return 0;
        r = free_and_strdup(&h->launch.conversation, wanted->conversation);
        if (r >= 0)
                r = hands_conversation_load(h, config, &id);
        if (r >= 0)
                r = free_and_strdup(&h->run->conversation, strempty(wanted->conversation));
        if (r >= 0)
                r = free_and_strdup(&h->run->session_id, id);
        if (r < 0)
                return r;
        h->launch.fresh = h->launch.conversation && !id;
        hands_stored(h, run_store_set_session(h->spec.db, h->run));
        return harness_set_conversation(h->driver, id);
}

int hands_conversation_load(Hands *h, const SessionConfig *config, char **ret) {
        const char *harness = agent_config_harness(config->agent), *id;
        _cleanup_free_ char *name = NULL, *value = NULL;
        int r;

        *ret = NULL;
        if (isempty(h->launch.conversation))
                return cli_session_load(config->home, harness, ret);
        name = strjoin(PREFIX, h->launch.conversation);
        if (!name)
                return -ENOMEM;
        r = session_value_get(h->spec.db, name, &value);
        if (r <= 0)
                return r;
        id = startswith(value, harness);
        if (!id || *id++ != ':')
                return 0;
        *ret = strdup(id);
        return *ret ? 1 : -ENOMEM;
}

int hands_conversation_save(Hands *h, const char *session_id) {
        const char *harness = h->run->kind;
        _cleanup_free_ char *name = NULL, *value = NULL;

        /* One program that is started in two ways. */
        if (harness_kind_from_string(harness) == HARNESS_CODEX_EXEC)
                harness = harness_kind_to_string(HARNESS_CODEX);
        if (isempty(h->run->conversation))
                return cli_session_save(&(AgentHome) { .directory = h->directory }, harness, h->run->model, session_id);
        name = strjoin(PREFIX, h->run->conversation);
        value = session_id ? strjoin(harness, ":", session_id) : NULL;
        if (!name || (session_id && !value))
                return -ENOMEM;
        return session_value_set(h->spec.db, name, value);
}

/* With a conversation's first text the launch says it. */
int hands_prompt_add(Hands *h, const char *system, char **text) {
        uint8_t hash[crypto_generichash_BYTES];
        _cleanup_free_ char *told = NULL;
        char *both;
        int r;

        h->prompt[0] = 0;
        if (h->launch.kind != HARNESS_HERMES || isempty(system))
                return 0;
        (void) crypto_generichash(hash, sizeof(hash), (const uint8_t*) system, strlen(system), NULL, 0);
        (void) sodium_bin2hex(h->prompt, sizeof(h->prompt), hash, sizeof(hash));
        if (!h->launch.session_id)
                return 0;
        r = session_value_get(h->spec.db, PROMPT_TOLD, &told);
        if (r < 0 || streq_ptr(told, h->prompt))
                return MIN(r, 0);
        both = strjoin(system, "\n\n---\n\n", *text);
        if (!both)
                return -ENOMEM;
        free(*text);
        *text = both;
        return 0;
}

int hands_prompt_told(Hands *h) {
        return *h->prompt ? session_value_set(h->spec.db, PROMPT_TOLD, h->prompt) : 0;
}
