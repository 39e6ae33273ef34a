#include "lab.h"

#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include "../rcp.h"
#include "../rcp_sha256.h"

enum { TURNED = 0xFF ^ RCP_ERASED }; /* for flash that erases to 0 all bits mean the opposite */
enum { OUT_ROOM = 65536, BITS_PER_BYTE = 10, LENGTH_SIZE = 2 };

struct lab {
    lab_view_t view;
    lab_setup_t setup;
    rcp_t rcp;
    rcp_port_t port;
    rcp_boot_t boot;
    rcp_sha256_t sha256;
    jmp_buf power;
    uint32_t flash_size;
    uint8_t *flash, *unreadable, *frame, *ring, *unit;
    uint32_t *erases;
    uint8_t out[OUT_ROOM];
    uint32_t line_free_ms;
    uint32_t erases_now; /* in this rcp_poll() */
    uint32_t events[2 * LAB_EVENTS];
    uint32_t hash_ms; /* that rcp_poll() has spent: each piece takes one */
    uint32_t random;
    uint8_t running_sha256[32], reverted_sha256[32];
    char app_id[72], hardware_id[72], device_id[40], version[72];
};

/* ---- flash ---- */

static uint32_t next_random(lab_t *lab)
{
    lab->random ^= lab->random << 13;
    lab->random ^= lab->random >> 17;
    lab->random ^= lab->random << 5;
    return lab->random;
}

/* Counts an operation. Whether the power fails in it; before it, it does so here. */
static bool begin_operation(lab_t *lab)
{
    bool cut = ++lab->view.operations == lab->view.cut_at;
    if (cut && lab->view.cut_how == LAB_BEFORE)
        longjmp(lab->power, 1);
    return cut;
}

static bool fails(const lab_t *lab)
{
    return lab->view.operations == lab->view.fail_at;
}

static bool is_outside(const lab_t *lab, uint32_t address, uint32_t size, uint32_t step)
{
    return address > lab->flash_size || size > lab->flash_size - address || address % step != 0;
}

static bool on_read(void *context, uint32_t address, uint8_t *to, uint32_t size)
{
    lab_t *lab = context;
    const uint32_t unit = lab->setup.write_unit;
    if (is_outside(lab, address, size, 1)) {
        lab->view.unsound++;
        return false;
    }
    for (uint32_t at = address / unit; size > 0 && at <= (address + size - 1) / unit; at++)
        if (lab->unreadable[at] != 0)
            return false;
    memcpy(to, lab->flash + address, size);
    return true;
}

static bool on_write(void *context, uint32_t address, const uint8_t *from, uint32_t size)
{
    lab_t *lab = context;
    bool cut = begin_operation(lab);
    if (size != lab->setup.write_unit || is_outside(lab, address, size, size)) {
        lab->view.unsound++;
        return false;
    }
    for (uint32_t i = 0; i < size; i++) {
        const uint32_t kept = cut ? next_random(lab) : 0;
        uint8_t *const cell = &lab->flash[address + i];
        lab->view.unsound += *cell != RCP_ERASED;
        *cell = (uint8_t)(((*cell ^ TURNED) & ((from[i] ^ TURNED) | kept)) ^ TURNED);
    }
    if (lab->view.operations == lab->view.flip_at)
        lab->flash[address] ^= 0x10;
    lab->view.unsound += lab->unreadable[address / size];
    if (cut) {
        lab->unreadable[address / size] = lab->setup.torn_unreadable != 0;
        longjmp(lab->power, 1);
    }
    return !fails(lab);
}

/* With RCP_BLOCK_SIZES the slot begins with two quarters and a half of a block, as the flash of an STM32F4 does. */
static uint32_t on_block_size(void *context, uint32_t address)
{
    const lab_t *lab = context;
    const uint32_t block = lab->setup.erase_block, slot = 2 * lab->setup.journal_area;
    if (!RCP_BLOCK_SIZES || block / 4 < lab->setup.write_unit || address < slot || address >= slot + block)
        return block;
    return address < slot + block / 2 ? block / 4 : block / 2;
}

static bool on_erase(void *context, uint32_t address)
{
    lab_t *lab = context;
    const uint32_t block = on_block_size(lab, address), unit = lab->setup.write_unit;
    bool cut = begin_operation(lab);
    lab->erases_now++;
    if (is_outside(lab, address, block, block)) {
        lab->view.unsound++;
        return false;
    }
    lab->erases[address / lab->setup.erase_block]++;
    if (cut) { /* in no order, some bits and not others */
        for (uint32_t i = 0; i < block; i++)
            if ((next_random(lab) & 1u) != 0)
                lab->flash[address + i] = (uint8_t)(((lab->flash[address + i] ^ TURNED) | next_random(lab)) ^ TURNED);
        longjmp(lab->power, 1);
    }
    memset(lab->flash + address, RCP_ERASED, block);
    memset(lab->unreadable + address / unit, 0, block / unit);
    lab->view.deaf_until = lab->view.now_ms + lab->setup.erase_ms;
    return !fails(lab);
}

