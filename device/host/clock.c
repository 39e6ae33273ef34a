#define _GNU_SOURCE 1
#include "clock.h"

#include <time.h>

static double seconds(clockid_t id)
{
    struct timespec t;
    clock_gettime(id, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

double clock_now(void)
{
    static double offset;
    if (offset == 0.0)
        offset = seconds(CLOCK_REALTIME) - seconds(CLOCK_MONOTONIC);
    return offset + seconds(CLOCK_MONOTONIC);
}
