/* A radio as a Unix socket (SOCK_SEQPACKET): one gateway at a time connects; a packet is one write, or one notification. */
#ifndef HOST_RADIO_H
#define HOST_RADIO_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { RADIO_MOST = 512 };

typedef struct {
    int listener, peer; /* -1: nobody is connected */
    char path[PATH_MAX];
} radio_t;

/* Listens at the path; ends the process when it cannot. */
void radio_open(radio_t *r, const char *path);

/* Removes the socket. */
void radio_close(radio_t *r);

/* Takes up a connection that waits. Returns whether there was one. */
bool radio_accept(radio_t *r);

/* Ends the connection, if there is one. */
void radio_hang_up(radio_t *r);

/* Takes the next packet; 0: there is none, and perhaps no connection any more. Longer ones than `most` are dropped, as by a radio. */
size_t radio_read(radio_t *r, uint8_t *to, size_t most);

/* What nobody is there for is lost. */
void radio_write(radio_t *r, const uint8_t *data, size_t size);

#endif
