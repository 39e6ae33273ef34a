#define _GNU_SOURCE 1
#include "device.h"

#include "clock.h"
#include "log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

enum {
    MOST_BAUD = 4000000,   /* what USB adapters top out at */
    POLLS_AT_ONCE = 64,    /* then the line is looked after */
    BYTES_AT_ONCE = 64,
    WRAP_AFTER_MS = 20000, /* the device's clock wraps soon, so that every longer run shows that it may */
};

/* ---- what the receiver asks of its port ---- */

static bool port_read(void *context, uint32_t address, uint8_t *to, uint32_t size)
{
    device_t *d = context;
    return flash_read(d->flash, address, to, size);
}

static bool port_write(void *context, uint32_t address, const uint8_t *from, uint32_t size)
{
    device_t *d = context;
    return flash_write(d->flash, address, from, size);
}

static bool port_erase(void *context, uint32_t address)
{
    device_t *d = context;
    double now = clock_now();
    d->stalled_until = (d->stalled_until > now ? d->stalled_until : now) + d->profile.erase_ms / 1000.0;
    return flash_erase(d->flash, address);
}

static void port_sha256_begin(void *context)
{
    device_t *d = context;
    log_line("all bytes are written; reads them back");
    rcp_sha256_begin(&d->hash);
}

static void port_sha256_add(void *context, const uint8_t *data, uint32_t size)
{
    device_t *d = context;
    rcp_sha256_add(&d->hash, data, size);
}

static void port_sha256_end(void *context, uint8_t digest[32])
{
    device_t *d = context;
    rcp_sha256_end(&d->hash, digest);
}

static uint32_t port_now_ms(void *context)
{
    static double start;
    (void)context;
    if (start == 0.0)
        start = clock_now();
    return (uint32_t)(uint64_t)((clock_now() - start) * 1000.0) - WRAP_AFTER_MS;
}

static void flush(device_t *d)
{
    line_put(d->to_gateway, d->outbox, d->outbox_size, clock_now(), d->baud);
    d->outbox_size = 0;
}

static void port_send(void *context, const uint8_t *data, uint32_t size)
{
    device_t *d = context;
    bool is_mute = d->profile.break_after_activate && bootloader_on_trial(d->bootloader);
    if (d->flash->off || is_mute)
        return;
    if (d->profile.packet > 0) {
        line_put(d->to_gateway, data, size, clock_now(), d->baud);
        return;
    }
    while (size > 0) {
        size_t n = size < DEVICE_OUTBOX - d->outbox_size ? size : DEVICE_OUTBOX - d->outbox_size;
        memcpy(d->outbox + d->outbox_size, data, n);
        d->outbox_size += n;
        data += n;
        size -= (uint32_t)n;
        if (d->outbox_size == DEVICE_OUTBOX)
            flush(d);
    }
}

static bool port_sent(void *context)
{
    device_t *d = context;
    flush(d);
    d->line_awaited = clock_now() < d->to_gateway->free_at;
    return !d->line_awaited;
}

static uint32_t port_baud_possible(void *context, uint32_t baud)
{
    (void)context;
    return baud <= MOST_BAUD ? baud : 0;
}

static void port_set_baud(void *context, uint32_t baud)
{
    device_t *d = context;
    flush(d);
    d->baud = baud;
    log_line("runs at %u baud", baud);
}

static uint32_t port_offer(void *context, const rcp_offer_t *offer)
{
    device_t *d = context;
    memcpy(d->offered_version, offer->version, offer->version_size); /* the receiver checked its size */
    d->offered_version[offer->version_size] = '\0';
    if (!version_is_valid(d->offered_version))
        return RCP_REFUSED;
    log_line("offer of %s, %u bytes", d->offered_version, offer->size);
    return 0;
}

static bool port_activate(void *context, const uint8_t sha256[32], uint32_t size, uint16_t trial_s)
{
    device_t *d = context;
    uint32_t capped_s = trial_s < d->profile.trial_cap_s ? trial_s : d->profile.trial_cap_s;
    (void)sha256;
    if (!flash_step(d->flash))
        return false;
    bootloader_set_flag(d->bootloader, d->flash->cells + d->port.slot, size, d->offered_version, capped_s);
    log_line("activates %s", d->offered_version);
    return true;
}

