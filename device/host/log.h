/* What the virtual device says: one line on stderr for each happening, unless --quiet; mistakes always. */
#ifndef HOST_LOG_H
#define HOST_LOG_H

#include <stdbool.h>

enum { EXIT_OK = 0, EXIT_FAILED = 1, EXIT_USAGE = 2 };

extern bool log_quiet;

void log_line(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Says why and ends the process. */
void fail(int exit_code, const char *format, ...) __attribute__((format(printf, 2, 3), noreturn));

#endif
