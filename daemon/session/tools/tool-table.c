/* SPDX-License-Identifier: MIT */

#include "tool-table.h"

/* Schemas keep to types that every provider knows: no unions, null counts as absent. */
#define SCHEMA(properties, required) \
        "{\"type\":\"object\",\"properties\":{" properties "},\"required\":[" required "]," \
        "\"additionalProperties\":false}"
#define PROPERTY(name, type, description) "\"" name "\":{" type ",\"description\":\"" description "\"}"
#define TYPE_STRING "\"type\":\"string\""
#define TYPE_INTEGER "\"type\":\"integer\""
#define TYPE_LIST "\"type\":\"array\",\"items\":{\"type\":\"string\"}"
#define TYPE_MAP "\"type\":\"object\",\"additionalProperties\":{\"type\":\"string\"}"
#define DEFAULT(json) ",\"default\":" json

#define CHANNEL PROPERTY("channel", TYPE_STRING, "Channel id (ch_…), as list_channels gives it.")
#define CHANNEL_OR_PERSON PROPERTY("channel", TYPE_STRING, \
                                   "Channel id (ch_…), or @ and a person's slug for a direct message.")
#define ROOT_ID PROPERTY("root_id", TYPE_STRING DEFAULT("\"\""), \
                         "Envelope id of the post to answer in its thread; empty for a new post.")
#define WINDOW \
        PROPERTY("since", TYPE_STRING DEFAULT("\"\""), "Only what came after the post with this envelope id.") "," \
        PROPERTY("before", TYPE_INTEGER DEFAULT("0"), "Only what was sent before, in ms since 1970; 0: no bound.") " \
                                                      ""," \
        PROPERTY("after", TYPE_INTEGER DEFAULT("0"), "Only what was sent after, in ms since 1970; 0: no bound.")
#define SKILL_NAME PROPERTY("name", TYPE_STRING, "Lower-case letters, digits and dashes, at most 64.")
#define SERVER_NAME PROPERTY("name", TYPE_STRING, "Name of the server, 1 to 64 characters.")
#define NOTHING SCHEMA("", "")