static bool port_confirm(void *context)
{
    device_t *d = context;
    if (!flash_step(d->flash))
        return false;
    bootloader_confirm(d->bootloader);
    log_line("%s is confirmed", d->bootloader->record.version);
    return true;
}

static void port_restart(void *context)
{
    device_t *d = context;
    d->restart_wanted = true;
}

/* ---- power ---- */

/* Another one than before. */
static uint32_t make_boot_id(uint32_t last)
{
    uint32_t id = last;
    while (id == last)
        if (getrandom(&id, sizeof id, 0) != sizeof id && errno != EINTR)
            fail(EXIT_FAILED, "no random numbers: %s", strerror(errno));
    return id;
}

static void boot(device_t *d)
{
    rcp_reason_t reason;
    bootloader_boot(d->bootloader, clock_now());
    d->start.boot_id = make_boot_id(d->start.boot_id);
    d->port.version = d->bootloader->record.version;
    d->start.on_trial = bootloader_on_trial(d->bootloader);
    d->start.running_sha256 = bootloader_running_sha256(d->bootloader, d->running_sha256) ? d->running_sha256 : NULL;
    d->start.reverted_sha256 = bootloader_reverted_sha256(d->bootloader, d->reverted_sha256) ? d->reverted_sha256 : NULL;
    d->baud = d->profile.identity.base_baud;
    d->outbox_size = 0;
    d->stalled_until = 0.0;
    d->restart_wanted = d->line_awaited = d->overrun = false;
    d->flash->off = false;
    d->flash->operations_left = 0;
    log_line("boot %08x: runs %s", d->start.boot_id, d->port.version);
    reason = rcp_init(&d->rcp, &d->port, &d->start);
    if (reason != RCP_OK)
        fail(EXIT_FAILED, "the receiver does not take these sizes (reason %d in rcp.h): --max-frame %u, --window %u, --rx-ring %u, "
             "--erase-block %u, --write-unit %u", (int)reason, d->port.max_frame, d->port.window, d->profile.rx_ring, d->port.erase_block,
             d->port.write_unit);
    if (d->profile.packet > 0)
        device_connect(d); /* a device that knows no stream */
    d->has_power = true;
}

static void lose_power(device_t *d, const char *why)
{
    log_line("%s", why);
    d->has_power = false;
    d->boot_at = clock_now() + d->profile.boot_ms / 1000.0;
}

void device_cut_power(device_t *d)
{
    if (d->has_power)
        lose_power(d, "power cut");
}

/* ---- running ---- */

static void work(device_t *d)
{
    for (int i = 0; i < POLLS_AT_ONCE && d->has_power && clock_now() >= d->stalled_until; i++) {
        d->line_awaited = false;
        rcp_poll(&d->rcp);
        flush(d);
        if (d->flash->off)
            lose_power(d, "power cut within a flash operation");
        else if (d->restart_wanted)
            lose_power(d, "restarts");
        else if (d->line_awaited || rcp_idle_ms(&d->rcp) > 0)
            return;
    }
}

void device_connect(device_t *d)
{
    rcp_connected(&d->rcp, d->profile.packet);
}

void device_hear(device_t *d, const uint8_t *data, size_t size)
{
    if (d->profile.packet > 0) {
        if (d->has_power && !rcp_rx_packet(&d->rcp, data, (uint32_t)size))
            log_line("drops a packet of %zu bytes: the ring of %u is full", size, d->profile.rx_ring);
        work(d);
        return;
    }
    for (size_t i = 0; i < size && d->has_power; i++) {
        if (!rcp_rx_byte(&d->rcp, data[i]) && !d->overrun) {
            d->overrun = true;
            log_line("bytes come faster than they are taken: the ring of %u is full", d->profile.rx_ring);
        }
        if (data[i] == 0 || i % BYTES_AT_ONCE == BYTES_AT_ONCE - 1)
            work(d);
    }
    work(d);
}

