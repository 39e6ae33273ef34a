#define _GNU_SOURCE 1
#include "options.h"

#include "../rcp.h"
#include "log.h"
#include "radio.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

enum kind { TEXT, INTEGER, AMOUNT, FLAG };

typedef struct {
    const char *name;
    enum kind kind;
    void *to; /* const char *, int64_t, double, bool */
    double low, high;
    const char *help;
} option_t;

static struct {
    const char *port, *state, *app_id, *version, *hardware_id, *device_id;
    double rate, latency_ms, flip_rate, drop_rate;
    int64_t slot_address, baud, power_cut_after, seed, slot_size, erase_block, write_unit, max_frame, window, rx_ring, boot_ms, erase_ms,
        trial_s, mtu;
    bool no_trial, break_after_activate;
} given = {
    .slot_address = -1, .baud = 115200, .seed = -1, .slot_size = 16 << 20, .erase_block = 4096, .write_unit = 8, .max_frame = 1034,
    .window = 4096, .rx_ring = 8192, .boot_ms = 200, .trial_s = 65535,
};

#define U32 4294967295.0

static const option_t OPTIONS[] = {
    {"--port", TEXT, &given.port, 0, 0, "PATH  becomes a link to the pty; required"},
    {"--state", TEXT, &given.state, 0, 0, "DIR  the directory the device lives in; what it holds wins over the options; required"},
    {"--app-id", TEXT, &given.app_id, 0, 0, "TEXT  what the device is an application of; required"},
    {"--version", TEXT, &given.version, 0, 0, "M.m.p  the version it runs at its first start; required"},
    {"--hardware-id", TEXT, &given.hardware_id, 0, 0, "TEXT  board it is built on [not reported]"},
    {"--device-id", TEXT, &given.device_id, 0, 0, "TEXT  its serial number [not reported]"},
    {"--slot-address", INTEGER, &given.slot_address, 0, U32, "N  of the free slot [not reported]"},
    {"--baud", INTEGER, &given.baud, 1, U32, "N  base speed [115200]"},
    {"--rate", AMOUNT, &given.rate, 0, U32, "N  bytes per second; 0 = as fast as it goes [0]"},
    {"--latency-ms", AMOUNT, &given.latency_ms, 0, U32, "N  each direction [0]"},
    {"--flip-rate", AMOUNT, &given.flip_rate, 0, 1, "P  bit flips per byte, each direction [0]"},
    {"--drop-rate", AMOUNT, &given.drop_rate, 0, 1, "P  bytes lost per byte, each direction [0]"},
    {"--power-cut-after", INTEGER, &given.power_cut_after, 1, U32, "N  bytes received until the power fails, once [never]"},
    {"--seed", INTEGER, &given.seed, 0, U32, "N  makes faults repeatable [random]"},
    {"--slot-size", INTEGER, &given.slot_size, 1, U32, "N  of the free slot [16 MiB]"},
    {"--erase-block", INTEGER, &given.erase_block, 1, U32, "N  of the flash, a power of two [4096]"},
    {"--write-unit", INTEGER, &given.write_unit, 1, 65535, "N  of the flash, a power of two [8]"},
    {"--max-frame", INTEGER, &given.max_frame, RCP_MIN_FRAME, 65535, "N  longest frame it takes [1034]"},
    {"--window", INTEGER, &given.window, 1, U32, "N  payload it takes unacknowledged [4096]"},
    {"--rx-ring", INTEGER, &given.rx_ring, 1, 1 << 30, "N  wire bytes it can hold [8192]"},
    {"--boot-ms", INTEGER, &given.boot_ms, 0, 65000000, "N  silence after a restart [200]"},
    {"--erase-ms", INTEGER, &given.erase_ms, 0, U32, "N  time to erase a block [0]"},
    {"--trial-s", INTEGER, &given.trial_s, 0, 65535, "N  longest trial of a new image [65535]"},
    {"--datagram", INTEGER, &given.mtu, 23, 517,
     "MTU  a radio instead of a line: PATH becomes a Unix socket (SOCK_SEQPACKET), and a packet of at most\n"
     "                          MTU - 3 bytes one write or one notification [a line]"},
    {"--no-trial", FLAG, &given.no_trial, 0, 0, "its bootloader cannot go back to the old image"},
    {"--break-after-activate", FLAG, &given.break_after_activate, 0, 0, "an image on trial never answers"},
    {"--quiet", FLAG, &log_quiet, 0, 0, "log nothing"},
};
enum { OPTION_COUNT = sizeof OPTIONS / sizeof *OPTIONS };

static void help(void)
{
    puts("Usage: rcp-device --port PATH --state DIR --app-id TEXT --version M.m.p [options]\n\n"
         "Runs a device on a pseudo-terminal or a socket until SIGTERM or Ctrl-C. Integers may be hexadecimal (0x8000).\n"
         "The directory holds active.bin, the image it runs, device.json, what it is, and flash.bin; killing\n"
         "the process is cutting the device's power.\n");
    for (int i = 0; i < OPTION_COUNT; i++)
        printf("  %-24s%s\n", OPTIONS[i].name, OPTIONS[i].help);
    printf("  %-24s%s\n", "--help", "this");
    exit(fflush(stdout) == 0 ? EXIT_OK : EXIT_FAILED);
}

