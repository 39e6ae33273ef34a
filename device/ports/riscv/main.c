/* The application, from the porting guide's example (../../README.md). */
#include <string.h>

#include "../../rcp.h"
#include "../../rcp_sha256.h"
#include "board.h"
#include "flash.h"
#include "header.h"
#include "layout.h"
#include "swap.h"

enum { CHUNK = 1024, MAX_FRAME = CHUNK + RCP_DATA_OVERHEAD, UNIT = 8, RING = 4 * CHUNK + 4 * CHUNK / 16, SLEEP_MS = 1000 };

extern uint32_t image_size[];
__attribute__((section(".header"), used)) const image_header_t image_header = {HEADER_MAGIC, (uint32_t)image_size, VERSION};

static uint8_t frame[RCP_FRAME_BUFFER(MAX_FRAME)], ring[RING], running[32];
static uint64_t unit; /* UNIT bytes, aligned */
static rcp_sha256_t hash;
static rcp_boot_t boot;
static rcp_t rcp;
static bool is_on_trial;

static bool flash_read(void *c, uint32_t address, uint8_t *to, uint32_t size) { (void)c; memcpy(to, (const void *)address, size); return true; }
static bool erase(void *c, uint32_t address) { (void)c; flash_erase(address); return true; }
static uint32_t now_ms(void *c) { (void)c; return clock_ms(); }
static void send(void *c, const uint8_t *data, uint32_t size) { (void)c; uart_send(data, size); }
static bool sent(void *c) { (void)c; return uart_has_sent(); }
static void hash_begin(void *c) { (void)c; rcp_sha256_begin(&hash); }
static void hash_add(void *c, const uint8_t *data, uint32_t size) { (void)c; rcp_sha256_add(&hash, data, size); }
static void hash_end(void *c, uint8_t digest[32]) { (void)c; rcp_sha256_end(&hash, digest); }
static bool confirm(void *c) { (void)c; swap_keep(); is_on_trial = false; return true; }

static bool flash_write(void *c, uint32_t address, const uint8_t *from, uint32_t size)
{
    uint32_t word;
    (void)c;
    for (uint32_t at = 0; at < size; at += 4) {
        memcpy(&word, from + at, 4);
        flash_program(address + at, word);
    }
    return true;
}

static bool activate(void *c, const uint8_t sha256[32], uint32_t size, uint16_t trial_s)
{
    const uint32_t larger = size > image_header.size ? size : image_header.size;
    (void)c, (void)trial_s; /* the receiver counts the trial itself */
    swap_request((larger + PAGE - 1) / PAGE, sha256);
    return true;
}

static void restart_board(void *c)
{
    (void)c;
    if (is_on_trial)
        swap_give_up();
    restart();
}

static const rcp_port_t PORT = {
    .frame = frame, .unit = (uint8_t *)&unit, .ring = ring, .ring_size = sizeof ring, .max_frame = MAX_FRAME, .write_unit = UNIT,
    .window = 4 * CHUNK, .erase_block = PAGE, .slot = SLOT, .slot_size = SLOT_PAGES * PAGE, .journal = JOURNAL, .journal_area = PAGE,
    .erase_ahead = PAGE, .erase_ms = 1, /* bytes wait in the UART */
    .flash_read = flash_read, .flash_write = flash_write, .flash_erase = erase, .now_ms = now_ms, .send = send, .sent = sent,
    .sha256_begin = hash_begin, .sha256_add = hash_add, .sha256_end = hash_end,
    .activate = activate, .confirm = confirm, .restart = restart_board, .base_baud = 115200,
    .app_id = "riscv", .hardware_id = "qemu-virt", .version = image_header.version, .features = RCP_FEATURE_TRIAL_BOOT, .boot_time_s = 3,
    .has_slot_address = true, .slot_address = IMAGE,
};

int main(void)
{
    uint8_t byte;
    rcp_sha256_begin(&hash);
    rcp_sha256_add(&hash, (const uint8_t *)IMAGE, image_header.size);
    rcp_sha256_end(&hash, running);
    boot.running_sha256 = running;
    boot.reverted_sha256 = swap_reverted();
    boot.boot_id = clock_ticks() * 2654435761u; /* QEMU's start took a time of its own each time: no source of chance for a product */
    boot.on_trial = is_on_trial = swap_on_trial();
    if (rcp_init(&rcp, &PORT, &boot) != RCP_OK)
        return 1;
    uart_begin();
    for (;;) {
        while (uart_get(&byte))
            rcp_rx_byte(&rcp, byte);
        rcp_poll(&rcp);
        if (rcp_idle_ms(&rcp) > 0)
            sleep_ms(rcp_idle_ms(&rcp) < SLEEP_MS ? rcp_idle_ms(&rcp) : SLEEP_MS);
    }
}
