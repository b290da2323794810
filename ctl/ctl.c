/* SPDX-License-Identifier: MIT */

#include <ctype.h>
#include <fcntl.h>
#include <langinfo.h>
#include <locale.h>
#include <signal.h>
#include <stdarg.h>
#include <sys/wait.h>

#include "config.h"
#include "ctl-bus.h"
#include "ctl-polkit.h"
#include "string-util.h"

static char* format_text(const char *format, va_list ap) {
        char *s;

        return vasprintf(&s, format, ap) < 0 ? NULL : s;
}

/* One line on stderr, whatever came in from elsewhere. */
static void print_problem(const Ctl *c, const char *format, va_list ap) {
        _cleanup_free_ char *text = format_text(format, ap), *safe = text ? str_printable(text, SIZE_MAX) : NULL;

        fprintf(stderr, "%s: %s\n", c->program->name, safe ?: "out of memory");
}

int ctl_fail(const Ctl *c, const char *format, ...) {
        va_list ap;

        va_start(ap, format);
        print_problem(c, format, ap);
        va_end(ap);
        return EXIT_FAILURE;
}

int ctl_refuse(const Ctl *c, const char *format, ...) {
        va_list ap;

        va_start(ap, format);
        print_problem(c, format, ap);
        va_end(ap);
        return EXIT_USAGE;
}

int ctl_oom(const Ctl *c) {
        return ctl_fail(c, "out of memory");
}

/* What a person can do, where the message alone does not say. */
static const char* hint_for(const Ctl *c, const sd_bus_error *e) {
        if (sd_bus_error_has_names(e, SD_BUS_ERROR_INTERACTIVE_AUTHORIZATION_REQUIRED, SD_BUS_ERROR_ACCESS_DENIED))
                /* puffod says itself what to do. */
                return c->scope == SCOPE_SYSTEM && !strstr(strempty(e->message), "root")
                                       ? " (an administrator may: try it with sudo)"
                                       : "";
        if (sd_bus_error_has_name(e, SD_BUS_ERROR_UNKNOWN_METHOD))
                return " (another version is running: try 'agent-proxy restart')";
        return "";
}

int ctl_fail_bus(const Ctl *c, int r, const sd_bus_error *e, const char *format, ...) {
        _cleanup_free_ char *context = NULL, *message = NULL;
        const char *detail;
        va_list ap;

        va_start(ap, format);
        context = format_text(format, ap);
        va_end(ap);
        if (!context)
                return ctl_oom(c);

        if (ctl_daemon_is_down(r, e) && !sd_bus_error_has_name(e, SD_BUS_ERROR_NO_SERVER))
                return ctl_fail(c, "%s: the daemon is not running (try 'agent-proxy enable%s')", context,
                                c->scope == SCOPE_SYSTEM ? " --system" : "");
        detail = e && e->message ? e->message : strerror(abs(r));
        if (c->host && (r == -ENOTCONN || r == -ECONNRESET))
                return ctl_fail(c, "%s: the connection to '%s' ended (log in there with ssh to see why)", context,
                                c->host);
        message = strdup(detail);
        if (!message)
                return ctl_oom(c);
        /* Messages of the bus are sentences of their own; here they end a line. */
        if (endswith(message, "."))
                message[strlen(message) - 1] = 0;
        return ctl_fail(c, "%s: %s%s", context, message, hint_for(c, e));
}

/* --- help --- */

/* Columns, not bytes: the left side holds "…". */
static void print_help_line(FILE *f, const char *left, const char *right) {
        fprintf(f, "%s%*s %s\n", left, (int) (30 - MIN(text_width(left), (size_t) 30)), "", right);
}

static void print_option(FILE *f, const Option *o) {
        _cleanup_free_ char *left = NULL;

        /* An optional value brings its brackets along: they go around the "=" too. */
        left = asprintf_new("  %c%c%c --%s%s%s", o->letter ? '-' : ' ', o->letter ?: ' ', o->letter ? ',' : ' ',
                            o->name,
                            !o->value                     ? ""
                            : option_value_is_optional(o) ? "[="
                                                          : "=",
                            !o->value ? "" : o->value + option_value_is_optional(o));
        if (left)
                print_help_line(f, left, o->help);
}

