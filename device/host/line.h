/*
 * One direction of a serial line: bytes leave one after the other at its rate, arrive later, not all whole.
 *
 * Time comes in. A sender that knows when it sends uses line_put(). One whose bytes wait in a queue that cannot be asked (a pty)
 * asks for room first and says with line_pulled() what the queue gave. For as long as it gives all that was asked for, the line has
 * been busy without a pause, and time lost by waking up late is made up for.
 */
#ifndef HOST_LINE_H
#define HOST_LINE_H

#include "chance.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LINE_MOST_ROOM 65536u

typedef struct {
    double rate; /* bytes per second; 0: as fast as it goes */
    double latency_s;
    double flip_rate, drop_rate; /* per byte */
    bool in_packets;             /* what is put at once arrives at once */
} line_profile_t;

/* Bytes on their way, with the speed they were sent at. */
typedef struct segment {
    struct segment *next;
    double arrival;
    uint32_t baud;
    size_t size;
    uint8_t data[];
} segment_t;

typedef struct {
    line_profile_t profile;
    chance_t chance;
    size_t slice;
    double free_at; /* the last bit has left then */
    bool backlog;
    segment_t *first, *last;
} line_t;

void line_init(line_t *line, const line_profile_t *profile, uint64_t seed);
void line_close(line_t *line);

/* How many bytes it takes now. */
size_t line_room(const line_t *line, double now);

/* Sends what a queue gave when it was asked for `asked` bytes. */
void line_pulled(line_t *line, size_t asked, const uint8_t *data, size_t size, double now, uint32_t baud);

/* Sends now, behind what is still being sent. */
void line_put(line_t *line, const uint8_t *data, size_t size, double now, uint32_t baud);

/* Takes out the next that has arrived, to be freed; or NULL. */
segment_t *line_arrived(line_t *line, double now);

double line_next_arrival(const line_t *line);

#endif
