#include "chance.h"

uint64_t chance_next(chance_t *c)
{
    uint64_t z = c->state += 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
}

bool chance_hits(chance_t *c, double probability)
{
    return (double)(chance_next(c) >> 11) * 0x1p-53 < probability;
}

void chance_fill(chance_t *c, uint8_t *to, size_t size)
{
    while (size-- > 0)
        *to++ = (uint8_t)chance_next(c);
}