static void print_options(FILE *f, const Option *options) {
        for (const Option *o = options; o && o->name; o++)
                print_option(f, o);
}

static void print_program_help(const Program *p, FILE *f, const char *group) {
        fprintf(f, "%s [OPTIONS…] %s%sCOMMAND …\n\n%s\n", p->name, strempty(group), group ? " " : "", p->purpose);
        for (const Verb *v = p->verbs; v->name; v++) {
                _cleanup_free_ char *left = NULL;

                if (group && !(startswith(v->name, group) && v->name[strlen(group)] == ' '))
                        continue;
                if (v->section)
                        fprintf(f, "\n%s%s:%s\n", colour_on(f, COLOUR_HEADING), v->section,
                                colour_off(f, COLOUR_HEADING));
                left = asprintf_new("  %s%s%s", v->name, isempty(v->operands) ? "" : " ", strempty(v->operands));
                print_help_line(f, strempty(left), v->help);
        }
        fprintf(f, "\n%sOptions:%s\n", colour_on(f, COLOUR_HEADING), colour_off(f, COLOUR_HEADING));
        print_options(f, p->options);
        fprintf(f, "\n'%s COMMAND --help' tells more about a command; see also %s(1).\n", p->name, p->name);
}

static void print_verb_help(const Program *p, const Verb *v, FILE *f) {
        fprintf(f, "%s [OPTIONS…] %s%s%s\n\n%c%s.\n", p->name, v->name, isempty(v->operands) ? "" : " ",
                strempty(v->operands), toupper((unsigned char) v->help[0]), v->help + 1);
        fprintf(f, "\n%sOptions:%s\n", colour_on(f, COLOUR_HEADING), colour_off(f, COLOUR_HEADING));
        print_options(f, v->options);
        print_options(f, p->options);
}

/* --- what was asked for --- */

static const Verb* find_verb(const Program *p, const char *name) {
        for (const Verb *v = p->verbs; v->name; v++)
                if (streq(v->name, name))
                        return v;
        return NULL;
}

static bool is_group(const Program *p, const char *word) {
        size_t n = strlen(word);

        for (const Verb *v = p->verbs; v->name; v++)
                if (strncmp(v->name, word, n) == 0 && v->name[n] == ' ')
                        return true;
        return false;
}

/* Options that concern the whole run. -1: go on, else the exit status. */
static int apply_options(Ctl *c, const Arguments *a, const char *group) {
        bool scope_given = arguments_has(a, "user") || arguments_has(a, "system");

        if (arguments_has(a, "help")) {
                if (c->verb)
                        print_verb_help(c->program, c->verb, stdout);
                else
                        print_program_help(c->program, stdout, group);
                return EXIT_SUCCESS;
        }
        if (arguments_has(a, "version")) {
                printf("%s %s\n", c->program->name, PROJECT_VERSION);
                return EXIT_SUCCESS;
        }

        c->host = arguments_value(a, "host");
        c->machine = arguments_value(a, "machine");
        if (c->host && c->machine)
                return ctl_refuse(c, "--host and --machine exclude each other");
        /* The option that comes last wins; another machine's own agents are the likelier ones. */
        c->scope = c->host || c->machine ? SCOPE_SYSTEM : SCOPE_USER;
        for (size_t i = 0; scope_given && i < a->n_given; i++)
                if (streq(a->given[i].option->name, "system"))
                        c->scope = SCOPE_SYSTEM;
                else if (streq(a->given[i].option->name, "user"))
                        c->scope = SCOPE_USER;
        c->json = arguments_has(a, "json");
        c->no_pager = arguments_has(a, "no-pager");
        c->no_legend = arguments_has(a, "no-legend");
        c->quiet = arguments_has(a, "quiet");
        return -1;
}

