/*
 * fuzz FRAMES [SEED]: noise, whole frames with random bodies, broken flash, power cuts, at random times, over several geometries. Between
 * them, in whatever state the receiver is, a proper update has to go through. Built with sanitizers by `make asan-test`.
 *
 * With RCP_LIBFUZZER it is a target for libFuzzer, which makes the choices (`make libfuzzer`): each is two bytes of its input.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../rcp.h"
#include "../rcp_sha256.h"
#include "gateway.h"

enum { ROUND = 500, MOST_BODY = 160, MOST_IMAGE = 20000, SLOT = 65536, DATA_TYPE = 0x40, DATA_SESSION = 0x5A,
       STEP_IMAGE = 384, STEP_CHUNK = 128 };

static uint32_t random_state;
static const uint8_t *choices; /* libFuzzer's; after them zeros */
static size_t choices_left;

static uint32_t below(uint32_t limit)
{
    if (choices != NULL) {
        uint32_t choice = 0;
        for (uint32_t i = 0; i < 2 && choices_left > 0; i++, choices_left--)
            choice = choice << 8 | *choices++;
        return choice % limit;
    }
    random_state ^= random_state << 13;
    random_state ^= random_state >> 17;
    random_state ^= random_state << 5;
    return random_state % limit;
}

static void fill(uint8_t *bytes, uint32_t size)
{
    while (size > 0)
        bytes[--size] = (uint8_t)below(256);
}

/* A body that is nearly right: tags with their sizes, at times changed or cut. */
static uint32_t make_tags(uint8_t *body)
{
    static const uint8_t TAGS[][2] = {{0x01, 4}, {0x02, 1}, {0x03, 1},  {0x04, 4}, {0x30, 32}, {0x31, 4},
                                      {0x32, 5}, {0x33, 1}, {0x34, 0}, {0x35, 0}, {0x7F, 3},  {0x80, 1}};
    uint32_t size = 0;
    for (uint32_t i = 0; i < sizeof TAGS / sizeof *TAGS && size < MOST_BODY - 40; i++) {
        if (below(4) == 0)
            continue;
        body[size] = TAGS[i][0];
        body[size + 1] = below(16) == 0 ? (uint8_t)below(256) : TAGS[i][1];
        memset(body + size + 2, (int)below(3), TAGS[i][1]);
        size += 2u + TAGS[i][1];
    }
    return below(4) == 0 ? below(size + 1) : size;
}

static uint32_t make_frame(const gateway_t *g, uint8_t *frame)
{
    static const uint8_t TYPES[] = {0x01, 0x03, 0x03, 0x07, 0x09, 0x0B, 0x0D, 0x11, DATA_TYPE, DATA_TYPE, DATA_TYPE};
    static const uint8_t SIZES[] = {0, 1, 4, 8, 38, 60};
    uint32_t size;
    frame[0] = below(8) == 0 ? (uint8_t)below(256) : TYPES[below(sizeof TYPES)];
    frame[1] = below(4) == 0 ? (uint8_t)below(256) : below(3) == 0 ? 0 : DATA_SESSION;
    if (frame[0] == 0x01 || frame[0] == 0x03 || frame[0] == 0x0B)
        return 2 + make_tags(frame + 2);
    size = SIZES[below(sizeof SIZES)];
    fill(frame + 2, size);
    if (frame[0] == DATA_TYPE && size >= 4 && below(2) == 0) /* somewhere near of what is wanted */
        memcpy(frame + 2, &(uint32_t){(g->view->durable + below(5000)) & ~7u}, 4);
    return 2 + size;
}

static void send_frame(gateway_t *g)
{
    uint8_t frame[MOST_BODY + 16], wire[2 * MOST_BODY];
    uint32_t size = make_frame(g, frame);
    if (g->setup.packet != 0) {
        gateway_send(g, frame, size, below(20));
        return;
    }
    size = gateway_encode(wire, frame, size);
    switch (below(8)) {
    case 0: /* a bit falls over */
        wire[below(size)] ^= (uint8_t)(1u << below(8));
        break;
    case 1: /* the end is missing */
        size = below(size);
        break;
    default:
        break;
    }
    gateway_feed(g, wire, size);
}

