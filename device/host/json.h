/*
 * As much JSON as device.json needs: an object of plain values and of objects of plain values. No lists, no heap, and every length
 * and depth is bounded.
 */
#ifndef HOST_JSON_H
#define HOST_JSON_H

#include <stdbool.h>
#include <stdio.h>

enum json_kind { JSON_NULL, JSON_FALSE, JSON_TRUE, JSON_NUMBER, JSON_TEXT };

/* `path` is "key", or "object.key". `text` is a string's, unescaped, or a number as written. False stops: it does not fit. */
typedef bool (*json_visit_t)(void *context, const char *path, enum json_kind kind, const char *text);

/* Reads terminated text. NULL when all is well, else what is wrong (static). */
const char *json_read(const char *text, json_visit_t visit, void *context);

/* Writes a string in quotes, or null for NULL. */
void json_write_text(FILE *to, const char *text);

#endif
