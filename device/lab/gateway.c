#include "gateway.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../rcp_sha256.h"

enum { HELLO = 0x01, INFO, OFFER, ACCEPT, FINISH = 0x07, FINISHED, ACTIVATE, ACTIVATED, CONFIRM, CONFIRMED, BUSY = 0x0F, DATA = 0x40, ACK };
enum { FRAGMENT = 0x60, LAST_FRAGMENT = 0x10, SHORT_DATA = 0x80, SHORT_OVERHEAD = 3 };
enum { BOOT_MS = 200, STEP_MS = 50, REPEAT_MS = 1000, PATIENCE_MS = 60000, ANOTHER_GATEWAY_MS = 11000, OVERHEAD = 10, SESSION = 0x5A };

void demand(bool is_so, const char *what)
{
    if (is_so)
        return;
    fprintf(stderr, "fuzz: %s\n", what);
    exit(1);
}

/* Bit by bit: written apart from the receiver's. */
static uint32_t crc32_of(const uint8_t *data, uint32_t size)
{
    uint32_t crc = 0xFFFFFFFFu;
    for (uint32_t i = 0; i < size; i++) {
        crc ^= data[i];
        for (int bit = 0; bit < 8; bit++)
            crc = (crc >> 1) ^ ((crc & 1u) != 0 ? 0xEDB88320u : 0);
    }
    return ~crc;
}