/* A fragment, or an image's bytes without a frame around them. */
static void make_packet(const gateway_t *g, uint8_t *packet)
{
    packet[0] = (uint8_t)(below(2) == 0 ? 0x60 + below(32) : 0x80u + (below(4) == 0 ? below(128) : DATA_SESSION));
    if (packet[0] >= 0x80)
        memcpy(packet + 1, &(uint16_t){(uint16_t)(g->view->durable + below(5000))}, 2);
}

enum step { STEP_OFFER, STEP_FINISH = 1 + STEP_IMAGE / STEP_CHUNK, STEP_ACTIVATE };

static uint32_t make_step(const gateway_t *g, uint32_t step, const uint8_t *image, const uint8_t *sha256, uint8_t *frame)
{
    static const uint8_t REST[] = {0x31, 4, STEP_IMAGE & 255, STEP_IMAGE >> 8, 0, 0, 0x32, 5, '1', '.', '0', '.', '2', 0x33, 1, 0};
    const uint32_t at = (step - 1) * STEP_CHUNK;
    frame[1] = DATA_SESSION;
    switch (step) {
    case STEP_OFFER:
        memcpy(frame, (const uint8_t[]){0x03, DATA_SESSION, 0x30, 32}, 4);
        memcpy(frame + 4, sha256, 32);
        memcpy(frame + 36, REST, sizeof REST);
        return 36 + sizeof REST;
    case STEP_FINISH:
        frame[0] = 0x07;
        return 2;
    case STEP_ACTIVATE:
        frame[0] = 0x09;
        memcpy(frame + 2, sha256, 32);
        memcpy(frame + 34, (const uint8_t[]){(uint8_t)g->boot_id, (uint8_t)(g->boot_id >> 8), 0, 0, 60, 0}, 6);
        return 40;
    default:
        frame[0] = DATA_TYPE;
        memcpy(frame + 2, (const uint8_t[]){(uint8_t)at, (uint8_t)(at >> 8), 0, 0}, 4);
        memcpy(frame + 6, image + at, STEP_CHUNK);
        return 6 + STEP_CHUNK;
    }
}

/* A real update, with at times a byte changed or a step left out: noise alone never gets an image as far as its start. */
static void send_update(gateway_t *g)
{
    uint8_t image[STEP_IMAGE] = {(uint8_t)below(4)}, frame[MOST_BODY + 16], wire[2 * MOST_BODY], sha256[32];
    rcp_sha256_t hash;
    rcp_sha256_begin(&hash);
    rcp_sha256_add(&hash, image, sizeof image);
    rcp_sha256_end(&hash, sha256);
    image[below(STEP_IMAGE)] ^= (uint8_t)(below(2) << 5);
    for (uint32_t step = STEP_OFFER; step <= STEP_ACTIVATE; step++) {
        if (below(16) == 0)
            continue;
        gateway_feed(g, wire, gateway_encode(wire, frame, make_step(g, step, image, sha256, frame)));
        gateway_wait(g, below(8) == 0 ? 0 : 100);
    }
}

static void send_noise(gateway_t *g)
{
    uint8_t bytes[3000];
    uint32_t size = below(below(20) == 0 ? sizeof bytes : 60);
    fill(bytes, size);
    if (g->setup.packet != 0 && below(4) != 0)
        make_packet(g, bytes);
    gateway_feed(g, bytes, size);
}

static void disturb(gateway_t *g)
{
    switch (below(40)) {
    case 0:
        g->view->cut_at = g->view->operations + 1 + below(300);
        break;
    case 1:
        g->view->fail_at = g->view->operations + 1 + below(300);
        break;
    case 2:
        lab_unreadable(g->lab)[below(lab_flash_size(g->lab) / g->setup.write_unit)] = 1;
        break;
    case 3:
        g->view->refuse = below(2) == 0 ? 0x030B : 60u << 16 | 2;
        break;
    case 4:
        gateway_boot(g);
        break;
    default:
        gateway_wait(g, below(8) == 0 ? below(15000) : below(20));
        break;
    }
}