/* Words behind the verb are put in front. */
static void drop_verb_words(Arguments *a, size_t n) {
        memmove(a->words, a->words + n, (a->n_words - n + 1) * sizeof(char*));
        a->n_words -= n;
}

static int check_operands(Ctl *c, const Arguments *a) {
        const Verb *v = c->verb;

        if (a->n_words < v->min_operands)
                return ctl_refuse(c, "'%s' needs %s; see '%s %s --help'", v->name, v->operands, c->program->name,
                                  v->name);
        if (a->n_words > v->max_operands)
                return ctl_refuse(c, "'%s' has no use for '%s'; see '%s %s --help'", v->name,
                                  a->words[v->max_operands], c->program->name, v->name);
        return 0;
}

/* Fills in c->verb and what is left for it in a. -1: go on, else the exit status. */
static int read_command_line(Ctl *c, Arguments *a, int argc, char *argv[]) {
        const Program *p = c->program;
        const Option *tables[] = { p->options, NULL, NULL };
        _cleanup_free_ char *error = NULL, *name = NULL;
        const char *group = NULL;
        int index = 1, r;

        r = arguments_parse(a, argc, argv, &index, tables, 1, SIZE_MAX, &error);
        if (r >= 0 && a->n_words == 1 && is_group(p, a->words[0]) && !find_verb(p, a->words[0])) {
                group = a->words[0];
                r = arguments_parse(a, argc, argv, &index, tables, 2, SIZE_MAX, &error);
        }
        if (r == -ENOMEM)
                return ctl_oom(c);
        if (r < 0)
                return ctl_refuse(c, "%s; see '%s --help'", error, p->name);

        if (a->n_words == (group ? 2 : 1)) {
                name = group ? strjoin(group, " ", a->words[1]) : strdup(a->words[0]);
                if (!name)
                        return ctl_oom(c);
                c->verb = find_verb(p, name);
                if (!c->verb)
                        return ctl_refuse(c, "unknown command '%s'; see '%s --help'", name, p->name);
                drop_verb_words(a, a->n_words);
                tables[1] = c->verb->options;
                r = arguments_parse(a, argc, argv, &index, tables, SIZE_MAX,
                                    c->verb->text_after > 0 ? c->verb->text_after : SIZE_MAX, &error);
                if (r == -ENOMEM)
                        return ctl_oom(c);
                if (r < 0)
                        return ctl_refuse(c, "%s; see '%s %s --help'", error, p->name, c->verb->name);
        }

        r = apply_options(c, a, group);
        if (r >= 0)
                return r;
        if (!c->verb) {
                print_program_help(p, stderr, group);
                return EXIT_USAGE;
        }
        r = check_operands(c, a);
        return r != 0 ? r : -1;
}

/* Widths of characters are a matter of the locale; text is UTF-8 here in any. */
static void set_up_locale(void) {
        (void) setlocale(LC_ALL, "");
        if (!streq(nl_langinfo(CODESET), "UTF-8"))
                (void) setlocale(LC_CTYPE, "C.UTF-8");
        (void) setlocale(LC_NUMERIC, "C");
}

static int finish_output(Ctl *c, int status) {
        if (fflush(stdout) == EOF && errno != EPIPE && status == EXIT_SUCCESS)
                status = ctl_fail(c, "cannot write the output: %m");
        if (c->pager > 0) {
                (void) close(STDOUT_FILENO);
                (void) waitpid(c->pager, NULL, 0);
        }
        polkit_agent_stop(c);
        return status;
}

int ctl_run(const Program *program, int argc, char *argv[]) {
        _cleanup_(arguments_done) Arguments arguments = {};
        Ctl c = { .program = program };
        int status;

        set_up_locale();
        (void) signal(SIGPIPE, SIG_IGN);
        status = read_command_line(&c, &arguments, argc, argv);
        if (status < 0) {
                if (c.scope == SCOPE_SYSTEM && !c.host && !c.machine)
                        polkit_agent_start(&c);
                status = c.verb->run(&c, &arguments);
        }
        status = finish_output(&c, status);
        ctl_disconnect(&c);
        return status;
}

