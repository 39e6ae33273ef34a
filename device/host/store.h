/* The directory a virtual device lives in. Replacing a file is atomic for whoever kills the process, not for a crash of the machine. */
#ifndef HOST_STORE_H
#define HOST_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct {
    const char *path;
    int fd;
} store_t;

/* Makes the directory if there is none. Everything here ends the process when it cannot be done. */
void store_open(store_t *s, const char *path);

/* Content to be freed, with a zero behind it; NULL when there is no such file. */
uint8_t *store_read(const store_t *s, const char *name, size_t *size);

void store_write(const store_t *s, const char *name, const void *content, size_t size);
void store_move(const store_t *s, const char *from, const char *to);
void store_remove(const store_t *s, const char *name);
bool store_has(const store_t *s, const char *name);

#endif
