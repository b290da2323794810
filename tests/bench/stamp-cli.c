/* SPDX-License-Identifier: MIT */

/* A CLI that does nothing but note when a turn's first byte was there: in "stamps" of its working directory, a line
 * for each user message, CLOCK_REALTIME in microseconds. Speaks as much stream-json as a driver needs. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define SESSION "5f0c9a52-9d5e-4a52-8d56-0f0d3ed1a001"

static unsigned long long now(void) {
        struct timespec t;

        (void) clock_gettime(CLOCK_REALTIME, &t);
        return (unsigned long long) t.tv_sec * 1000000ULL + (unsigned long long) t.tv_nsec / 1000ULL;
}

static void say(const char *line) {
        if (write(STDOUT_FILENO, line, strlen(line)) < 0)
                exit(EXIT_FAILURE);
}

static void answer_control(const char *line) {
        const char *id = strstr(line, "\"request_id\"");
        char text[512];
        int n = 0;

        id = id ? strchr(id + 12, '"') : NULL;
        if (!id)
                return;
        n = (int) strcspn(id + 1, "\"");
        (void) snprintf(text, sizeof(text), "{\"type\":\"control_response\",\"response\":{\"subtype\":\"success\","
                        "\"request_id\":\"%.*s\",\"response\":{}}}\n", n, id + 1);
        say(text);
}

static void answer_user(FILE *stamps, unsigned long long at) {
        (void) fprintf(stamps, "%llu\n", at);
        (void) fflush(stamps);
        say("{\"type\":\"system\",\"subtype\":\"init\",\"session_id\":\"" SESSION "\",\"tools\":[],"
            "\"mcp_servers\":[{\"name\":\"puffo\",\"status\":\"connected\"}],\"model\":\"m\","
            "\"permissionMode\":\"bypassPermissions\"}\n");
        say("{\"type\":\"assistant\",\"session_id\":\"" SESSION "\",\"parent_tool_use_id\":null,"
            "\"message\":{\"id\":\"msg\",\"role\":\"assistant\",\"model\":\"m\",\"usage\":{},"
            "\"content\":[{\"type\":\"text\",\"text\":\"[SILENT]\"}]}}\n");
        say("{\"type\":\"result\",\"subtype\":\"success\",\"is_error\":false,\"result\":\"[SILENT]\",\"num_turns\":1,"
            "\"session_id\":\"" SESSION "\",\"terminal_reason\":\"completed\",\"usage\":{\"input_tokens\":1,"
            "\"output_tokens\":1}}\n");
}

int main(void) {
        FILE *stamps = fopen("stamps", "a");
        static char buffer[1 << 20];
        size_t size = 0;
        unsigned long long at = 0;
        char *end;
        ssize_t n;

        if (!stamps)
                return EXIT_FAILURE;
        while ((n = read(STDIN_FILENO, buffer + size, sizeof(buffer) - 1 - size)) > 0) {
                if (size == 0)
                        at = now();
                size += (size_t) n;
                buffer[size] = 0;
                while ((end = strchr(buffer, '\n'))) {
                        *end = 0;
                        if (strstr(buffer, "\"control_request\""))
                                answer_control(buffer);
                        else if (strstr(buffer, "\"user\""))
                                answer_user(stamps, at);
                        size -= (size_t) (end + 1 - buffer);
                        memmove(buffer, end + 1, size + 1);
                }
        }
        return EXIT_SUCCESS;
}