static void set_number(const option_t *option, const char *text)
{
    char *end;
    errno = 0;
    if (option->kind == AMOUNT) {
        double number = strtod(text, &end);
        if (end == text || *end || errno || !(number >= option->low && number <= option->high))
            fail(EXIT_USAGE, "%s: '%s' is no number within %.0f to %.0f", option->name, text, option->low, option->high);
        memcpy(option->to, &number, sizeof number);
    } else {
        bool is_hex = text[0] == '0' && (text[1] == 'x' || text[1] == 'X');
        int64_t number = strtoll(text, &end, is_hex ? 16 : 10);
        if (end == text || *end || errno || (double)number < option->low || (double)number > option->high)
            fail(EXIT_USAGE, "%s: '%s' is no integer within %.0f to %.0f; 4096 and 0x1000 are integers", option->name, text, option->low,
                 option->high);
        memcpy(option->to, &number, sizeof number);
    }
}

static const option_t *find(const char *name, size_t size)
{
    for (int i = 0; i < OPTION_COUNT; i++)
        if (strlen(OPTIONS[i].name) == size && memcmp(OPTIONS[i].name, name, size) == 0)
            return &OPTIONS[i];
    fail(EXIT_USAGE, "unknown option '%.*s'; --help lists them", (int)size, name);
}

/* Reads --name value or --name=value; returns how many arguments that were. */
static int read_one(char **arguments)
{
    size_t size = strcspn(arguments[0], "=");
    const option_t *option = find(arguments[0], size);
    const char *value = arguments[0][size] ? arguments[0] + size + 1 : NULL;
    if (option->kind == FLAG) {
        if (value != NULL)
            fail(EXIT_USAGE, "%s takes no value", option->name);
        *(bool *)option->to = true;
        return 1;
    }
    if (value == NULL && arguments[1] == NULL)
        fail(EXIT_USAGE, "%s needs a value", option->name);
    if (option->kind == TEXT)
        *(const char **)option->to = value != NULL ? value : arguments[1];
    else
        set_number(option, value != NULL ? value : arguments[1]);
    return value != NULL ? 1 : 2;
}

static void copy_text(char *to, const char *name, const char *text, unsigned most)
{
    if (text == NULL)
        return;
    if (!text_is_valid(text, most))
        fail(EXIT_USAGE, "%s: '%s' is not 1 to %u printable bytes", name, text, most);
    strcpy(to, text);
}

static void fill_profile(profile_t *profile)
{
    identity_t *identity = &profile->identity;
    const char *wrong;
    copy_text(identity->app_id, "--app-id", given.app_id, ID_MOST);
    copy_text(identity->hardware_id, "--hardware-id", given.hardware_id, ID_MOST);
    copy_text(identity->device_id, "--device-id", given.device_id, DEVICE_ID_MOST);
    if (!version_is_valid(given.version))
        fail(EXIT_USAGE, "--version: '%s' is not a version like 4.3.1", given.version);
    strcpy(profile->version, given.version); /* valid ones fit */
    identity->has_slot_address = given.slot_address >= 0;
    identity->slot_address = identity->has_slot_address ? (uint32_t)given.slot_address : 0;
    identity->slot_size = (uint32_t)given.slot_size;
    identity->erase_block = (uint32_t)given.erase_block;
    identity->write_unit = (uint32_t)given.write_unit;
    identity->base_baud = (uint32_t)given.baud;
    wrong = identity_check(identity);
    if (wrong != NULL)
        fail(EXIT_USAGE, "these options do not fit together: %s", wrong);
    profile->max_frame = (uint16_t)given.max_frame;
    profile->window = (uint32_t)given.window;
    profile->rx_ring = (uint32_t)given.rx_ring;
    profile->boot_ms = (uint32_t)given.boot_ms;
    profile->erase_ms = (uint32_t)given.erase_ms;
    profile->trial_cap_s = (uint32_t)given.trial_s;
    profile->packet = given.mtu > 0 ? (uint32_t)given.mtu - 3 : 0;
    if (profile->packet > RADIO_MOST)
        profile->packet = RADIO_MOST;
    if (profile->packet > 0 && (given.flip_rate > 0 || given.drop_rate > 0))
        fail(EXIT_USAGE, "--flip-rate and --drop-rate do not go with --datagram: a radio repeats a packet until it is whole");
    profile->can_revert = !given.no_trial;
    profile->break_after_activate = given.break_after_activate;
}

static void require(const char *name, const char *text)
{
    if (text == NULL || !*text)
        fail(EXIT_USAGE, "%s is missing; --help tells more", name);
}

void options_read(options_t *options, int count, char **arguments)
{
    memset(options, 0, sizeof *options);
    for (int i = 1; i < count;) {
        if (strcmp(arguments[i], "--help") == 0)
            help();
        i += read_one(arguments + i);
    }
    require("--port", given.port);
    require("--state", given.state);
    require("--app-id", given.app_id);
    require("--version", given.version);
    options->port = given.port;
    options->state = given.state;
    fill_profile(&options->profile);
    options->line.rate = given.rate;
    options->line.latency_s = given.latency_ms / 1000.0;
    options->line.flip_rate = given.flip_rate;
    options->line.drop_rate = given.drop_rate;
    options->line.in_packets = given.mtu > 0;
    options->power_cut_after = (uint32_t)given.power_cut_after;
    options->seed = (uint64_t)given.seed;
    if (given.seed < 0 && getrandom(&options->seed, sizeof options->seed, 0) != sizeof options->seed)
        fail(EXIT_FAILED, "no random numbers: %s", strerror(errno));
}
