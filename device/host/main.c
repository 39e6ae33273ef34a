/*
 * rcp-device: a virtual device on a pty or a socket, and what joins its parts when something is due.
 *
 * The gateway's pty buffer is the UART's queue: bytes are read from it only as fast as the line carries them. So are packets of a socket.
 * A device that loses its power or restarts loses its connection, as over any radio.
 */
#define _GNU_SOURCE 1
#include "clock.h"
#include "device.h"
#include "log.h"
#include "options.h"
#include "radio.h"
#include "terminal.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define CRASH_CHECK_S 1.0
#define SAME_SPEED 0.03  /* speeds that differ by less understand each other */
#define MOST_WAIT_S 60.0 /* for a poll; turning for nothing does no harm */
enum { OPERATIONS_AT_CUT = 192 }; /* a frame of 1 KiB makes 128 with a record or two: some cuts tear one, some do not */

static options_t options;
static store_t store;
static bootloader_t bootloader;
static flash_t flash;
static device_t device;
static terminal_t terminal;
static radio_t radio;
static line_t to_device, to_gateway;
static chance_t noise, power;
static uint32_t until_cut;
static double crash_check_at;
static volatile sig_atomic_t stop;

static bool by_radio(void)
{
    return options.profile.packet > 0;
}

static void on_signal(int number)
{
    (void)number;
    stop = 1;
}

/* Makes noise of it when the two ends' speeds differ. */
static void as_heard(segment_t *segment, uint32_t heard_at)
{
    double difference = (double)segment->baud - (double)heard_at;
    if (difference > heard_at * SAME_SPEED || difference < heard_at * -SAME_SPEED)
        chance_fill(&noise, segment->data, segment->size);
}

static void pull_packets(void)
{
    uint8_t packet[RADIO_MOST];
    size_t size;
    if (!device.has_power)
        radio_hang_up(&radio);
    else if (radio_accept(&radio))
        device_connect(&device);
    while (line_room(&to_device, clock_now()) > 0 && (size = radio_read(&radio, packet, options.profile.packet)) > 0)
        line_pulled(&to_device, size, packet, size, clock_now(), 0);
}

static void pull(void)
{
    static uint8_t bytes[LINE_MOST_ROOM];
    double now = clock_now();
    size_t room = line_room(&to_device, now);
    if (room > 0) {
        size_t size = terminal_read(&terminal, bytes, room);
        line_pulled(&to_device, room, bytes, size, now, size > 0 ? terminal_baud(&terminal) : 0);
    }
}

/*
 * Flash writes trail behind the bytes: within the last frame before the cut a flash operation may be the one that the power fails in, if
 * chance and that frame have one; else it fails with the last byte. Counted in bytes, so that a seed repeats it.
 */
static void hear_before_cut(const uint8_t *data, size_t size)
{
    const uint32_t reach = options.profile.max_frame;
    while (size > 0 && until_cut > 0) {
        uint32_t n = until_cut > reach ? until_cut - reach : until_cut;
        n = size < n || by_radio() ? (uint32_t)size : n;
        if (until_cut <= reach && flash.operations_left == 0)
            flash.operations_left = 1 + (uint32_t)(chance_next(&power) % OPERATIONS_AT_CUT);
        device_hear(&device, data, n);
        until_cut = flash.off || n >= until_cut ? 0 : until_cut - n;
        if (until_cut == 0)
            device_cut_power(&device);
        data += n;
        size -= n;
    }
}

static void hear(void)
{
    segment_t *segment;
    while ((segment = line_arrived(&to_device, clock_now())) != NULL) {
        if (!by_radio())
            as_heard(segment, device.baud);
        if (until_cut > 0)
            hear_before_cut(segment->data, segment->size);
        else
            device_hear(&device, segment->data, segment->size);
        free(segment);
    }
}

static void tell(void)
{
    segment_t *segment;
    while ((segment = line_arrived(&to_gateway, clock_now())) != NULL) {
        if (by_radio()) {
            radio_write(&radio, segment->data, segment->size);
        } else {
            as_heard(segment, terminal_baud(&terminal));
            terminal_write(&terminal, segment->data, segment->size);
        }
        free(segment);
    }
}

static void check_for_crash(void)
{
    double now = clock_now();
    if (by_radio() || now < crash_check_at)
        return;
    crash_check_at = now + CRASH_CHECK_S;
    if (terminal_free_after_crash(&terminal))
        log_line("a gateway died with the port open; others may open it again");
}

static double sooner(double a, double b)
{
    return a < b ? a : b;
}

