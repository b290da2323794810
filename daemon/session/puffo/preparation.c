/* SPDX-License-Identifier: MIT */

#include "crash-point.h"
#include "event-util.h"
#include "inbox-files.h"
#include "message-store.h"
#include "preparation.h"
#include "record.h"
#include "station.h"

/* One message of the batch. */
typedef struct Part {
        StoredMessage *message;         /* NULL: synthetic */
        SyntheticRecord synthetic;
        json_object *synthetic_json;
        InboxFiles *files;              /* fetched, or being fetched */
        const InboxFile *saved;         /* borrowed from files */
        size_t n_saved;
} Part;

struct Preparation {
        PreparationSpec spec;           /* its texts are ours */
        char *workspace, *own_slug, *root_id, *conversation;
        prepared_t on_prepared;
        void *userdata;

        DispatchRow *rows;
        Part *parts;
        size_t n_rows, n;               /* n: of them are shown */
        size_t next_files;              /* whose attachments are to be fetched next */
        DirectoryLookup *lookup;
        sd_event_source *begin;
};

static void prepare_files(Preparation *p);

Preparation* preparation_free(Preparation *p) {
        if (!p)
                return NULL;
        (void) directory_lookup_free(p->lookup);
        (void) sd_event_source_disable_unref(p->begin);
        for (size_t i = 0; i < p->n_rows && p->parts; i++) {
                Part *part = p->parts + i;

                if (part->message)
                        stored_messages_free(part->message, 1);
                if (part->synthetic_json)
                        (void) json_object_put(part->synthetic_json);
                (void) inbox_files_free(part->files);
        }
        free(p->parts);
        dispatch_rows_free(p->rows, p->n_rows);
        free(p->workspace);
        free(p->own_slug);
        free(p->root_id);
        free(p->conversation);
        return mfree(p);
}

static void fail(Preparation *p, int error) {
        p->on_prepared(p, error, NULL, p->userdata);
}

/* ---- what there is ---- */

static int part_load(Preparation *p, const DispatchRow *row, Part *ret) {
        int r;

        if (!isempty(row->record))
                return synthetic_record_parse(row->record, &ret->synthetic, &ret->synthetic_json);
        r = message_store_get(p->spec.db, row->envelope_id, &ret->message);
        return r == 0 ? -ENOENT : MIN(r, 0);
}

static size_t part_size(const Part *part) {
        return part->message ? MIN(strlen(part->message->content), (size_t) 4 * RECORD_TEXT_MAX_CHARS) : 0;
}

/* A row whose message is gone has nothing to show; it ends with the others. What does not fit stays in the queue, for
 * the thread's next turn. */
static int parts_load(Preparation *p) {
        size_t size = 0;
        int r = dispatch_store_batch(p->spec.db, p->root_id, p->conversation, BATCH_MAX, &p->rows, &p->n_rows);

        if (r < 0)
                return r;
        p->parts = new0(Part, p->n_rows);
        if (!p->parts)
                return -ENOMEM;
        for (size_t i = 0; i < p->n_rows; i++) {
                r = part_load(p, p->rows + i, p->parts + i);
                if (r < 0 && r != -ENOENT && r != -EUCLEAN)
                        return r;
                size += part_size(p->parts + i);
                if (i > 0 && size > BATCH_TEXT_MAX)
                        break;
                p->n++;
        }
        return p->n == 0 ? -ENOENT : 0;
}

/* ---- text ---- */

static const char* channel_label(Directory *d, const StoredMessage *m) {
        const char *name;

        if (m->kind == ENVELOPE_DM)
                return "Direct message";
        name = directory_channel_name(d, strempty(m->channel_id));
        return isempty(name) ? strempty(m->channel_id) : name;
}

static int format_message(Preparation *p, const Part *part, StrBuf *b) {
        const StoredMessage *m = part->message;
        const DirectoryPerson *sender = directory_person(p->spec.directory, m->sender_slug);
        bool dm = m->kind == ENVELOPE_DM;
        _cleanup_free_ char *raw = record_text(m), *cut = NULL, *text = NULL;
        _cleanup_free_ MessageAttachment *files = new0(MessageAttachment, part->n_saved);
        MessageMention self = { p->own_slug, MENTION_SELF };
        const char *space;

        if (raw)
                cut = record_cut(raw, RECORD_TEXT_MAX_CHARS, m->envelope_id);
        if (cut)
                text = record_mark_mentions(cut, p->own_slug);
        if (!text || !files)
                return -ENOMEM;
        for (size_t i = 0; i < part->n_saved; i++)
                files[i] = (MessageAttachment) { part->saved[i].path, part->saved[i].name, part->saved[i].problem };
        space = dm ? NULL : directory_space_name(p->spec.directory, strempty(m->space_id));
        return message_block_format(&(MessageBlock) {
                .space_name = dm ? NULL : isempty(space) ? m->space_id : space,
                .space_id = dm ? NULL : m->space_id,
                .channel_name = channel_label(p->spec.directory, m),
                .channel_id = dm ? NULL : m->channel_id,
                .envelope_id = m->envelope_id,
                .root_id = isempty(m->thread_root_id) ? m->envelope_id : m->thread_root_id,
                .sent_at = m->sent_at,
                .sender_name = sender ? sender->display_name : NULL,
                .sender_slug = m->sender_slug,
                .sender_is_bot = sender && sender->is_agent,
                .encrypted = m->encrypted,
                .mentions = &self,
                .n_mentions = record_mentions(raw, p->own_slug),
                .attachments = files,
                .n_attachments = part->n_saved,
                .text = text,
        }, b);
}