static uint32_t read_u32(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static void write_u32(uint8_t *p, uint32_t value)
{
    for (int i = 0; i < 4; i++)
        p[i] = (uint8_t)(value >> (8 * i));
}

uint32_t gateway_encode(uint8_t *wire, uint8_t *frame, uint32_t size)
{
    uint32_t at = 1, code = 1, out = 2;
    write_u32(frame + size, crc32_of(frame, size));
    wire[0] = 0;
    for (uint32_t i = 0; i < size + 4; i++) {
        if (frame[i] != 0)
            wire[out++] = frame[i];
        if (frame[i] == 0 || ++code == 255) {
            wire[at] = (uint8_t)code;
            at = out++;
            code = 1;
        }
    }
    wire[at] = (uint8_t)code;
    wire[out] = 0;
    return out + 1;
}

/* A whole frame as the device sends it. Returns its size without CRC. */
static uint32_t decode(uint8_t *frame, const uint8_t *wire, uint32_t size)
{
    uint32_t out = 0, at = 1;
    demand(size > 4 && wire[0] == 0 && wire[size - 1] == 0, "the device sends something that is no frame");
    while (at < size - 1) {
        uint32_t code = wire[at++];
        demand(code - 1 <= size - 1 - at, "the device sends broken COBS");
        memcpy(frame + out, wire + at, code - 1);
        out += code - 1;
        at += code - 1;
        if (code != 255 && at < size - 1)
            frame[out++] = 0;
    }
    return out;
}

/* A packet as the device sends it. Returns the frame's size with CRC, 0 when others have to follow. */
static uint32_t assemble(gateway_t *g, uint8_t *frame, const uint8_t *packet, uint32_t size)
{
    demand(size > 0 && size <= g->setup.packet, "the device sends a packet that is too long");
    if (packet[0] < FRAGMENT) {
        demand(g->fragments == 0, "the device does not finish a frame");
        memcpy(frame, packet, size);
        return size;
    }
    demand((packet[0] & ~LAST_FRAGMENT) == FRAGMENT + g->fragments && size > 1, "the device sends fragments out of order");
    demand(size == g->setup.packet || (packet[0] & LAST_FRAGMENT) != 0, "the device sends a fragment that is not full");
    memcpy(g->begun + g->begun_size, packet + 1, size - 1);
    g->begun_size += size - 1;
    g->fragments++;
    if ((packet[0] & LAST_FRAGMENT) == 0)
        return 0;
    size = g->begun_size;
    g->begun_size = g->fragments = 0;
    memcpy(frame, g->begun, size);
    return size;
}

/* ---- the bootloader ---- */

static void swap_or_take_back(gateway_t *g)
{
    if (g->view->flag_size > 0) {
        memcpy(g->previous, g->running, 32);
        g->has_previous = g->has_running;
        memcpy(g->running, g->view->flag_sha256, 32);
        g->has_running = g->on_trial = true;
        g->has_reverted = false;
    } else if (g->on_trial) {
        memcpy(g->reverted, g->running, 32);
        memcpy(g->running, g->previous, 32);
        g->has_running = g->has_previous;
        g->has_reverted = true;
        g->on_trial = false;
    }
}

void gateway_boot(gateway_t *g)
{
    lab_boot_t boot = {0};
    do {
        if (g->view->confirmed != 0)
            g->on_trial = false;
        swap_or_take_back(g);
        g->view->now_ms += BOOT_MS;
        boot.version = "1.0.0";
        boot.running_sha256 = g->has_running ? g->running : NULL;
        boot.reverted_sha256 = g->has_reverted ? g->reverted : NULL;
        boot.boot_id = ++g->boot_id;
        boot.on_trial = g->on_trial;
        g->begun_size = g->fragments = 0;
        lab_boot(g->lab, &boot);
    } while (g->view->power_lost != 0);
}

/* ---- talking ---- */

static void look(gateway_t *g)
{
    uint8_t wire[LAB_FRAME], frame[LAB_FRAME];
    for (uint32_t size; (size = lab_take(g->lab, wire, sizeof wire)) > 0;) {
        uint32_t n = g->setup.packet != 0 ? assemble(g, frame, wire, size) : decode(frame, wire, size);
        if (n == 0)
            continue;
        demand(n >= 6 && read_u32(frame + n - 4) == crc32_of(frame, n - 4), "the device sends a wrong CRC");
        n -= 4;
        if (frame[0] == BUSY)
            continue;
        memcpy(g->answer, frame, n);
        g->answer_size = n;
    }
    demand(g->view->unsound == 0, "it did to its flash what no flash can");
    if (g->view->confirmed != 0)
        g->on_trial = false;
    if (g->view->power_lost != 0 || g->view->restart != 0)
        gateway_boot(g);
}

void gateway_wait(gateway_t *g, uint32_t ms)
{
    g->view->now_ms += ms;
    lab_run(g->lab);
    look(g);
}

void gateway_feed(gateway_t *g, const uint8_t *bytes, uint32_t size)
{
    lab_feed(g->lab, bytes, size);
    look(g);
}

static void send_packets(gateway_t *g, uint8_t *frame, uint32_t size, uint32_t lost)
{
    uint8_t packet[LAB_FRAME];
    const uint32_t most = g->setup.packet - 1;
    write_u32(frame + size, crc32_of(frame, size));
    size += 4;
    if (size <= g->setup.packet) {
        gateway_feed(g, frame, lost == 0 ? 0 : size);
        return;
    }
    for (uint32_t i = 0; i * most < size; i++) {
        const uint32_t left = size - i * most, n = left < most ? left : most;
        packet[0] = (uint8_t)(FRAGMENT + (i & 15u) + (left <= most ? LAST_FRAGMENT : 0));
        memcpy(packet + 1, frame + i * most, n);
        if (i != lost)
            gateway_feed(g, packet, n + 1);
    }
}

void gateway_send(gateway_t *g, uint8_t *frame, uint32_t size, uint32_t lost)
{
    uint8_t wire[LAB_FRAME];
    if (g->setup.packet != 0)
        send_packets(g, frame, size, lost);
    else
        gateway_feed(g, wire, gateway_encode(wire, frame, size));
}

/* Asks until a frame of the wanted type comes: again and again, for a device that erases may be deaf. */
static void ask(gateway_t *g, uint8_t *frame, uint32_t size, uint8_t wanted)
{
    g->answer_size = 0;
    for (uint32_t ms = 0; g->answer_size == 0 && ms < PATIENCE_MS; ms += STEP_MS) {
        if (ms % REPEAT_MS == 0)
            gateway_send(g, frame, size, LAB_NOTHING_LOST);
        if (g->answer_size == 0)
            gateway_wait(g, STEP_MS);
    }
    if (g->answer_size == 0 || g->answer[0] != wanted)
        fprintf(stderr, "fuzz: to %02x came %02x (%u bytes: %02x %02x), not %02x\n", frame[0], g->answer[0], g->answer_size, g->answer[2],
                g->answer[3], wanted);
    demand(g->answer_size > 0 && g->answer[0] == wanted, "another answer than expected");
}

static uint32_t boot_id(const gateway_t *g)
{
    for (uint32_t at = 2; at < g->answer_size; at += 2u + g->answer[at + 1])
        if (g->answer[at] == 0x14)
            return read_u32(g->answer + at + 2);
    demand(false, "INFO without boot id");
    return 0;
}

static void hello(gateway_t *g)
{
    uint8_t frame[32] = {HELLO, 0, 0x01, 4, 1, 2, 3, 4, 0x02, 1, 1, 0x03, 1, 1, 0x04, 4, 'f', 'u', 'z', 'z'};
    gateway_feed(g, (const uint8_t *)"", 1); /* what came before is no part of it */
    ask(g, frame, 20, INFO);
}

/* Sends it and has it acknowledged: in a packet short, and with a probe behind it. */
static void send_data(gateway_t *g, uint32_t offset, const uint8_t *bytes, uint32_t size)
{
    uint8_t frame[LAB_FRAME] = {DATA, SESSION};
    if (g->setup.packet != 0) {
        frame[0] = SHORT_DATA + SESSION;
        frame[1] = (uint8_t)offset;
        frame[2] = (uint8_t)(offset >> 8);
        memcpy(frame + SHORT_OVERHEAD, bytes, size);
        gateway_feed(g, frame, size + SHORT_OVERHEAD);
        frame[0] = DATA;
        frame[1] = SESSION;
        size = 0;
    }
    write_u32(frame + 2, offset);
    memcpy(frame + 6, bytes, size);
    ask(g, frame, 6 + size, ACK);
}

static void transfer(gateway_t *g, const uint8_t *image, uint32_t size, const uint8_t *sha256)
{
    static const uint8_t REST[] = {0x32, 5, '1', '.', '0', '.', '1', 0x33, 1, 0};
    uint8_t frame[LAB_FRAME] = {OFFER, SESSION, 0x30, 32};
    uint32_t offset, credit;
    memcpy(frame + 4, sha256, 32);
    frame[36] = 0x31;
    frame[37] = 4;
    write_u32(frame + 38, size);
    memcpy(frame + 42, REST, sizeof REST);
    ask(g, frame, 42 + sizeof REST, ACCEPT);
    offset = read_u32(g->answer + 2);
    credit = read_u32(g->answer + 10);
    demand(read_u32(g->answer + 6) == crc32_of(image, offset), "ACCEPT has the wrong CRC");
    while (offset < size) {
        uint32_t n = g->setup.max_frame - OVERHEAD;
        if (g->setup.packet != 0 && n > g->setup.packet - SHORT_OVERHEAD)
            n = g->setup.packet - SHORT_OVERHEAD;
        n = n < credit - offset ? n : credit - offset;
        demand(n > 0 && n <= size - offset, "no credit where nothing is under way");
        send_data(g, offset, image + offset, n);
        demand(read_u32(g->answer + 2) == offset + n, "DATA that fits is not taken");
        offset += n;
        credit = read_u32(g->answer + 10);
    }
}

void gateway_update(gateway_t *g, const uint8_t *image, uint32_t size)
{
    uint8_t frame[64] = {0}, sha256[32];
    rcp_sha256_t hash;
    rcp_sha256_begin(&hash);
    rcp_sha256_add(&hash, image, size);
    rcp_sha256_end(&hash, sha256);
    gateway_wait(g, ANOTHER_GATEWAY_MS);
    hello(g);
    transfer(g, image, size, sha256);
    frame[0] = FINISH;
    frame[1] = SESSION;
    ask(g, frame, 2, FINISHED);
    hello(g);
    frame[0] = ACTIVATE;
    memcpy(frame + 2, sha256, 32);
    write_u32(frame + 34, boot_id(g));
    frame[38] = 0x58;
    frame[39] = 2;
    ask(g, frame, 40, ACTIVATED);
    for (uint32_t before = g->boot_id, i = 0; g->boot_id == before && i < 100; i++)
        gateway_wait(g, STEP_MS);
    demand(g->on_trial && memcmp(g->running, sha256, 32) == 0, "it does not run what was activated");
    memset(frame, 0, sizeof frame);
    frame[0] = CONFIRM;
    memcpy(frame + 2, (const uint8_t[]){0x01, 4, 9, 9, 9, 9, 0x30, 32}, 8);
    memcpy(frame + 10, sha256, 32);
    ask(g, frame, 42, CONFIRMED);
    demand(!g->on_trial, "CONFIRMED, but the bootloader does not know");
}