const ToolEntry tool_table[TOOLS_MAX] = {
        { { "send_message",
            "Post a message to a channel, to a thread in it, or as a direct message to a person.",
            SCHEMA(CHANNEL_OR_PERSON "," PROPERTY("text", TYPE_STRING, "The message.") "," ROOT_ID,
                   "\"channel\",\"text\"") },
          .run = tool_send_message, .chat = true },
        { { "upload_file",
            "Send files of the workspace to a channel, a thread or a person, as one message. At most 10 files of 8 "
            "MiB.",
            SCHEMA(PROPERTY("paths", TYPE_LIST, "Paths of the files, relative to the workspace.") "," CHANNEL_OR_PERSON
                   "," PROPERTY("caption", TYPE_STRING DEFAULT("\"\""), "Text beside the files.") "," ROOT_ID,
                   "\"paths\",\"channel\"") },
          .run = tool_upload_file, .chat = true },
        { { "list_channels", "List the channels that can be reached, with their ids and names.", NOTHING },
          .run = tool_list_channels, .chat = true },
        { { "list_channel_members", "List the members of a channel, with their roles.",
            SCHEMA(CHANNEL, "\"channel\"") },
          .run = tool_list_channel_members, .chat = true },
        { { "get_channel_history",
            "Read the newest posts of a channel, oldest first, with the number of their replies. Replies are read "
            "with get_thread_history.",
            SCHEMA(CHANNEL "," PROPERTY("limit", TYPE_INTEGER DEFAULT("20"), "How many posts, 1 to 200.") "," WINDOW,
                   "\"channel\"") },
          .run = tool_get_channel_history, .chat = true },
        { { "get_thread_history", "Read a thread: the post that it began with and the newest replies, oldest first.",
            SCHEMA(PROPERTY("root_id", TYPE_STRING, "Envelope id of the post that the thread began with.") ","
                   PROPERTY("limit", TYPE_INTEGER DEFAULT("50"), "How many messages, 1 to 200.") "," WINDOW,
                   "\"root_id\"") },
          .run = tool_get_thread_history, .chat = true },
        { { "fetch_channel_files", "List the files that were shared in a channel.",
            SCHEMA(CHANNEL "," PROPERTY("limit", TYPE_INTEGER DEFAULT("20"), "How many files."), "\"channel\"") },
          .run = tool_fetch_channel_files, .chat = true },
        { { "get_post", "Read one message in full. A long one comes in pages.",
            SCHEMA(PROPERTY("post_ref", TYPE_STRING, "Envelope id of the message (msg_…).") ","
                   PROPERTY("offset", TYPE_INTEGER DEFAULT("0"),
                            "Where in the text to begin, in characters: for the further pages of a long one."),
                   "\"post_ref\"") },
          .run = tool_get_post, .chat = true },
        { { "get_user_info", "Look up the profile of a person or agent.",
            SCHEMA(PROPERTY("username", TYPE_STRING, "Slug of the person, with or without @."), "\"username\"") },
          .run = tool_get_user_info, .chat = true },
        { { "whoami", "Show this agent's own identity on the chat service.", NOTHING },
          .run = tool_whoami, .chat = true },
        { { "reload_system_prompt",
            "Have the system prompt rebuilt from profile, memory and skills before the next message. To be called "
            "after changing them.",
            NOTHING },
          .run = tool_reload_system_prompt },
        { { "install_skill", "Install a skill for this agent. It can be used after refresh().",
            SCHEMA(SKILL_NAME "," PROPERTY("content", TYPE_STRING, "The text of its SKILL.md."),
                   "\"name\",\"content\"") },
          .run = tool_install_skill, .claude_only = true },
        { { "uninstall_skill", "Remove a skill that install_skill has installed.", SCHEMA(SKILL_NAME, "\"name\"") },
          .run = tool_uninstall_skill, .claude_only = true },
        { { "list_skills", "List the skills that are installed.", NOTHING }, .run = tool_list_skills },
        { { "install_mcp_server", "Register an MCP server (stdio) for this agent. It can be used after refresh().",
            SCHEMA(SERVER_NAME "," PROPERTY("command", TYPE_STRING, "The program to run.") ","
                   PROPERTY("args", TYPE_LIST, "Its arguments.") ","
                   PROPERTY("env", TYPE_MAP, "Its additional environment variables."),
                   "\"name\",\"command\"") },
          .run = tool_install_mcp_server, .claude_only = true },
        { { "uninstall_mcp_server", "Remove an MCP server that install_mcp_server has registered.",
            SCHEMA(SERVER_NAME, "\"name\"") },
          .run = tool_uninstall_mcp_server, .claude_only = true },
        { { "list_mcp_servers", "List the MCP servers that are registered.", NOTHING }, .run = tool_list_mcp_servers },
        { { "refresh",
            "Have the runtime started anew before the next message, so that new skills and MCP servers count; with "
            "a model name, with that model.",
            SCHEMA(PROPERTY("model", TYPE_STRING, "The model from then on; empty for the configured one."), "") },
          .run = tool_refresh, .claude_only = true },
        { { "hire_agent",
            "Have another agent for a role: it is made, or found when it exists, and started. Its id is "
            "<role>_<name>.",
            SCHEMA(PROPERTY("role", TYPE_STRING, "What it is to do, such as engineer or researcher.") ","
                   PROPERTY("name", TYPE_STRING, "A name within the role, such as alice."),
                   "\"role\",\"name\"") },
          .run = tool_hire_agent, .lead = true },
        { { "ask_agent",
            "Give another agent a task or a question, and wait for its answer. It remembers what it was asked before, "
            "and sees nothing else of your conversations.",
            SCHEMA(PROPERTY("agent", TYPE_STRING, "Its id, such as engineer_alice.") ","
                   PROPERTY("text", TYPE_STRING, "What it is to do, with everything that it has to know."),
                   "\"agent\",\"text\"") },
          .run = tool_ask_agent, .lead = true },
};
