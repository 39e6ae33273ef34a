/* The application, from the porting guide's example (../../README.md). */
#include <string.h>

#include "../../rcp.h"
#include "../../rcp_sha256.h"
#include "board.h"
#include "flash.h"
#include "header.h"
#include "layout.h"
#include "swap.h"

extern uint32_t image_size[];
__attribute__((section(".header"), used)) const image_header_t image_header = {HEADER_MAGIC, (uint32_t)image_size, VERSION};

enum { CHUNK = 1024, MAX_FRAME = CHUNK + RCP_DATA_OVERHEAD, WINDOW = 4 * CHUNK, RING = WINDOW + WINDOW / 16 + 1 };
enum { UNIT = 64 };

static uint8_t frame[RCP_FRAME_BUFFER(MAX_FRAME)], ring[RING];
static uint64_t unit[UNIT / 8]; /* aligned, as flash_write() gets it */
static rcp_sha256_t hash;
static rcp_boot_t boot;
static rcp_t rcp;
static bool is_on_trial;

static bool flash_read(void *c, uint32_t at, uint8_t *to, uint32_t size) { (void)c; memcpy(to, (const void *)at, size); return true; }
static bool flash_write(void *c, uint32_t at, const uint8_t *from, uint32_t size)
{
    uint32_t word;
    (void)c;
    for (uint32_t done = 0; done < size; done += 4) {
        memcpy(&word, from + done, 4);
        flash_program(at + done, word);
    }
    return true;
}
static bool erase(void *c, uint32_t address) { (void)c; flash_erase(address); return true; }
static uint32_t now_ms(void *c) { (void)c; return board_ms(); }
static void send(void *c, const uint8_t *data, uint32_t size) { (void)c; board_uart_write(data, size); }
static bool sent(void *c) { (void)c; return board_uart_is_idle(); }
static void hash_begin(void *c) { (void)c; rcp_sha256_begin(&hash); }
static void hash_add(void *c, const uint8_t *data, uint32_t size) { (void)c; rcp_sha256_add(&hash, data, size); }
static void hash_end(void *c, uint8_t digest[32]) { (void)c; rcp_sha256_end(&hash, digest); }

static void restart(void *c)
{
    (void)c;
    if (is_on_trial) /* nobody confirmed this image: it goes back */
        swap_give_up();
    board_restart();
}

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

static const rcp_port_t port = {
    .frame = frame, .unit = (uint8_t *)unit, .ring = ring, .ring_size = sizeof ring,
    .max_frame = MAX_FRAME, .write_unit = UNIT, .window = WINDOW,
    .erase_block = PAGE, .slot = SLOT, .slot_size = SLOT_PAGES * PAGE, .journal = JOURNAL, .journal_area = PAGE,
    .erase_ahead = PAGE, .erase_ms = 1, /* RAM: nothing is missed while it is erased */
    .flash_read = flash_read, .flash_write = flash_write, .flash_erase = erase,
    .now_ms = now_ms, .send = send, .sent = sent, .base_baud = 115200,
    .sha256_begin = hash_begin, .sha256_add = hash_add, .sha256_end = hash_end,
    .activate = activate, .confirm = confirm, .restart = restart,
    .app_id = "mps2", .hardware_id = "mps2-an385", .version = image_header.version,
    .features = RCP_FEATURE_TRIAL_BOOT, .boot_time_s = 3, /* restart to first answer, swap included */
};

void uart_received(uint8_t byte) /* from the interrupt */
{
    rcp_rx_byte(&rcp, byte);
}

int main(void)
{
    board_begin();
    boot.boot_id = board_random();
    boot.on_trial = is_on_trial = swap_on_trial();
    boot.reverted_sha256 = swap_reverted();
    if (rcp_init(&rcp, &port, &boot) != RCP_OK)
        return 1; /* the port cannot be used: rcp_reason_t says why */
    for (;;) {
        rcp_poll(&rcp);
        board_disable_interrupts();
        if (!rcp_has_work(&rcp)) /* asked with interrupts off: no byte is slept over */
            board_sleep(rcp_idle_ms(&rcp) < 500 ? rcp_idle_ms(&rcp) : 500); /* less than the watchdog's time */
        board_enable_interrupts();
    }
}
