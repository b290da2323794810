/* SPDX-License-Identifier: MIT */

#include "chat-prompt.h"
#include "string-util.h"
#include "turn-images.h"

void chat_prompt_done(ChatPrompt *p) {
        free(p->system);
        for (size_t i = 0; i < p->n_messages; i++) {
                free((void*) p->messages[i].calls);
                free((void*) p->messages[i].results);
                turn_images_free((ModelImage*) p->messages[i].images, p->messages[i].n_images);
        }
        free(p->messages);
        conversation_messages_free(p->history, p->n_history);
        (void) strv_free(p->texts);
        free(p->context);
        *p = (ChatPrompt) {};
}

/* An agent that also talks in Puffo channels has learnt to answer through tools there; a local client wants plain text
 * (responses-api §9.2). */
#define LOCAL_CLIENT_LINE \
        "[puffo-agent system message] this turn comes from a local client: answer in plain text, do not use " \
        "send_message for the answer."

/* message-pipeline §11.6 */
#define RESTARTED_LINE \
        "[puffo-agent system message] this turn was interrupted by a restart. Finish it now; what you have sent " \
        "already does not have to be sent again."

static int paragraph(StrBuf *b, const char *text) {
        int r = 0;

        if (isempty(text))
                return 0;
        if (b->size > 0)
                r = strbuf_puts(b, "\n\n");
        return r < 0 ? r : strbuf_puts(b, text);
}

/* The user's text as the model gets it in this turn. Instructions are for this turn only and do not become part of the
 * conversation. */
static int question(const SessionConfig *config, const TurnRow *row, const char *context, const char *const remarks[],
                    char **ret) {
        _cleanup_free_ char *files = NULL;
        StrBuf b = {};
        int r;

        r = turn_files_list(row->files, remarks, &files);
        if (r < 0)
                return r;
        if (!isempty(config->agent->slug) && !streq_ptr(row->source, "puffo"))
                r = paragraph(&b, LOCAL_CLIENT_LINE);
        if (streq_ptr(row->source, "puffo") && row->attempts > 1)
                r = paragraph(&b, RESTARTED_LINE);
        if (r >= 0 && !isempty(row->instructions)) {
                r = paragraph(&b, "[instructions for this request]\n");
                if (r >= 0)
                        r = strbuf_puts(&b, row->instructions);
                if (r >= 0)
                        r = strbuf_puts(&b, "\n[end of instructions]");
        }
        if (r >= 0)
                r = paragraph(&b, context);
        if (r >= 0)
                r = paragraph(&b, row->text);
        if (r >= 0)
                r = paragraph(&b, files);
        if (r >= 0) {
                *ret = strbuf_take(&b);
                r = *ret ? 0 : -ENOMEM;
        }
        strbuf_done(&b);
        return r;
}

/* A message of the history with its context in front and its files behind. */
static int history_text(ChatPrompt *p, const SessionConfig *config, const ConversationMessage *m, ImageRoom *room,
                        ModelMessage *ret) {
        _cleanup_free_ char *files = NULL;
        _cleanup_(strbuf_done) StrBuf b = {};
        TurnImages images;
        int r;

        if (isempty(m->context) && isempty(m->files)) {
                ret->text = m->text;
                return 0;
        }
        r = turn_images_open(m->files, config->home->workspace, /* again= */ true, room, &images);
        ret->images = images.images;
        ret->n_images = images.n;
        if (r >= 0)
                r = turn_files_list(m->files, images.remarks, &files);
        if (r >= 0)
                r = paragraph(&b, m->context);
        if (r >= 0)
                r = paragraph(&b, m->text);
        if (r >= 0)
                r = paragraph(&b, files);
        if (r >= 0)
                r = strv_extend(&p->texts, strempty(b.text));
        if (r < 0)
                return r;
        ret->text = p->texts[strv_length(p->texts) - 1];
        return 0;
}

static int add_history(ChatPrompt *p, Database *db, const SessionConfig *config, const TurnRow *row, ImageRoom *room,
                       size_t max_bytes) {
        int r;

        /* The question itself is the sixtieth. */
        r = conversation_list(db, row->conversation, 0, CHAT_HISTORY_MAX - 1, max_bytes, &p->history, &p->n_history,
                              NULL);
        if (r < 0)
                return r;
        p->messages = new0(ModelMessage, p->n_history + 1);
        if (!p->messages)
                return -ENOMEM;
        if (p->n_history == 0 && !isempty(row->history)) {
                p->context = strdup(row->history);
                return p->context ? 0 : -ENOMEM;
        }
        p->n_messages = p->n_history;
        /* From the end: what is newer has the room first. */
        for (size_t i = p->n_history; i > 0; i--) {
                p->messages[i - 1].role = p->history[i - 1].assistant ? MODEL_ROLE_ASSISTANT : MODEL_ROLE_USER;
                r = history_text(p, config, p->history + i - 1, room, p->messages + i - 1);
                if (r < 0)
                        return r;
        }
        return 0;
}

int chat_prompt_build(ChatPrompt *ret, Database *db, const SessionConfig *config, const TurnRow *row,
                      const char *const *tools, const ModelImageLimits *limits, size_t max_bytes) {
        _cleanup_(chat_prompt_done) ChatPrompt p = {};
        _cleanup_free_ char *text = NULL;
        ImageRoom room = image_room(limits);
        TurnImages images = {};
        ModelMessage *last;
        size_t taken;
        int r;

        r = agent_home_system_prompt(config->home, config->agent, tools, &p.system);
        if (r < 0)
                return r;
        taken = strlen(p.system) + strlen(row->text) + strlen(row->instructions);
        r = turn_images_open(row->files, config->home->workspace, /* again= */ false, &room, &images);
        if (r < 0)
                return r;
        if (max_bytes <= CHAT_PROMPT_BYTES_MAX / 2)
                room.n = 0;
        r = add_history(&p, db, config, row, &room, taken < max_bytes ? max_bytes - taken : 1);
        if (r < 0) {
                turn_images_free(images.images, images.n);
                return r;
        }
        last = p.messages + p.n_messages++;
        *last = (ModelMessage) { .role = MODEL_ROLE_USER, .images = images.images, .n_images = images.n };
        r = question(config, row, p.context, images.remarks, &text);
        if (r >= 0)
                r = strv_extend(&p.texts, text);
        if (r < 0)
                return r;
        last->text = p.texts[strv_length(p.texts) - 1];

        *ret = p;
        p = (ChatPrompt) {};
        return 0;
}
