#include "line.h"

#include "clock.h"
#include "log.h"

#include <stdlib.h>
#include <string.h>

#define SLICE_S 0.002     /* bytes arrive in slices of that; finer than any timer here is exact */
#define MOST_LATE_S 0.25  /* what is made up for after waking up late; more was a stopped process */

void line_init(line_t *line, const line_profile_t *profile, uint64_t seed)
{
    double slice = profile->rate * SLICE_S;
    memset(line, 0, sizeof *line);
    line->profile = *profile;
    line->chance.state = seed;
    line->slice = slice < 1.0 ? 1 : slice > LINE_MOST_ROOM ? LINE_MOST_ROOM : (size_t)slice;
    if (profile->rate <= 0.0 || profile->in_packets)
        line->slice = LINE_MOST_ROOM;
}

void line_close(line_t *line)
{
    segment_t *segment;
    while ((segment = line_arrived(line, NEVER)) != NULL)
        free(segment);
}

size_t line_room(const line_t *line, double now)
{
    double late_s = now - line->free_at;
    size_t room = line->slice;
    if (line->profile.rate <= 0.0)
        return LINE_MOST_ROOM;
    if (late_s < 0.0)
        return 0;
    if (line->backlog) {
        double late = (late_s < MOST_LATE_S ? late_s : MOST_LATE_S) * line->profile.rate;
        room = late < LINE_MOST_ROOM ? room + (size_t)late : LINE_MOST_ROOM;
    }
    return room < LINE_MOST_ROOM ? room : LINE_MOST_ROOM;
}

static size_t spoil(line_t *line, uint8_t *data, size_t size)
{
    size_t left = 0;
    if (line->profile.flip_rate <= 0.0 && line->profile.drop_rate <= 0.0)
        return size;
    for (size_t i = 0; i < size; i++) {
        uint8_t byte = data[i];
        if (chance_hits(&line->chance, line->profile.flip_rate))
            byte ^= (uint8_t)(1u << (chance_next(&line->chance) & 7u));
        if (!chance_hits(&line->chance, line->profile.drop_rate))
            data[left++] = byte;
    }
    return left;
}

static void send(line_t *line, const uint8_t *data, size_t size, double start, uint32_t baud)
{
    segment_t *segment;
    if (size == 0)
        return;
    segment = malloc(sizeof *segment + size);
    if (segment == NULL)
        fail(EXIT_FAILED, "out of memory for bytes on the line");
    line->free_at = start + (line->profile.rate > 0.0 ? (double)size / line->profile.rate : 0.0);
    memcpy(segment->data, data, size);
    segment->next = NULL;
    segment->arrival = line->free_at + line->profile.latency_s;
    segment->baud = baud;
    segment->size = spoil(line, segment->data, size);
    if (line->last != NULL)
        line->last->next = segment;
    else
        line->first = segment;
    line->last = segment;
}

static double later(double a, double b)
{
    return a > b ? a : b;
}

void line_pulled(line_t *line, size_t asked, const uint8_t *data, size_t size, double now, uint32_t baud)
{
    double start = later(line->free_at, line->backlog ? now - MOST_LATE_S : now);
    line->backlog = line->profile.rate > 0.0 && size == asked;
    send(line, data, size, start, baud);
}

void line_put(line_t *line, const uint8_t *data, size_t size, double now, uint32_t baud)
{
    while (size > 0) {
        size_t n = size < line->slice ? size : line->slice;
        send(line, data, n, later(line->free_at, now), baud);
        data += n;
        size -= n;
    }
}

segment_t *line_arrived(line_t *line, double now)
{
    segment_t *segment = line->first;
    if (segment == NULL || segment->arrival > now)
        return NULL;
    line->first = segment->next;
    if (line->first == NULL)
        line->last = NULL;
    return segment;
}

double line_next_arrival(const line_t *line)
{
    return line->first != NULL ? line->first->arrival : NEVER;
}
