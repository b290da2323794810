/* SPDX-License-Identifier: MIT */

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "agent-file.h"
#include "agent-home.h"
#include "file-util.h"
#include "primer.h"
#include "string-util.h"

#define PART_MAX KIB(256)

/* Memory and profile are written by models, editors and copies: what is no UTF-8 must not reach an API that refuses
 * it. NULs count as such. */
static int append_clean(StrBuf *b, const char *s, size_t n) {
        while (n > 0) {
                size_t valid = 0;
                int r;

                /* Whole stretches at a time; a code point has four bytes at most. */
                while (valid < n && s[valid] && (unsigned char) s[valid] < 0x80)
                        valid++;
                if (valid == 0 && *s)
                        for (size_t k = 2; k <= 4 && k <= n && valid == 0; k++)
                                if (utf8_is_valid(s, k))
                                        valid = k;

                r = valid > 0 ? strbuf_append(b, s, valid) : strbuf_puts(b, "\xef\xbf\xbd");
                if (r < 0)
                        return r;
                valid = MAX(valid, (size_t) 1);
                s += valid;
                n -= valid;
        }
        return 0;
}

static size_t stripped(const char **s, size_t n) {
        static const char blank[] = " \t\r\n\f\v";

        while (n > 0 && strchr(blank, (*s)[n - 1]) && (*s)[n - 1])
                n--;
        while (n > 0 && strchr(blank, **s) && **s) {
                (*s)++;
                n--;
        }
        return n;
}