static void calm(gateway_t *g)
{
    g->view->cut_at = g->view->fail_at = g->view->refuse = 0;
    memset(lab_unreadable(g->lab), 0, lab_flash_size(g->lab) / g->setup.write_unit);
    gateway_wait(g, 1000); /* what was activated restarts first */
    if (g->on_trial)
        gateway_boot(g);
}

static void stir(gateway_t *g)
{
    if (below(5) == 0)
        send_noise(g);
    else if (below(20) == 0)
        send_update(g);
    else
        send_frame(g);
    disturb(g);
}

static void one_round(gateway_t *g, uint32_t frames)
{
    static uint8_t image[MOST_IMAGE];
    uint32_t size = 1 + below(MOST_IMAGE);
    fill(image, size);
    for (uint32_t i = 0; i < frames; i++)
        stir(g);
    calm(g);
    gateway_update(g, image, size);
    fill(image, size);
    gateway_update(g, image, size);
}

static lab_setup_t geometry(uint32_t number)
{
#if RCP_BLE
    static const uint32_t PACKETS[] = {0, 20, 244, 512};
#endif
    static const uint32_t FRAMES[] = {138, 266, 1034}, UNITS[] = {1, 8, 32, 256}, BLOCKS[] = {512, 4096, 1024, 2048};
    lab_setup_t s = {.app_id = "fuzz", .hardware_id = "bench", .device_id = "one", .features = 3, .boot_time_s = 2, .base_baud = 115200,
                     .max_baud = 3000000, .slot_size = SLOT, .has_slot_address = 1, .slot_address = 0x8000, .torn_unreadable = 1};
    s.max_frame = FRAMES[number % 3];
    s.write_unit = UNITS[number % 4];
    s.erase_block = BLOCKS[number / 2 % 4];
    s.window = 4 * (s.max_frame - 10);
    s.rx_ring = 4 * s.max_frame;
    s.journal_area = s.erase_block;
    s.erase_ahead = number % 5 == 0 ? SLOT : s.erase_block;
    s.erase_ms = number % 5 == 0 ? 45 : 0;
    s.deaf = s.erase_ms > 0;
    s.seed = number + 1;
#if RCP_BLE
    s.packet = PACKETS[number % 4];
    s.features = s.packet != 0 ? 6 : 3;
#endif
    return s;
}

static void set_up(gateway_t *g, uint32_t number)
{
    memset(g, 0, sizeof *g);
    g->setup = geometry(number);
    g->lab = lab_new(&g->setup);
    demand(g->lab != NULL, "a geometry that does not fit together");
    g->view = lab_view(g->lab);
    g->view->now_ms = UINT32_MAX - below(100000); /* the clock wraps */
    gateway_boot(g);
}

#ifdef RCP_LIBFUZZER
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t image[1500];
    gateway_t g;
    choices = data;
    choices_left = size;
    set_up(&g, below(60));
    while (choices_left > 0)
        stir(&g);
    calm(&g);
    gateway_update(&g, image, sizeof image);
    lab_free(g.lab);
    return 0;
}
#else
int main(int count, char **arguments)
{
    uint32_t frames = count > 1 ? (uint32_t)strtoul(arguments[1], NULL, 0) : 10000, rounds = frames / ROUND + 1;
    random_state = (count > 2 ? (uint32_t)strtoul(arguments[2], NULL, 0) : 1) * 2654435769u | 1u;
    for (uint32_t i = 0; i < rounds; i++) {
        gateway_t g;
        set_up(&g, i);
        one_round(&g, ROUND);
        lab_free(g.lab);
    }
    printf("%u frames and %u updates, %u geometries: sound\n", rounds * ROUND, 2 * rounds, rounds < 60 ? rounds : 60);
    return 0;
}
#endif
