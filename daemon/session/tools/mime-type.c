/* SPDX-License-Identifier: MIT */

#include <strings.h>

#include "macro.h"
#include "mime-type.h"

typedef struct MimeType {
        const char *extension, *type;
} MimeType;

/* Sorted by extension: it is searched by halves. */
static const MimeType types[] = {
        { "7z", "application/x-7z-compressed" },
        { "aac", "audio/aac" },
        { "avi", "video/x-msvideo" },
        { "avif", "image/avif" },
        { "bash", "application/x-sh" },
        { "bmp", "image/bmp" },
        { "bz2", "application/x-bzip2" },
        { "c", "text/x-c" },
        { "css", "text/css" },
        { "csv", "text/csv" },
        { "diff", "text/x-diff" },
        { "doc", "application/msword" },
        { "docx", "application/vnd.openxmlformats-officedocument.wordprocessingml.document" },
        { "eml", "message/rfc822" },
        { "epub", "application/epub+zip" },
        { "flac", "audio/flac" },
        { "gif", "image/gif" },
        { "gz", "application/gzip" },
        { "h", "text/x-c" },
        { "heic", "image/heic" },
        { "htm", "text/html" },
        { "html", "text/html" },
        { "ico", "image/vnd.microsoft.icon" },
        { "ics", "text/calendar" },
        { "jar", "application/java-archive" },
        { "java", "text/x-java" },
        { "jpeg", "image/jpeg" },
        { "jpg", "image/jpeg" },
        { "js", "text/javascript" },
        { "json", "application/json" },
        { "jsonl", "application/jsonl" },
        { "log", "text/plain" },
        { "m4a", "audio/mp4" },
        { "markdown", "text/markdown" },
        { "md", "text/markdown" },
        { "mjs", "text/javascript" },
        { "mkv", "video/x-matroska" },
        { "mov", "video/quicktime" },
        { "mp3", "audio/mpeg" },
        { "mp4", "video/mp4" },
        { "mpeg", "video/mpeg" },
        { "odp", "application/vnd.oasis.opendocument.presentation" },
        { "ods", "application/vnd.oasis.opendocument.spreadsheet" },
        { "odt", "application/vnd.oasis.opendocument.text" },
        { "oga", "audio/ogg" },
        { "ogg", "audio/ogg" },
        { "ogv", "video/ogg" },
        { "opus", "audio/opus" },
        { "otf", "font/otf" },
        { "patch", "text/x-diff" },
        { "pdf", "application/pdf" },
        { "png", "image/png" },
        { "ppt", "application/vnd.ms-powerpoint" },
        { "pptx", "application/vnd.openxmlformats-officedocument.presentationml.presentation" },
        { "ps", "application/postscript" },
        { "py", "text/x-python" },
        { "rtf", "application/rtf" },
        { "sh", "application/x-sh" },
        { "sqlite", "application/vnd.sqlite3" },
        { "svg", "image/svg+xml" },
        { "tar", "application/x-tar" },
        { "tex", "application/x-tex" },
        { "tgz", "application/gzip" },
        { "tif", "image/tiff" },
        { "tiff", "image/tiff" },
        { "toml", "application/toml" },
        { "tsv", "text/tab-separated-values" },
        { "ttf", "font/ttf" },
        { "txt", "text/plain" },
        { "wasm", "application/wasm" },
        { "wav", "audio/x-wav" },
        { "weba", "audio/webm" },
        { "webm", "video/webm" },
        { "webp", "image/webp" },
        { "woff", "font/woff" },
        { "woff2", "font/woff2" },
        { "xhtml", "application/xhtml+xml" },
        { "xls", "application/vnd.ms-excel" },
        { "xlsx", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet" },
        { "xml", "text/xml" },
        { "xz", "application/x-xz" },
        { "yaml", "application/yaml" },
        { "yml", "application/yaml" },
        { "zip", "application/zip" },
        { "zst", "application/zstd" },
};

static int compare(const void *key, const void *element) {
        return strcasecmp(key, ((const MimeType*) element)->extension);
}

const char* mime_type_of(const char *filename) {
        const char *dot = strrchr(filename, '.');
        const MimeType *t = NULL;

        /* ".bashrc" has no extension. */
        if (dot && dot > filename)
                t = bsearch(dot + 1, types, ELEMENTSOF(types), sizeof(*types), compare);
        return t ? t->type : "application/octet-stream";
}