/* ---- everything else of the port ---- */

static void on_sha256_begin(void *context)
{
    rcp_sha256_begin(&((lab_t *)context)->sha256);
}

static void on_sha256_add(void *context, const uint8_t *data, uint32_t size)
{
    lab_t *lab = context;
    lab->hash_ms++;
    rcp_sha256_add(&lab->sha256, data, size);
}

static void on_sha256_end(void *context, uint8_t digest[32])
{
    rcp_sha256_end(&((lab_t *)context)->sha256, digest);
}

static uint32_t on_now(void *context)
{
    const lab_t *lab = context;
    return lab->view.now_ms + lab->hash_ms;
}

static void say(lab_t *lab, const uint8_t *data, uint32_t size)
{
    if (size > OUT_ROOM - lab->view.out_size)
        abort(); /* a device that says so much is broken */
    memcpy(lab->out + lab->view.out_size, data, size);
    lab->view.out_size += size;
}

/* Of packets the length goes before each. */
static void on_send(void *context, const uint8_t *data, uint32_t size)
{
    lab_t *lab = context;
    const uint8_t length[LENGTH_SIZE] = {(uint8_t)size, (uint8_t)(size >> 8)};
    if (lab->setup.packet != 0) {
        if (size > lab->setup.packet)
            abort(); /* a radio drops that */
        say(lab, length, LENGTH_SIZE);
    }
    say(lab, data, size);
}

static bool on_sent(void *context)
{
    const lab_t *lab = context;
    return lab->view.out_size == 0 && (int32_t)(lab->view.now_ms - lab->line_free_ms) >= 0;
}

/* A clock of 48 MHz, sixteen times oversampled: what real dividers make of it. */
static uint32_t on_baud_possible(void *context, uint32_t baud)
{
    const lab_t *lab = context;
    const uint32_t clock = 48000000;
    return baud == 0 || baud > lab->setup.max_baud ? 0 : clock / ((clock + baud / 2) / baud);
}

static void on_set_baud(void *context, uint32_t baud)
{
    ((lab_t *)context)->view.baud = baud;
}

static uint32_t on_offer(void *context, const rcp_offer_t *offer)
{
    lab_t *lab = context;
    memset(lab->view.offered, 0, sizeof lab->view.offered);
    memcpy(lab->view.offered, offer->version, offer->version_size);
    return lab->view.refuse;
}

/* Whether the slot holds what it is about to start. */
static bool holds(const lab_t *lab, const uint8_t sha256[32], uint32_t size)
{
    rcp_sha256_t hash;
    uint8_t digest[32];
    if (size > lab->setup.slot_size)
        return false;
    rcp_sha256_begin(&hash);
    rcp_sha256_add(&hash, lab->flash + 2 * lab->setup.journal_area, size);
    rcp_sha256_end(&hash, digest);
    return memcmp(digest, sha256, 32) == 0;
}

static bool on_activate(void *context, const uint8_t sha256[32], uint32_t size, uint16_t trial_s)
{
    lab_t *lab = context;
    if (begin_operation(lab))
        longjmp(lab->power, 1);
    if (fails(lab))
        return false;
    lab->view.unsound += !holds(lab, sha256, size);
    memcpy(lab->view.flag_sha256, sha256, 32);
    lab->view.flag_size = size;
    lab->view.flag_trial_s = trial_s;
    return true;
}

static bool on_confirm(void *context)
{
    lab_t *lab = context;
    if (begin_operation(lab))
        longjmp(lab->power, 1);
    if (fails(lab))
        return false;
    lab->view.confirmed = 1;
    return true;
}

#if RCP_EVENTS
static void on_event(void *context, rcp_event_t event, uint32_t value)
{
    lab_t *lab = context;
    const uint32_t at = lab->view.events++;
    if (at >= LAB_EVENTS)
        return;
    lab->events[2 * at] = event;
    lab->events[2 * at + 1] = value;
}
#endif

static void on_restart(void *context)
{
    ((lab_t *)context)->view.restart = 1;
}

/* ---- the bench ---- */