static int format_synthetic(const DispatchRow *row, const SyntheticRecord *s, StrBuf *b) {
        return message_block_format(&(MessageBlock) {
                .space_name = s->space_name, .space_id = s->space_id, .channel_name = s->channel_name,
                .channel_id = s->channel_id, .envelope_id = row->envelope_id, .root_id = row->envelope_id,
                .sent_at = row->sent_at, .sender_slug = "system", .sender_is_bot = true, .encrypted = true,
                .text = s->text,
        }, b);
}

static int format_all(Preparation *p, StrBuf *b) {
        int r = 0;

        for (size_t i = 0; i < p->n && r >= 0; i++) {
                const Part *part = p->parts + i;

                if (!part->message && !part->synthetic_json)
                        continue;
                if (b->size > 0)
                        r = strbuf_puts(b, "\n\n");
                if (r >= 0)
                        r = part->message ? format_message(p, part, b)
                                          : format_synthetic(p->rows + i, &part->synthetic, b);
        }
        return r;
}

static void finish(Preparation *p) {
        _cleanup_(strbuf_done) StrBuf b = {};
        int r = format_all(p, &b);

        if (r < 0) {
                fail(p, r);
                return;
        }
        p->on_prepared(p, 0, &(PreparedBatch) {
                .root_id = p->root_id,
                .conversation = p->conversation,
                .text = strempty(b.text),
                .last_seq = p->rows[p->n - 1].seq,
                .first_envelope = p->rows[0].envelope_id,
                .n = p->n,
        }, p->userdata);
}

/* ---- names, then files ---- */

static void on_files(InboxFiles *f, const InboxFile *files, size_t n, void *userdata) {
        Preparation *p = userdata;
        Part *part = p->parts + p->next_files++;

        crash_point("prepare-files");
        part->saved = files;
        part->n_saved = n;
        prepare_files(p);
}

static void prepare_files(Preparation *p) {
        for (; p->next_files < p->n; p->next_files++) {
                const StoredMessage *m = p->parts[p->next_files].message;
                _cleanup_json_ json_object *content = NULL;
                int r;

                if (!m || !record_attachments(m, &content))
                        continue;
                r = inbox_files_fetch(&p->parts[p->next_files].files, p->spec.event, p->spec.client, p->workspace,
                                      m->content, m->envelope_id, on_files, p);
                if (r >= 0)
                        return;
                station_log(LOG_WARNING, r, &(Station) { .envelope = m->envelope_id },
                            "The attachments of a message cannot be fetched, it goes without: %m");
        }
        finish(p);
}

static void on_names(DirectoryLookup *l, void *userdata) {
        Preparation *p = userdata;

        p->lookup = directory_lookup_free(p->lookup);
        crash_point("prepare-names");
        prepare_files(p);
}

static int look_up(Preparation *p) {
        _cleanup_free_ const char **slugs = new0(const char*, p->n);
        _cleanup_free_ DirectoryChannel *channels = new0(DirectoryChannel, p->n);
        size_t n_slugs = 0, n_channels = 0;

        if (!slugs || !channels)
                return -ENOMEM;
        for (size_t i = 0; i < p->n; i++) {
                const StoredMessage *m = p->parts[i].message;
                bool known = false;

                if (!m)
                        continue;
                for (size_t k = 0; k < n_slugs && !known; k++)
                        known = streq(slugs[k], m->sender_slug);
                if (!known)
                        slugs[n_slugs++] = m->sender_slug;
                /* All of a thread are of one channel. */
                if (n_channels == 0 && m->kind == ENVELOPE_CHANNEL && !isempty(m->space_id) &&
                    !isempty(m->channel_id))
                        channels[n_channels++] = (DirectoryChannel) { m->space_id, m->channel_id };
        }
        return directory_look_up(p->spec.directory, slugs, n_slugs, channels, n_channels, on_names, p, &p->lookup);
}

static int on_begin(sd_event_source *s, void *userdata) {
        Preparation *p = userdata;
        int r;

        crash_point("prepare-begin");
        r = parts_load(p);

        if (r < 0) {
                fail(p, r);
                return 0;
        }
        r = look_up(p);
        if (r < 0) {
                (void) log_warning_errno(r, "Names cannot be looked up, going on without: %m");
                prepare_files(p);
        }
        return 0;
}

int preparation_new(Preparation **ret, const PreparationSpec *spec, const char *root_id,
                    const char *conversation, prepared_t on_prepared, void *userdata) {
        _cleanup_(preparation_freep) Preparation *p = new0(Preparation, 1);
        int r;

        if (!p)
                return -ENOMEM;
        p->spec = *spec;
        p->on_prepared = on_prepared;
        p->userdata = userdata;
        p->workspace = strdup(spec->workspace);
        p->own_slug = strdup(spec->own_slug);
        p->root_id = strdup(root_id);
        p->conversation = strdup(conversation);
        if (!p->workspace || !p->own_slug || !p->root_id || !p->conversation)
                return -ENOMEM;
        r = sd_event_add_defer(spec->event, &p->begin, on_begin, p);
        if (r < 0)
                return r;

        *ret = TAKE_PTR(p);
        return 0;
}