static int read_prefix(int fd, size_t max, StrBuf *b) {
        char buffer[KIB(16)];

        while (b->size < max) {
                ssize_t n = read(fd, buffer, MIN(sizeof(buffer), max - b->size));
                int r;

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0)
                        return -errno;
                if (n == 0)
                        return 0;
                r = strbuf_append(b, buffer, (size_t) n);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* Appends a file's text, stripped, after heading (only when there is a text). A file that is not there or no file at
 * all counts as empty. > 0: something was appended. */
static int append_file(StrBuf *b, const AgentHome *h, const char *path, const char *heading) {
        _cleanup_(strbuf_done) StrBuf raw = {};
        _cleanup_close_ int fd = -EBADF;
        const char *text;
        struct stat st;
        size_t size;
        bool cut;
        int r;

        fd = agent_file_open(h->directory, path, O_RDONLY | O_NONBLOCK);
        if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
                return fd == -ENOMEM ? -ENOMEM : 0;
        r = read_prefix(fd, PART_MAX + 1, &raw);
        if (r < 0)
                return r == -ENOMEM ? r : 0;

        cut = raw.size > PART_MAX;
        text = raw.text;
        size = cut ? utf8_complete_prefix(text, PART_MAX) : raw.size;
        size = size > 0 ? stripped(&text, size) : 0;
        if (size == 0)
                return 0;

        r = b->size > 0 ? strbuf_puts(b, "\n\n") : 0;
        if (r >= 0)
                r = strbuf_puts(b, heading);
        if (r >= 0)
                r = append_clean(b, text, size);
        if (r >= 0 && cut)
                r = strbuf_puts(b, "\n\n[… the rest is left out: this text is longer than 256 KiB]");
        return r < 0 ? r : 1;
}

static int take_text(StrBuf *b, char **ret) {
        *ret = strbuf_take(b);
        return *ret ? 0 : -ENOMEM;
}

int agent_home_read_profile(const AgentHome *h, const AgentConfig *c, char **ret) {
        _cleanup_(strbuf_done) StrBuf b = {};
        _cleanup_free_ char *parent = NULL, *agents = NULL;
        const char *name;
        int r;

        r = append_file(&b, h, c->profile, "");
        if (r < 0)
                return r;

        if (h->role) {
                r = path_split(c->profile, &parent, &name);
                if (r < 0)
                        return r;
                agents = path_join(parent, "AGENTS.md");
                if (!agents)
                        return -ENOMEM;
                r = append_file(&b, h, agents, "");
                if (r < 0)
                        return r;
        }
        return take_text(&b, ret);
}

int agent_home_write_profile(const AgentHome *h, const AgentConfig *c, const char *text) {
        size_t n = strlen(text);

        if (!utf8_is_valid(text, n))
                return -EINVAL;
        if (n > PART_MAX)
                return -EFBIG;
        return agent_file_write(h->directory, c->profile, text, n, 0600);
}

static int list_topics(const AgentHome *h, const char *memory_dir, char ***ret) {
        _cleanup_(strv_freep) char **names = NULL;
        int fd, r = 0;
        DIR *dir;

        fd = agent_file_open(h->directory, memory_dir, O_RDONLY | O_DIRECTORY);
        dir = fd >= 0 ? fdopendir(fd) : NULL;
        if (!dir) {
                safe_close(fd);
                *ret = NULL;
                return 0;
        }

        for (struct dirent *entry; r >= 0 && (entry = readdir(dir)); )
                if (entry->d_name[0] != '.' && endswith(entry->d_name, ".md") && !streq(entry->d_name, "README.md"))
                        r = strv_extend(&names, entry->d_name);
        (void) closedir(dir);
        if (r < 0)
                return r;

        strv_sort(names);
        *ret = TAKE_PTR(names);
        return 0;
}

static int append_topic(StrBuf *b, const AgentHome *h, const char *memory_dir, const char *name) {
        _cleanup_free_ char *path = path_join(memory_dir, name), *heading = NULL, *stem = NULL, *shown = NULL;

        stem = memdup0(name, strlen(name) - strlen(".md"));
        shown = stem ? str_printable(stem, 200) : NULL;
        heading = shown ? strjoin("### ", shown, "\n\n") : NULL;
        return path && heading ? append_file(b, h, path, heading) : -ENOMEM;
}

int agent_home_read_memory(const AgentHome *h, const AgentConfig *c, char **ret) {
        _cleanup_(strbuf_done) StrBuf b = {};
        _cleanup_(strv_freep) char **topics = NULL;
        int r;

        if (h->role) {
                _cleanup_free_ char *path = path_join(c->memory_dir, "memory.md");

                r = path ? append_file(&b, h, path, "") : -ENOMEM;
                return r < 0 ? r : take_text(&b, ret);
        }

        r = list_topics(h, c->memory_dir, &topics);
        if (r < 0)
                return r;
        for (char **name = topics; name && *name; name++) {
                r = append_topic(&b, h, c->memory_dir, *name);
                if (r < 0)
                        return r;
                if (b.size > PART_MAX) {
                        r = strbuf_puts(&b, "\n\n[… further topics are left out: the memory is longer than 256 KiB]");
                        if (r < 0)
                                return r;
                        break;
                }
        }
        return take_text(&b, ret);
}

static int append_part(StrBuf *b, const char *heading, const char *text) {
        int r;

        if (*text == 0)
                return 0;
        r = b->size > 0 ? strbuf_puts(b, "\n---\n\n") : 0;
        return r < 0 ? r : strbuf_printf(b, "%s%s\n", heading, text);
}

int agent_home_system_prompt(const AgentHome *h, const AgentConfig *c, const char *const *tools, char **ret) {
        _cleanup_free_ char *primer = NULL, *profile = NULL, *memory = NULL;
        _cleanup_(strbuf_done) StrBuf b = {};
        int r;

        r = agent_home_read_profile(h, c, &profile);
        if (r < 0)
                return r;
        r = agent_home_read_memory(h, c, &memory);
        if (r < 0)
                return r;

        if (*c->slug)
                r = primer_new(h, c, tools, &primer);
        if (r >= 0 && primer)
                r = strbuf_puts(&b, primer);
        if (r >= 0)
                r = append_part(&b, "# Your role\n\n", profile);
        if (r >= 0)
                r = append_part(&b, "# Your memory\n\n", memory);
        return r < 0 ? r : take_text(&b, ret);
}