/* Sleeps until something is due, the gateway writes, or a signal comes; those come only here. */
static void wait(const sigset_t *signals)
{
    struct pollfd fd = {terminal.master, POLLIN, 0};
    double due = sooner(sooner(line_next_arrival(&to_device), line_next_arrival(&to_gateway)), device_due(&device));
    double now = clock_now(), wait_s;
    struct timespec timeout;
    bool has_room = line_room(&to_device, now) > 0;
    if (by_radio())
        fd.fd = radio.peer >= 0 ? radio.peer : device.has_power ? radio.listener : -1;
    else
        due = sooner(due, crash_check_at);
    if (!has_room)
        due = sooner(due, to_device.free_at);
    wait_s = sooner(due - now, MOST_WAIT_S);
    wait_s = wait_s > 0.0 ? wait_s : 0.0;
    timeout.tv_sec = (time_t)wait_s;
    timeout.tv_nsec = (long)((wait_s - (double)timeout.tv_sec) * 1e9);
    if (ppoll(&fd, has_room ? 1 : 0, &timeout, signals) < 0 && errno != EINTR)
        fail(EXIT_FAILED, "cannot wait: %s", strerror(errno));
}

/* SIGTERM and SIGINT come while waiting and at no other time. Returns the mask to wait with. */
static sigset_t arrange_signals(void)
{
    struct sigaction action;
    sigset_t ours, before;
    memset(&action, 0, sizeof action);
    action.sa_handler = on_signal;
    sigemptyset(&action.sa_mask);
    sigemptyset(&ours);
    sigaddset(&ours, SIGTERM);
    sigaddset(&ours, SIGINT);
    sigprocmask(SIG_BLOCK, &ours, &before);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    action.sa_handler = SIG_IGN;
    sigaction(SIGPIPE, &action, NULL); /* nobody has to read the log */
    sigdelset(&before, SIGTERM);
    sigdelset(&before, SIGINT);
    return before;
}

static void mention(const char *name, const char *kept, const char *asked)
{
    if (strcmp(kept, asked) != 0)
        log_line("device.json says %s '%s'; not used: '%s'", name, kept, asked);
}

static void mention_number(const char *name, uint32_t kept, uint32_t asked)
{
    if (kept != asked)
        log_line("device.json says %s %u; not used: %u", name, kept, asked);
}

static void mention_differences(const identity_t *kept, const identity_t *asked)
{
    mention("app_id", kept->app_id, asked->app_id);
    mention("hardware_id", kept->hardware_id, asked->hardware_id);
    mention("device_id", kept->device_id, asked->device_id);
    mention_number("slot_address", kept->slot_address, asked->slot_address);
    mention_number("slot_size", kept->slot_size, asked->slot_size);
    mention_number("erase_block", kept->erase_block, asked->erase_block);
    mention_number("write_unit", kept->write_unit, asked->write_unit);
    mention_number("base_baud", kept->base_baud, asked->base_baud);
}

static void start(void)
{
    identity_t asked = options.profile.identity;
    store_open(&store, options.state);
    bootloader_open(&bootloader, &store, &options.profile);
    options.profile.identity = bootloader.record.identity;
    flash_open(&flash, &store, &options.profile.identity, options.seed);
    record_save(&bootloader.record, &store); /* the directory is ours now */
    mention_differences(&options.profile.identity, &asked);
    line_init(&to_device, &options.line, options.seed + 1);
    line_init(&to_gateway, &options.line, options.seed + 2);
    noise.state = options.seed + 3;
    power.state = options.seed + 4;
    until_cut = options.power_cut_after;
    device_open(&device, &options.profile, &bootloader, &flash, &to_gateway);
    if (by_radio())
        radio_open(&radio, options.port);
    else
        terminal_open(&terminal, options.port, options.profile.identity.base_baud);
}

static void close_terminal(void)
{
    if (terminal.link[0])
        terminal_close(&terminal);
    if (radio.path[0])
        radio_close(&radio);
}

int main(int count, char **arguments)
{
    sigset_t signals;
    options_read(&options, count, arguments);
    signals = arrange_signals();
    atexit(close_terminal);
    start();
    log_line("listens at %s", options.port);
    while (!stop) {
        if (by_radio())
            pull_packets();
        else
            pull();
        hear();
        device_run(&device);
        tell();
        check_for_crash();
        wait(&signals);
    }
    log_line("stops");
    device_close(&device);
    line_close(&to_device);
    line_close(&to_gateway);
    return EXIT_OK;
}
