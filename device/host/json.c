#include "json.h"

#include <stdint.h>
#include <string.h>

enum { LONGEST = 256 };

typedef struct {
    const char *at;
    json_visit_t visit;
    void *context;
    char path[2 * LONGEST];
    size_t prefix; /* of the path: "object." */
} reader_t;

static void skip_space(reader_t *r)
{
    r->at += strspn(r->at, " \t\r\n");
}

static bool take(reader_t *r, char c)
{
    skip_space(r);
    if (*r->at != c)
        return false;
    r->at++;
    return true;
}

static bool read_hex4(reader_t *r, uint32_t *value)
{
    *value = 0;
    for (int i = 0; i < 4; i++, r->at++) {
        static const char DIGITS[] = "0123456789abcdef0123456789ABCDEF";
        const char *digit = *r->at ? strchr(DIGITS, *r->at) : NULL;
        if (digit == NULL)
            return false;
        *value = *value << 4 | ((uint32_t)(digit - DIGITS) & 15u);
    }
    return true;
}

/* A code point behind \u; two of them make one above FFFF. */
static bool read_code_point(reader_t *r, uint32_t *point)
{
    uint32_t low;
    if (!read_hex4(r, point))
        return false;
    if (*point < 0xD800 || *point > 0xDFFF)
        return *point != 0;
    if (*point > 0xDBFF || r->at[0] != '\\' || r->at[1] != 'u')
        return false;
    r->at += 2;
    if (!read_hex4(r, &low) || low < 0xDC00 || low > 0xDFFF)
        return false;
    *point = 0x10000u + ((*point - 0xD800u) << 10) + (low - 0xDC00u);
    return true;
}

static size_t put_utf8(char *to, uint32_t point)
{
    size_t more = point < 0x80 ? 0 : point < 0x800 ? 1 : point < 0x10000 ? 2 : 3;
    static const uint8_t FIRST[] = {0, 0xC0, 0xE0, 0xF0};
    for (size_t i = more; i > 0; i--, point >>= 6)
        to[i] = (char)(0x80u | (point & 0x3Fu));
    to[0] = (char)(FIRST[more] | point);
    return more + 1;
}

static bool read_escape(reader_t *r, char *to, size_t *size)
{
    static const char NAMES[] = "\"\\/bfnrt", MEANT[] = "\"\\/\b\f\n\r\t";
    char name = *r->at++;
    const char *known = name ? strchr(NAMES, name) : NULL;
    uint32_t point;
    if (known != NULL) {
        to[(*size)++] = MEANT[known - NAMES];
        return true;
    }
    if (name != 'u' || !read_code_point(r, &point))
        return false;
    *size += put_utf8(to + *size, point);
    return true;
}

/* A string up to its closing quote, into `to` of LONGEST bytes. */
static bool read_text(reader_t *r, char *to)
{
    size_t size = 0;
    if (!take(r, '"'))
        return false;
    while (*r->at != '"') {
        if ((uint8_t)*r->at < 0x20 || size > LONGEST - 5) /* the end of the text, too; five: the longest character and a zero */
            return false;
        if (*r->at != '\\')
            to[size++] = *r->at++;
        else if (r->at++, !read_escape(r, to, &size))
            return false;
    }
    r->at++;
    to[size] = '\0';
    return true;
}

static bool read_word(reader_t *r, const char *word)
{
    size_t size = strlen(word);
    if (strncmp(r->at, word, size) != 0)
        return false;
    r->at += size;
    return true;
}

static bool read_plain(reader_t *r, enum json_kind *kind, char *text)
{
    size_t digits = strspn(r->at, "-+.0123456789eE");
    *kind = JSON_TEXT;
    *text = '\0';
    if (*r->at == '"')
        return read_text(r, text);
    *kind = *r->at == 'n' ? JSON_NULL : *r->at == 't' ? JSON_TRUE : *r->at == 'f' ? JSON_FALSE : JSON_NUMBER;
    if (*kind != JSON_NUMBER)
        return read_word(r, *kind == JSON_NULL ? "null" : *kind == JSON_TRUE ? "true" : "false");
    if (digits == 0 || digits >= LONGEST)
        return false;
    memcpy(text, r->at, digits);
    text[digits] = '\0';
    r->at += digits;
    return true;
}

static const char *read_value(reader_t *r)
{
    enum json_kind kind;
    char text[LONGEST];
    skip_space(r);
    if (!read_plain(r, &kind, text))
        return "no JSON of plain values";
    return r->visit(r->context, r->path, kind, text) ? NULL : r->path;
}

/* "key": and then the value comes. */
static bool read_key(reader_t *r)
{
    return read_text(r, r->path + r->prefix) && take(r, ':');
}

static const char *read_members(reader_t *r, bool may_nest)
{
    size_t outer = r->prefix;
    const char *wrong = NULL;
    if (take(r, '}'))
        return NULL;
    do {
        if (!read_key(r))
            return "no JSON: a key is expected";
        if (may_nest && take(r, '{')) {
            r->prefix = strlen(r->path) + 1;
            memcpy(r->path + r->prefix - 1, ".", 2);
            wrong = read_members(r, false);
            r->prefix = outer;
        } else {
            wrong = read_value(r);
        }
    } while (wrong == NULL && take(r, ','));
    return wrong != NULL || take(r, '}') ? wrong : "no JSON: a closing brace is expected";
}

const char *json_read(const char *text, json_visit_t visit, void *context)
{
    static reader_t reader; /* static, for its path is returned when a value does not fit */
    const char *wrong;
    memset(&reader, 0, sizeof reader);
    reader.at = text;
    reader.visit = visit;
    reader.context = context;
    if (!take(&reader, '{'))
        return "no JSON object";
    wrong = read_members(&reader, true);
    skip_space(&reader);
    return wrong == NULL && *reader.at != '\0' ? "something behind the JSON object" : wrong;
}

void json_write_text(FILE *to, const char *text)
{
    if (text == NULL) {
        fputs("null", to);
        return;
    }
    putc('"', to);
    for (; *text; text++) {
        if (*text == '"' || *text == '\\')
            putc('\\', to);
        putc(*text, to);
    }
    putc('"', to);
}
