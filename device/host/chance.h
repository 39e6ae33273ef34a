/* Repeatable chance (splitmix64), for faults; not for keys. */
#ifndef HOST_CHANCE_H
#define HOST_CHANCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct {
    uint64_t state;
} chance_t;

uint64_t chance_next(chance_t *c);

/* True with this probability. */
bool chance_hits(chance_t *c, double probability);

void chance_fill(chance_t *c, uint8_t *to, size_t size);

#endif
