/* SPDX-License-Identifier: MIT */
#pragma once

#include "server-client.h"

/* The calls of server-api §14, one function each to ask and one to read the answer. Asking: as server_call_start().
 * Reading: -EBADMSG with *reterr (malloc'ed, one line) when the answer is not what that call must answer – a member
 * of the wrong type, no object, no body –, -ENOMEM. What it hands out is borrowed from the reply but for the array
 * itself, which is the caller's to free. Members that nobody promises are "" or 0 when they are absent.
 *
 * Ids from the server go into paths escaped; a blob's must be of [A-Za-z0-9._~-]{1,200}, else -EINVAL. */

/* --- certificates (§3) --- */

/* One page, to be read by cert-page.h. slugs: as many as cert_slugs_fit(). */
int api_certs_sync(ServerClient *c, const char *const *slugs, size_t n_slugs, int64_t since, call_done_t on_done,
                   void *userdata, ServerCall **ret);

/* --- people, spaces, channels (§§4–6, 8) --- */

typedef struct Profile {
        const char *slug, *username, *display_name, *avatar_url, *bio, *owner_slug;
} Profile;

/* At most 50 slugs, and as many as cert_slugs_fit(): -E2BIG. */
#define PROFILES_MAX 50U
int api_profiles(ServerClient *c, const char *const *slugs, size_t n_slugs, call_done_t on_done, void *userdata,
                 ServerCall **ret);
int api_read_profiles(const CallReply *reply, Profile **ret, size_t *ret_n, char **reterr);

/* Members that are NULL stay as they are. */
typedef struct ProfileChange {
        const char *display_name, *avatar_url, *bio, *role, *role_short;
} ProfileChange;
int api_change_profile(ServerClient *c, const ProfileChange *change, call_done_t on_done, void *userdata,
                       ServerCall **ret);

typedef struct Space {
        const char *space_id, *name;
} Space;
int api_spaces(ServerClient *c, call_done_t on_done, void *userdata, ServerCall **ret);
int api_read_spaces(const CallReply *reply, Space **ret, size_t *ret_n, char **reterr);

typedef struct Channel {
        const char *channel_id, *name;
        bool is_public;
} Channel;
int api_channels(ServerClient *c, const char *space_id, call_done_t on_done, void *userdata, ServerCall **ret);
int api_read_channels(const CallReply *reply, Channel **ret, size_t *ret_n, char **reterr);

typedef struct Member {
        const char *slug, *role;        /* owner, admin, member */
} Member;
int api_channel_members(ServerClient *c, const char *space_id, const char *channel_id, call_done_t on_done,
                        void *userdata, ServerCall **ret);
int api_read_members(const CallReply *reply, Member **ret, size_t *ret_n, char **reterr);

typedef struct Invite {
        const char *event_id, *space_id, *channel_id, *inviter_slug, *space_name, *channel_name;
        bool to_channel;
        const SignedValue *event;       /* the inviter's signed event, where the server shows it, or NULL */
} Invite;
int api_invites(ServerClient *c, call_done_t on_done, void *userdata, ServerCall **ret);
/* Those without an id, of an unknown scope or without what their scope needs are left out, and counted. */
int api_read_invites(const CallReply *reply, Invite **ret, size_t *ret_n, size_t *ret_left_out, char **reterr);

/* --- signed events (§§5.2, 7) --- */

typedef struct EventPage {
        const SignedValue **events;     /* objects only */
        size_t n_events;
        const char *next_cursor;        /* NULL: this was the last page */
} EventPage;
/* cursor NULL: from the beginning. */
int api_space_events(ServerClient *c, const char *space_id, const char *cursor, call_done_t on_done, void *userdata,
                     ServerCall **ret);
/* A next page that is the one just asked for is no next page. */
int api_read_event_page(const CallReply *reply, const char *cursor, EventPage *ret, char **reterr);

typedef enum InviteAnswer {
        INVITE_ACCEPT,
        INVITE_REJECT,
        _INVITE_ANSWER_MAX,
} InviteAnswer;
/* Answers an invite by an event that the subkey of the moment signs. -EAGAIN without one: wait for it first. */
int api_answer_invite(ServerClient *c, const Invite *invite, InviteAnswer answer, call_done_t on_done, void *userdata,
                      ServerCall **ret);

/* --- messages (§9) --- */

int api_post_message(ServerClient *c, const char *envelope, size_t size, call_done_t on_done, void *userdata,
                     ServerCall **ret);
typedef struct PostedMessage {
        int64_t devices_queued;         /* < 0: the server does not say */
        const char **missing_devices;   /* devices of the audience that the envelope forgot */
        size_t n_missing;
        bool replay;
} PostedMessage;
int api_read_posted(const CallReply *reply, PostedMessage *ret, char **reterr);

/* All of what is pending, piece by piece: on_data as in http-client.h, for PendingReader. At most timeout_usec. */
int api_pending(ServerClient *c, uint64_t timeout_usec, http_data_t on_data, call_done_t on_done, void *userdata,
                ServerCall **ret);
int api_ack(ServerClient *c, const char *const *envelope_ids, size_t n, call_done_t on_done, void *userdata,
            ServerCall **ret);

/* --- blobs (§10) --- */

#define BLOB_MAX (MIB(8) + KIB(64))

/* As above. */
bool blob_id_is_valid(const char *id);
/* content_type NULL: as attachments go out. */
int api_upload_blob(ServerClient *c, const void *data, size_t size, const char *content_type, call_done_t on_done,
                    void *userdata, ServerCall **ret);
int api_read_uploaded(const CallReply *reply, const char **ret_blob_id, char **reterr);
/* The bytes are reply->body. A blob that is not visible yet is asked for again, three times, 5 s apart. */
int api_download_blob(ServerClient *c, const char *blob_id, call_done_t on_done, void *userdata, ServerCall **ret);

/* --- status (§11) --- */

typedef enum AgentStatus {
        AGENT_STATUS_IDLE,
        AGENT_STATUS_BUSY,
        AGENT_STATUS_ERROR,
        _AGENT_STATUS_MAX,
} AgentStatus;
/* message_id, error_text: NULL when there is none; the text is cut to what the server takes. */
int api_heartbeat(ServerClient *c, AgentStatus status, const char *message_id, const char *error_text,
                  call_done_t on_done, void *userdata, ServerCall **ret);

typedef struct Run {
        const char *run_id, *message_id, *error_text;   /* error_text NULL: it succeeded */
} Run;
int api_processing_start(ServerClient *c, const Run *run, call_done_t on_done, void *userdata, ServerCall **ret);
int api_processing_end(ServerClient *c, const Run *run, call_done_t on_done, void *userdata, ServerCall **ret);
int api_processing_end_batch(ServerClient *c, const Run *runs, size_t n, call_done_t on_done, void *userdata,
                             ServerCall **ret);
