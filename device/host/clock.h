/* The wall's time, but it never jumps: trials are kept by it, lines paced. Seconds. */
#ifndef HOST_CLOCK_H
#define HOST_CLOCK_H

#define NEVER 1e300

double clock_now(void);

#endif
