/*
 * What `make cycles` runs on m0.c: SHA-256 of 64 KiB, and an image of 64 KiB received with write units of 4 and 64, without and with SHA-256.
 * Flash is RAM that is copied word by word: what a port's own driver, its erasing and its interrupt's entry and exit take comes on top.
 */
#include <string.h>

#include "../rcp.h"
#include "../rcp_sha256.h"

enum { IMAGE = 65536, CHUNK = 1024, MAX_FRAME = CHUNK + RCP_DATA_OVERHEAD, BLOCK = 4096, FRAMES = IMAGE / CHUNK, WIRE = CHUNK + 32, SESSION = 1,
       FINISH_LIMIT = 160000 /* 10 ms at 16 MHz, whatever the image has */ };

static uint32_t flash[(2 * BLOCK + IMAGE) / 4], image[IMAGE / 4];
static uint32_t frame[RCP_FRAME_BUFFER(MAX_FRAME) / 4 + 1], unit[64 / 4];
static uint8_t ring[2 * CHUNK], wire[FRAMES][WIRE], sha256[32];
static uint32_t wire_size[FRAMES];
static uint8_t said[64];
static rcp_sha256_t hash;
static rcp_t rcp;
static bool hashes;

#define TALK(number, a, b, limit) \
    do { \
        register uint32_t r0 __asm__("r0") = (uint32_t)(a); \
        register uint32_t r1 __asm__("r1") = (uint32_t)(b); \
        register uint32_t r2 __asm__("r2") = (uint32_t)(limit); \
        __asm__ volatile("bkpt " #number ::"r"(r0), "r"(r1), "r"(r2) : "memory"); \
    } while (0)

static void demand(bool is_so)
{
    if (!is_so)
        TALK(0, 1, 0, 0);
}

static bool flash_read(void *c, uint32_t at, uint8_t *to, uint32_t size)
{
    (void)c;
    memcpy(to, (const uint8_t *)flash + at, size);
    return true;
}

static bool flash_write(void *c, uint32_t at, const uint8_t *from, uint32_t size)
{
    (void)c;
    for (uint32_t i = 0; i < size / 4; i++)
        flash[at / 4 + i] = ((const uint32_t *)(const void *)from)[i];
    return true;
}

static bool flash_erase(void *c, uint32_t at)
{
    (void)c;
    memset((uint8_t *)flash + at, 0xFF, BLOCK);
    return true;
}

static void send(void *c, const uint8_t *data, uint32_t size)
{
    (void)c;
    memcpy(said, data, size < sizeof said ? size : sizeof said);
}

static void hash_add(void *c, const uint8_t *data, uint32_t size)
{
    (void)c;
    if (hashes)
        rcp_sha256_add(&hash, data, size);
}

static uint32_t now_ms(void *c) { (void)c; return 0; }
static bool sent(void *c) { (void)c; return true; }
static void hash_begin(void *c) { (void)c; rcp_sha256_begin(&hash); }
static void hash_end(void *c, uint8_t digest[32]) { (void)c; rcp_sha256_end(&hash, digest); }
static bool activate(void *c, const uint8_t s[32], uint32_t size, uint16_t trial_s) { (void)c, (void)s, (void)size, (void)trial_s; return true; }
static bool confirm(void *c) { (void)c; return true; }
static void restart(void *c) { (void)c; }

/* ---- the gateway ---- */

static uint32_t crc32(const uint8_t *data, uint32_t size)
{
    uint32_t crc = 0xFFFFFFFFu;
    for (uint32_t i = 0; i < size; i++) {
        crc ^= data[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ ((crc & 1) != 0 ? 0xEDB88320u : 0);
    }
    return ~crc;
}

static uint32_t encode(uint8_t *out, uint8_t *content, uint32_t size)
{
    const uint32_t crc = crc32(content, size);
    uint32_t code = 1, to = 2;
    memcpy(content + size, &crc, 4);
    out[0] = 0;
    for (uint32_t i = 0; i < size + 4; i++) {
        if (content[i] != 0)
            out[to++] = content[i];
        if (content[i] == 0 || to - code == 255) {
            out[code] = (uint8_t)(to - code);
            code = to++;
        }
    }
    out[code] = (uint8_t)(to - code);
    out[to] = 0;
    return to + 1;
}

static void feed(const uint8_t *bytes, uint32_t size)
{
    for (uint32_t i = 0; i < size; i++)
        rcp_rx_byte(&rcp, bytes[i]);
    do
        rcp_poll(&rcp);
    while (rcp_has_work(&rcp));
}

static void offer(void)
{
    static const uint8_t REST[] = {0x31, 4, (uint8_t)IMAGE, (uint8_t)(IMAGE >> 8), IMAGE >> 16, 0, 0x32, 5, '1', '.', '0', '.', '1', 0x33, 1, 0};
    uint8_t content[64] = {0x03, SESSION, 0x30, 32}, bytes[80];
    memcpy(content + 4, sha256, 32);
    memcpy(content + 36, REST, sizeof REST);
    feed(bytes, encode(bytes, content, 36 + sizeof REST));
    demand(said[2] == 0x04);
}

static void make_frames(void)
{
    static uint8_t content[MAX_FRAME];
    for (uint32_t i = 0; i < FRAMES; i++) {
        const uint32_t at = i * CHUNK;
        content[0] = 0x40;
        content[1] = SESSION;
        memcpy(content + 2, &at, 4);
        memcpy(content + 6, (const uint8_t *)image + at, CHUNK);
        wire_size[i] = encode(wire[i], content, CHUNK + 6);
    }
}

static void finish(void)
{
    uint8_t content[8] = {0x07, SESSION}, bytes[16];
    feed(bytes, encode(bytes, content, 2));
    demand(said[2] == (hashes ? 0x08 : 0x13)); /* FINISHED; without a hash the digest is wrong */
}

static void receive(uint32_t write_unit, uint32_t limit, const char *what)
{
    const rcp_port_t port = {
        .frame = (uint8_t *)frame, .unit = (uint8_t *)unit, .ring = ring, .flash_read = flash_read, .flash_write = flash_write,
        .flash_erase = flash_erase, .now_ms = now_ms, .send = send, .sent = sent, .sha256_begin = hash_begin, .sha256_add = hash_add,
        .sha256_end = hash_end, .activate = activate, .confirm = confirm, .restart = restart, .ring_size = sizeof ring,
        .max_frame = MAX_FRAME, .write_unit = write_unit, .window = CHUNK, .erase_block = BLOCK, .slot = 2 * BLOCK, .slot_size = IMAGE,
        .journal_area = BLOCK, .erase_ahead = IMAGE, .app_id = "cycles",
    };
    const rcp_boot_t boot = {.boot_id = 1};
    memset(flash, 0xFF, 2 * BLOCK);
    demand(rcp_init(&rcp, &port, &boot) == RCP_OK);
    offer();
    TALK(2, 0, 0, 0);
    for (uint32_t i = 0; i < FRAMES; i++)
        feed(wire[i], wire_size[i]);
    TALK(1, what, IMAGE, limit);
    demand(memcmp((const uint8_t *)flash + 2 * BLOCK, image, IMAGE) == 0);
    TALK(2, 0, 0, 0);
    finish();
    if (hashes)
        TALK(1, "answering FINISH, in all", 1, FINISH_LIMIT);
}

static void start(void)
{
    uint32_t random = 1;
    for (uint32_t i = 0; i < IMAGE / 4; i++) {
        random ^= random << 13;
        random ^= random >> 17;
        random ^= random << 5;
        image[i] = random;
    }
    rcp_sha256_begin(&hash);
    TALK(2, 0, 0, 0);
    rcp_sha256_add(&hash, (const uint8_t *)image, IMAGE);
    TALK(1, "SHA-256, a byte", IMAGE, 215);
    rcp_sha256_end(&hash, sha256);
    make_frames();
    receive(4, 400, "receiving with a write unit of 4, a byte");
    receive(64, 300, "receiving with a write unit of 64, a byte");
    hashes = true;
    receive(64, 515, "receiving with a write unit of 64 and SHA-256, a byte");
    TALK(0, 0, 0, 0);
}

__attribute__((section(".vectors"), used)) static const struct {
    uint32_t stack;
    void (*start)(void);
} VECTORS = {0x200F0000, start};
