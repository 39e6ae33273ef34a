/*
 * The application: copy this. Beside it there are board.c (line and clock), flash.c, startup.c, and swap.c for the bootloader's half of
 * the work. Your own work goes into work(): the watchdog is fed after it, and after the receiver has had its turn.
 */
#include <stddef.h>
#include <string.h>

#include "../../rcp.h"
#include "../../rcp_sha256.h"
#include "board.h"
#include "flash.h"
#include "header.h"
#include "layout.h"
#include "nrf51.h"
#include "swap.h"

enum {
    CHUNK = 512,
    MAX_FRAME = CHUNK + RCP_DATA_OVERHEAD,
    WINDOW = 4 * CHUNK,
    RING = WINDOW + WINDOW / 16 + 1, /* all that can be under way, with what framing adds: nothing is lost however long work() takes */
    UNIT = 64,                   /* 16 words at a time: a word each would do, and cost a third more time */
    SLEEP_MS = 500,              /* at most: the watchdog wants to be fed */
};

static uint8_t frame[RCP_FRAME_BUFFER(MAX_FRAME)], ring[RING], running[32];
static uint32_t unit[UNIT / 4];
static rcp_sha256_t hash;
static rcp_t rcp;
static bool is_on_trial;

/* ---- what the receiver calls ---- */

static bool read_flash(void *c, uint32_t address, uint8_t *to, uint32_t size)
{
    (void)c;
    memcpy(to, (const uint8_t *)address, size);
    return true;
}

static bool write_flash(void *c, uint32_t address, const uint8_t *from, uint32_t size)
{
    uint32_t word;
    (void)c;
    for (uint32_t at = 0; at < size; at += 4) {
        memcpy(&word, from + at, 4);
        flash_program(address + at, word);
    }
    return true; /* the receiver reads it back */
}

static bool erase_flash(void *c, uint32_t address)
{
    (void)c;
    flash_erase(address);
    return true;
}

static uint32_t now_ms(void *c)
{
    (void)c;
    return clock_ms();
}

static void send(void *c, const uint8_t *data, uint32_t size)
{
    (void)c;
    uart_send(data, size);
}

static bool has_sent(void *c)
{
    (void)c;
    return uart_has_sent();
}

static void hash_begin(void *c)
{
    (void)c;
    rcp_sha256_begin(&hash);
}

static void hash_add(void *c, const uint8_t *data, uint32_t size)
{
    (void)c;
    rcp_sha256_add(&hash, data, size);
}

static void hash_end(void *c, uint8_t digest[32])
{
    (void)c;
    rcp_sha256_end(&hash, digest);
}

/* As many pages change places as the larger of the two images has. */
static bool activate(void *c, const uint8_t sha256[32], uint32_t size, uint16_t trial_s)
{
    const uint32_t larger = size > image_header.size ? size : image_header.size;
    (void)c, (void)trial_s; /* the receiver counts the trial itself */
    swap_request((larger + PAGE - 1) / PAGE, sha256);
    return true;
}

static bool confirm(void *c)
{
    (void)c;
    swap_keep();
    is_on_trial = false;
    return true;
}

static void restart_chip(void *c);

/* ---- who this is ---- */

static const rcp_port_t PORT = {
    .frame = frame, .unit = (uint8_t *)unit, .ring = ring, .ring_size = RING,
    .max_frame = MAX_FRAME, .write_unit = UNIT, .window = WINDOW,

    .erase_block = PAGE, .slot = SLOT, .slot_size = SLOT_PAGES * PAGE, .journal = JOURNAL, .journal_area = PAGE,
    .erase_ahead = SLOT_PAGES * PAGE, .erase_ms = 23, /* nothing is received while a page is erased: all of them first */
    .flash_read = read_flash, .flash_write = write_flash, .flash_erase = erase_flash,

    .now_ms = now_ms, .send = send, .sent = has_sent, .base_baud = 115200,
    .sha256_begin = hash_begin, .sha256_add = hash_add, .sha256_end = hash_end,
    .activate = activate, .confirm = confirm, .restart = restart_chip,

    .app_id = "microbit", .hardware_id = "microbit-v1", .version = image_header.version,
    .features = RCP_FEATURE_TRIAL_BOOT,
    .boot_time_s = 25, /* twice the swap of all pages, three bites of the watchdog */
    .has_slot_address = true, .slot_address = IMAGE, /* what is in the slot runs at IMAGE */
};

/* While the image is on trial, a restart that the receiver wants means that its time is over, or that it is deaf. */
static void restart_chip(void *c)
{
    (void)c;
    if (is_on_trial)
        swap_give_up();
    restart();
}

static void hash_running_image(void)
{
    rcp_sha256_begin(&hash);
    for (uint32_t at = 0, n; at < image_header.size; at += n) {
        n = image_header.size - at < PAGE ? image_header.size - at : PAGE;
        rcp_sha256_add(&hash, (const uint8_t *)IMAGE + at, n);
        watchdog_feed();
    }
    rcp_sha256_end(&hash, running);
}

void uart_received(uint8_t byte)
{
    rcp_rx_byte(&rcp, byte);
}

static bool is_awake(void) /* asked with interrupts off: no byte comes between the answer and the sleep */
{
    return rcp_has_work(&rcp);
}

/* ---- yours ---- */

static void work(void)
{
}

int main(void)
{
    static const char GREETING[] = "microbit starts\r\n";
    rcp_boot_t boot = {.running_sha256 = running};
    clock_begin();
    hash_running_image();
    boot.boot_id = random_word();
    boot.on_trial = is_on_trial = swap_on_trial();
    boot.reverted_sha256 = swap_reverted();
    if (rcp_init(&rcp, &PORT, &boot) != RCP_OK)
        return 1; /* the numbers in PORT do not fit together */
    uart_begin();
    uart_send((const uint8_t *)GREETING, sizeof GREETING - 1);
    for (;;) {
        rcp_poll(&rcp);
        work();
        watchdog_feed(); /* only here: an image that hangs anywhere is taken back */
        sleep_ms(rcp_idle_ms(&rcp) < SLEEP_MS ? rcp_idle_ms(&rcp) : SLEEP_MS, is_awake);
    }
}
