#include "log.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

bool log_quiet;

/* Formatted first, so that a line is one write and lines of two processes do not mix. */
static void say(const char *start, const char *format, va_list values)
{
    char line[1024];
    vsnprintf(line, sizeof line, format, values);
    fprintf(stderr, "%s%s\n", start, line);
}

void log_line(const char *format, ...)
{
    va_list values;
    if (log_quiet)
        return;
    va_start(values, format);
    say("", format, values);
    va_end(values);
}

void fail(int exit_code, const char *format, ...)
{
    va_list values;
    va_start(values, format);
    say("rcp-device: ", format, values);
    va_end(values);
    exit(exit_code);
}