static void wire_up(lab_t *lab)
{
    const lab_setup_t *s = &lab->setup;
    lab->port = (rcp_port_t){
        .context = lab, .frame = lab->frame, .unit = lab->unit, .ring = lab->ring, .ring_size = s->rx_ring + 1, .max_frame = s->max_frame,
        .write_unit = s->write_unit, .window = s->window, .erase_block = s->erase_block, .slot = 2 * s->journal_area,
        .slot_size = s->slot_size, .journal = 0, .journal_area = s->journal_area, .erase_ahead = s->erase_ahead, .erase_ms = s->erase_ms,
        .flash_read = on_read, .flash_write = on_write, .flash_erase = on_erase, .now_ms = on_now, .send = on_send, .sent = on_sent,
        .sha256_begin = on_sha256_begin, .sha256_add = on_sha256_add, .sha256_end = on_sha256_end, .offer = on_offer,
        .activate = on_activate, .confirm = on_confirm, .restart = on_restart, .base_baud = s->base_baud,
        .baud_possible = on_baud_possible, .set_baud = on_set_baud, .app_id = lab->app_id,
        .hardware_id = s->hardware_id == NULL ? NULL : lab->hardware_id, .device_id = s->device_id == NULL ? NULL : lab->device_id,
        .features = s->features, .boot_time_s = s->boot_time_s, .slot_address = s->slot_address,
        .has_slot_address = s->has_slot_address != 0,
    };
#if RCP_BLOCK_SIZES
    lab->port.block_size = on_block_size;
#endif
#if RCP_EVENTS
    lab->port.event = on_event;
#endif
}

static void copy_text(char *to, const char *from, uint32_t room)
{
    if (from != NULL)
        strncpy(to, from, room - 1);
}

lab_t *lab_new(const lab_setup_t *setup)
{
    lab_t *lab = calloc(1, sizeof *lab);
    lab->setup = *setup;
    lab->random = setup->seed * 2654435769u | 1u;
    lab->flash_size = 2 * setup->journal_area + setup->slot_size;
    /* Each of them apart, and none larger than the port says: a sanitizer watches their edges. */
    lab->flash = malloc(lab->flash_size);
    lab->unreadable = calloc(lab->flash_size / setup->write_unit, 1);
    lab->erases = calloc(lab->flash_size / setup->erase_block, sizeof *lab->erases);
    lab->frame = malloc(RCP_FRAME_BUFFER(setup->max_frame));
    lab->ring = malloc(setup->rx_ring + 1);
    lab->unit = malloc(setup->write_unit);
    memset(lab->flash, RCP_ERASED, lab->flash_size);
    copy_text(lab->app_id, setup->app_id, sizeof lab->app_id);
    copy_text(lab->hardware_id, setup->hardware_id, sizeof lab->hardware_id);
    copy_text(lab->device_id, setup->device_id, sizeof lab->device_id);
    wire_up(lab);
    if (rcp_check(&lab->port) == RCP_OK)
        return lab;
    lab_free(lab);
    return NULL;
}

void lab_free(lab_t *lab)
{
    free(lab->flash);
    free(lab->unreadable);
    free(lab->erases);
    free(lab->frame);
    free(lab->ring);
    free(lab->unit);
    free(lab);
}

lab_view_t *lab_view(lab_t *lab)
{
    return &lab->view;
}

uint8_t *lab_flash(lab_t *lab)
{
    return lab->flash;
}

uint8_t *lab_unreadable(lab_t *lab)
{
    return lab->unreadable;
}

const uint32_t *lab_erases(const lab_t *lab)
{
    return lab->erases;
}

const uint32_t *lab_events(const lab_t *lab)
{
    return lab->events;
}

uint32_t lab_flash_size(const lab_t *lab)
{
    return lab->flash_size;
}

static void look(lab_t *lab)
{
    lab->view.state = lab->rcp.state;
    lab->view.durable = lab->rcp.journal.durable;
    lab->view.generation = lab->rcp.journal.generation;
    lab->view.erased = lab->rcp.erased;
}

static void lose_power(lab_t *lab)
{
    lab->view.power_lost = 1;
    lab->view.out_size = 0;
    lab->view.cut_at = 0;
}