void device_run(device_t *d)
{
    if (d->has_power && clock_now() >= bootloader_trial_ends(d->bootloader))
        lose_power(d, "the trial is over and nobody has confirmed");
    if (!d->has_power && clock_now() >= d->boot_at)
        boot(d);
    work(d);
}

static double sooner(double a, double b)
{
    return a < b ? a : b;
}

double device_due(const device_t *d)
{
    double due = NEVER;
    uint32_t idle_ms;
    if (!d->has_power)
        return d->boot_at;
    idle_ms = rcp_idle_ms(&d->rcp);
    if (d->line_awaited)
        due = d->to_gateway->free_at;
    else if (idle_ms != UINT32_MAX)
        due = clock_now() + idle_ms / 1000.0;
    if (due < d->stalled_until)
        due = d->stalled_until;
    return sooner(due, bootloader_trial_ends(d->bootloader));
}

/* ---- making one ---- */

static void *allocate(size_t size)
{
    void *memory = calloc(size, 1);
    if (memory == NULL)
        fail(EXIT_FAILED, "out of memory for %zu bytes", size);
    return memory;
}

static const char *or_null(const char *text)
{
    return text[0] ? text : NULL;
}

static void fill_identity(rcp_port_t *port, const profile_t *profile)
{
    const identity_t *identity = &profile->identity;
    port->app_id = identity->app_id;
    port->hardware_id = or_null(identity->hardware_id);
    port->device_id = or_null(identity->device_id);
    port->has_slot_address = identity->has_slot_address;
    port->slot_address = identity->slot_address;
    port->features = (profile->packet > 0 ? RCP_FEATURE_SHORT_DATA : RCP_FEATURE_SET_BAUD) | (profile->can_revert ? RCP_FEATURE_TRIAL_BOOT : 0);
    port->boot_time_s = (uint16_t)(profile->boot_ms / 1000 + 2);
    port->base_baud = identity->base_baud;
}

static void fill_memory(rcp_port_t *port, const profile_t *profile)
{
    const identity_t *identity = &profile->identity;
    port->ring_size = profile->rx_ring + 1;
    port->ring = allocate(port->ring_size);
    port->max_frame = profile->max_frame;
    port->frame = allocate(RCP_FRAME_BUFFER(profile->max_frame));
    port->write_unit = (uint16_t)identity->write_unit;
    port->unit = allocate(identity->write_unit);
    port->window = profile->window;
    port->erase_block = identity->erase_block;
    port->journal = 0;
    port->journal_area = journal_area(identity);
    port->slot = 2 * port->journal_area;
    port->slot_size = identity->slot_size;
    port->erase_ms = profile->erase_ms;
    port->erase_ahead = profile->erase_ms > 0 ? identity->slot_size : identity->erase_block; /* all of it under BUSY, or as it goes */
}

static void fill_callbacks(rcp_port_t *port, device_t *d)
{
    port->context = d;
    port->flash_read = port_read;
    port->flash_write = port_write;
    port->flash_erase = port_erase;
    port->sha256_begin = port_sha256_begin;
    port->sha256_add = port_sha256_add;
    port->sha256_end = port_sha256_end;
    port->now_ms = port_now_ms;
    port->send = port_send;
    port->sent = port_sent;
    port->baud_possible = port_baud_possible;
    port->set_baud = port_set_baud;
    port->offer = port_offer;
    port->activate = port_activate;
    port->confirm = port_confirm;
    port->restart = port_restart;
}

void device_open(device_t *d, const profile_t *profile, bootloader_t *b, flash_t *f, line_t *to_gateway)
{
    memset(d, 0, sizeof *d);
    d->profile = *profile;
    d->bootloader = b;
    d->flash = f;
    d->to_gateway = to_gateway;
    fill_identity(&d->port, &d->profile);
    fill_memory(&d->port, &d->profile);
    fill_callbacks(&d->port, d);
    boot(d);
}

void device_close(device_t *d)
{
    free(d->port.ring);
    free(d->port.frame);
    free(d->port.unit);
}
