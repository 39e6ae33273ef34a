/* The command line of rcp-device: the same names as `gatewayctl simulate uart`, and --datagram. */
#ifndef HOST_OPTIONS_H
#define HOST_OPTIONS_H

#include "line.h"
#include "profile.h"

typedef struct {
    const char *port, *state;
    profile_t profile;
    line_profile_t line;
    uint32_t power_cut_after; /* received bytes until the power fails, once; 0: it does not */
    uint64_t seed;
} options_t;

/* Reads the arguments; ends the process after --help (0) and on mistakes (2). Sets log_quiet. */
void options_read(options_t *options, int count, char **arguments);

#endif