void lab_boot(lab_t *lab, const lab_boot_t *boot)
{
    lab_view_t *view = &lab->view;
    view->power_lost = view->restart = view->flag_size = view->confirmed = view->out_size = 0;
    view->deaf_until = view->now_ms;
    view->baud = lab->setup.base_baud;
    lab->line_free_ms = view->now_ms;
    memset(lab->version, 0, sizeof lab->version);
    copy_text(lab->version, boot->version, sizeof lab->version);
    lab->port.version = boot->version == NULL ? NULL : lab->version;
    if (boot->running_sha256 != NULL)
        memcpy(lab->running_sha256, boot->running_sha256, 32);
    if (boot->reverted_sha256 != NULL)
        memcpy(lab->reverted_sha256, boot->reverted_sha256, 32);
    lab->boot = (rcp_boot_t){
        .running_sha256 = boot->running_sha256 == NULL ? NULL : lab->running_sha256,
        .reverted_sha256 = boot->reverted_sha256 == NULL ? NULL : lab->reverted_sha256,
        .boot_id = boot->boot_id,
        .on_trial = boot->on_trial != 0,
    };
    if (setjmp(lab->power) != 0) {
        lose_power(lab);
        return;
    }
    if (rcp_init(&lab->rcp, &lab->port, &lab->boot) != RCP_OK)
        abort(); /* lab_new() has looked */
    if (lab->setup.packet != 0)
        lab_connect(lab, lab->setup.packet);
    view->idle_ms = 0;
    view->deaf_until = view->now_ms; /* what is erased while it starts belongs to the boot */
    look(lab);
}

static bool is_off(const lab_t *lab)
{
    return lab->view.power_lost != 0 || lab->view.restart != 0;
}

static bool is_deaf(const lab_t *lab)
{
    return (int32_t)(lab->view.now_ms - lab->view.deaf_until) < 0;
}

void lab_connect(lab_t *lab, uint32_t packet)
{
#if RCP_BLE
    lab->setup.packet = packet;
    lab->view.out_size = 0; /* what has not left goes with the connection */
    rcp_connected(&lab->rcp, packet);
#else
    (void)lab, (void)packet;
    abort(); /* this bench was built for streams */
#endif
}

static bool take_packet(lab_t *lab, const uint8_t *bytes, uint32_t size)
{
#if RCP_BLE
    if (lab->setup.packet != 0 && !is_off(lab) && !(is_deaf(lab) && lab->setup.deaf != 0))
        rcp_rx_packet(&lab->rcp, bytes, size);
#else
    (void)bytes, (void)size;
#endif
    return lab->setup.packet != 0;
}

void lab_feed(lab_t *lab, const uint8_t *bytes, uint32_t size)
{
    if (take_packet(lab, bytes, size))
        size = 0;
    for (; size > 0 && !is_off(lab); bytes++, size--) {
        if (is_deaf(lab) && lab->setup.deaf != 0)
            continue;
        rcp_rx_byte(&lab->rcp, *bytes);
        if (*bytes == 0)
            lab_run(lab);
    }
    lab_run(lab);
}

void lab_queue(lab_t *lab, const uint8_t *bytes, uint32_t size)
{
    if (take_packet(lab, bytes, size))
        return;
    for (; size > 0; size--)
        rcp_rx_byte(&lab->rcp, *bytes++);
}

void lab_run(lab_t *lab)
{
    if (setjmp(lab->power) != 0) {
        lose_power(lab);
        return;
    }
    while (!is_off(lab) && !is_deaf(lab)) {
        lab->hash_ms = lab->erases_now = 0;
        rcp_poll(&lab->rcp);
        if (lab->view.most_erases < lab->erases_now)
            lab->view.most_erases = lab->erases_now;
        lab->view.idle_ms = rcp_idle_ms(&lab->rcp);
        lab->view.unsound += lab->rcp.session != 0 && lab->rcp.credit > lab->rcp.erased;
        if (lab->view.idle_ms > 0)
            break;
    }
    look(lab);
}

uint32_t lab_take(lab_t *lab, uint8_t *frame, uint32_t room)
{
    lab_view_t *view = &lab->view;
    uint32_t size = 1, skipped = 0;
    if (view->out_size == 0)
        return 0;
    if (lab->setup.packet != 0) {
        skipped = LENGTH_SIZE;
        size = lab->out[0] | (uint32_t)lab->out[1] << 8;
    } else {
        while (lab->out[size] != 0)
            size++;
        size++;
    }
    if (size > room)
        abort();
    memcpy(frame, lab->out + skipped, size);
    view->out_size -= skipped + size;
    memmove(lab->out, lab->out + skipped + size, view->out_size);
    if ((int32_t)(view->now_ms - lab->line_free_ms) > 0)
        lab->line_free_ms = view->now_ms;
    lab->line_free_ms += (uint32_t)((uint64_t)size * BITS_PER_BYTE * 1000 / view->baud) + 1;
    return size;
}