/* --- output --- */

void ctl_say(const Ctl *c, const char *format, ...) {
        _cleanup_free_ char *text = NULL;
        va_list ap;

        if (c->json || c->quiet)
                return;
        va_start(ap, format);
        text = format_text(format, ap);
        va_end(ap);
        if (text) {
                (void) text_write_safe(stdout, text);
                fputc('\n', stdout);
        }
}

int ctl_print_json(const Ctl *c, json_object *o) {
        int flags = JSON_C_TO_STRING_NOSLASHESCAPE;
        const char *s;

        flags |= isatty(STDOUT_FILENO) ? JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_SPACED : JSON_C_TO_STRING_PLAIN;
        s = json_object_to_json_string_ext(o, flags);
        if (!s)
                return ctl_oom(c);
        json_write_safe(stdout, s);
        fputc('\n', stdout);
        return EXIT_SUCCESS;
}

int ctl_print_table(const Ctl *c, const Table *t) {
        _cleanup_json_ json_object *rows = NULL;
        int r;

        if (c->json) {
                r = table_to_json(t, &rows);
                return r < 0 ? ctl_oom(c) : ctl_print_json(c, rows);
        }
        /* In front of a pager stdout is no terminal any more, but there is still a person behind it. */
        if (c->pager > 0 || isatty(STDOUT_FILENO))
                r = table_print(t, stdout, TABLE_ALIGNED, !c->no_legend, terminal_width(stdout));
        else
                r = table_print(t, stdout, TABLE_TABS, false, 0);
        return r == -ENOMEM ? ctl_oom(c) : EXIT_SUCCESS;
}

int ctl_print_done(const Ctl *c, const char *agent, const char *text) {
        _cleanup_json_ json_object *o = NULL;

        if (!c->json) {
                if (text)
                        ctl_say(c, "%s", text);
                return EXIT_SUCCESS;
        }
        o = json_object_new_object();
        if (!o || json_put_string(o, "agent", agent) < 0)
                return ctl_oom(c);
        return ctl_print_json(c, o);
}

/* $PAGER may have arguments. In the child, where nobody needs the text afterwards. */
static void exec_pager(const char *pager) {
        _cleanup_(strv_freep) char **argv = NULL;
        char *copy = strdup(pager), *state;

        for (char *word = copy ? strtok_r(copy, " \t", &state) : NULL; word; word = strtok_r(NULL, " \t", &state))
                if (strv_extend(&argv, word) < 0)
                        return;
        if (argv)
                (void) execvp(argv[0], argv);
        free(copy);
}

void ctl_open_pager(Ctl *c) {
        const char *pager = getenv("PUFFO_PAGER") ?: getenv("PAGER") ?: "less";
        int fds[2];

        if (c->no_pager || c->json || c->pager > 0 || !isatty(STDOUT_FILENO) || isempty(pager) || streq(pager, "cat"))
                return;
        if (pipe2(fds, O_CLOEXEC) < 0)
                return;
        fflush(stdout);
        colours_keep_for_pager();
        c->pager = fork();
        if (c->pager == 0) {
                (void) dup2(fds[0], STDIN_FILENO);
                (void) setenv("LESS", "FRSXMK", /* overwrite= */ 0);
                /* Nothing that is shown may make the pager run something. */
                (void) setenv("LESSSECURE", "1", 1);
                (void) signal(SIGPIPE, SIG_DFL);
                exec_pager(pager);
                execlp("cat", "cat", (char*) NULL);
                _exit(EXIT_FAILURE);
        }
        if (c->pager > 0)
                (void) dup2(fds[1], STDOUT_FILENO);
        (void) close(fds[0]);
        (void) close(fds[1]);
}
