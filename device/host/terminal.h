/* A pseudo-terminal that looks like a serial port to whoever opens its path. */
#ifndef HOST_TERMINAL_H
#define HOST_TERMINAL_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct {
    int master, slave;
    char link[PATH_MAX]; /* the symbolic link to `name` */
    char name[64];
} terminal_t;

/* Makes the pty and the link; ends the process when it cannot. */
void terminal_open(terminal_t *t, const char *path, uint32_t baud);

/* Removes the link, if it is still ours, and the pty. */
void terminal_close(terminal_t *t);

/* Takes up to `size` bytes of what the gateway wrote. */
size_t terminal_read(const terminal_t *t, uint8_t *to, size_t size);

/* What does not fit is lost, as on a real port that nobody reads. */
void terminal_write(const terminal_t *t, const uint8_t *data, size_t size);

/* The speed the gateway has set. */
uint32_t terminal_baud(const terminal_t *t);

/*
 * Takes TIOCEXCL off when the gateway that set it is dead: a real port loses it with the last close, this one we keep open. A living
 * gateway holds the flock. Returns whether it did.
 */
bool terminal_free_after_crash(const terminal_t *t);

#endif
