/*
 * RCP, the resumable chunk protocol: the receiver for firmware (docs/protocol.md is normative, README.md is the porting guide).
 *
 * Fill an rcp_port_t, call rcp_init() once after every restart, feed received bytes to rcp_rx_byte() from the interrupt and call
 * rcp_poll() from the main loop. Needs no heap, no operating system and nothing of libc but memcmp, memcpy, memmove, memset and strlen.
 * Needs a processor with an int of 32 bits or more: rcp.c does not compile for others.
 */
#ifndef RCP_H
#define RCP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

#define RCP_VERSION_MAJOR 0
#define RCP_VERSION_MINOR 1
#define RCP_VERSION_PATCH 0
#define RCP_VERSION (RCP_VERSION_MAJOR * 10000 + RCP_VERSION_MINOR * 100 + RCP_VERSION_PATCH)

/*
 * Options, 0 or 1. Each costs code only where it is on. All files of a firmware need the same ones: they change the structures below, so
 * rcp_start() has another name with each combination, and a file that disagrees with rcp.c does not link. No comment behind a value: Arduino's
 * builder keeps it (-CC), and it would be pasted into that name.
 */
/* Bluetooth Low Energy: packets, once rcp_connected() was called, instead of bytes. */
#ifndef RCP_BLE
#define RCP_BLE 0
#endif
/* rcp_port_t.event is called when something happens. */
#ifndef RCP_EVENTS
#define RCP_EVENTS 0
#endif
/* Erase blocks differ in size: rcp_port_t.block_size tells how large each one is. */
#ifndef RCP_BLOCK_SIZES
#define RCP_BLOCK_SIZES 0
#endif

/* Options of rcp.c alone. */
#ifndef RCP_ERASED
#define RCP_ERASED 0xFFu /* a byte of erased flash: 0xFF or 0x00 */
#endif
#ifndef RCP_HASH_MS
#define RCP_HASH_MS 10u /* one rcp_poll() reads back and hashes for this long what was in flash before a restart */
#endif

/* Put before the functions that interrupts call, for instance to place them in RAM: -DRCP_ISR=IRAM_ATTR. */
#ifndef RCP_ISR
#define RCP_ISR
#endif

#define RCP_FEATURE_SET_BAUD 1u   /* the line's speed can be changed */
#define RCP_FEATURE_TRIAL_BOOT 2u /* the bootloader takes back an image that is not confirmed */
#define RCP_FEATURE_SHORT_DATA 4u /* on packets: DATA without CRC, 17 of 20 bytes of it image */

#define RCP_DATA_OVERHEAD 10u /* max_frame = chunk + this */
#define RCP_LEAST_CHUNK 17u   /* in the smallest packet */
#define RCP_MIN_FRAME 138u
#define RCP_INFO_MAX 380u     /* INFO is put together in the frame buffer, as it goes on the line; send() gets no more at once */
#define RCP_FRAME_LEAD 2u     /* free bytes before a frame in its buffer */
#define RCP_FRAME_BUFFER(max_frame) ((max_frame) + RCP_FRAME_LEAD > RCP_INFO_MAX ? (max_frame) + RCP_FRAME_LEAD : RCP_INFO_MAX)

/* What the OFFER hook may answer, other than 0 (take it) or an error code of protocol.md (RCP_REFUSED fits most). */
#define RCP_REFUSED 0x030Bu
#define RCP_NOT_NOW(seconds, reason) ((uint32_t)(seconds) << 16 | (reason)) /* 1 to 32767 s */

typedef struct {
    const uint8_t *sha256; /* 32 bytes */
    uint32_t size;
    const char *version; /* not terminated */
    uint32_t version_size;
} rcp_offer_t;

/* Why rcp_init() does not take a port. RCP_OK is 0. */
typedef enum {
    RCP_OK,
    RCP_MISSING,         /* something is NULL that is needed: frame to restart in rcp_port_t, or app_id */
    RCP_BAD_WRITE_UNIT,  /* not a power of two up to 32768, or larger than erase_block */
    RCP_BAD_ERASE_BLOCK, /* not a power of two; with RCP_BLOCK_SIZES: one that is no multiple of write_unit, or larger than erase_block */
    RCP_BAD_SLOT,        /* not whole erase blocks, or empty, or beyond 32-bit addresses */
    RCP_BAD_JOURNAL,     /* not whole erase blocks, an area too small, or the journal overlaps the slot */
    RCP_BAD_MAX_FRAME,   /* not RCP_MIN_FRAME to 65535 */
    RCP_BAD_RING,        /* no room for one frame: ring_size is at least RCP_MIN_FRAME + 1 */
    RCP_BAD_WINDOW,      /* less than a chunk: max_frame - RCP_DATA_OVERHEAD, or with RCP_BLE RCP_LEAST_CHUNK */
    RCP_BAD_ERASE_AHEAD, /* less than an erase block, or no number at all with window added */
    RCP_BAD_TEXT,        /* a text is empty or too long */
    RCP_BAD_BAUD         /* RCP_FEATURE_SET_BAUD without its two callbacks */
} rcp_reason_t;

#if RCP_EVENTS
/* What has happened, with a number. */
typedef enum {
    RCP_EVENT_OFFER,     /* an image was offered and is taken: its size */
    RCP_EVENT_STARTED,   /* the transfer begins, or goes on: the offset it begins at */
    RCP_EVENT_PROGRESS,  /* bytes that a restart would not lose */
    RCP_EVENT_STAGED,    /* the image is whole, and its SHA-256 is right: its size */
    RCP_EVENT_RESTART,   /* restart() follows: 0 to start the new image, 1 because nobody confirmed the one on trial in time */
    RCP_EVENT_CONFIRMED, /* the running image stays: 0 */
    RCP_EVENT_ERROR      /* the code that the gateway is told (docs/protocol.md, section 2) */
} rcp_event_t;
#endif

/*
 * Everything the porter gives that is the same at each start. Best a static const: then it takes no RAM, and checking it no code. It has to
 * stay valid; nothing in it is changed by the receiver. Callbacks get `context`; those that
 * return bool say whether it worked. Flash addresses are the porter's own: they are handed back as they were given, plus an offset.
 * Flash sizes are multiples of erase_block, which is a power of two (but see RCP_BLOCK_SIZES).
 */
typedef struct {
    void *context;

    /* Memory. From here to restart() everything is needed, and app_id. */
    uint8_t *frame; /* RCP_FRAME_BUFFER(max_frame) bytes */
    uint8_t *unit;  /* write_unit bytes, aligned as flash_write() wants them */
    uint8_t *ring;  /* ring_size bytes */

    bool (*flash_read)(void *context, uint32_t address, uint8_t *to, uint32_t size); /* false: not readable (torn ECC word) */
    bool (*flash_write)(void *context, uint32_t address, const uint8_t *from, uint32_t size); /* one write unit */
    bool (*flash_erase)(void *context, uint32_t address);                                     /* one erase block */
#if RCP_BLOCK_SIZES
    uint32_t (*block_size)(void *context, uint32_t address); /* of the erase block that begins there */
#endif

    uint32_t (*now_ms)(void *context);                               /* may wrap */
    void (*send)(void *context, const uint8_t *data, uint32_t size); /* one frame with its delimiters, or one packet: take it all */
    bool (*sent)(void *context);                                     /* the last bit has left the line */

    /* One SHA-256 at a time, over a whole transfer: rcp_sha256.h, or hardware that nobody else uses meanwhile. */
    void (*sha256_begin)(void *context);
    void (*sha256_add)(void *context, const uint8_t *data, uint32_t size);
    void (*sha256_end)(void *context, uint8_t digest[32]);

    bool (*activate)(void *context, const uint8_t sha256[32], uint32_t size, uint16_t trial_s); /* set the boot flag */
    bool (*confirm)(void *context); /* the running image is good: never take it back */
    void (*restart)(void *context); /* may return, and be called again */

    /* Sizes. */
    uint32_t ring_size;  /* of the buffer: sizeof ring; it holds one byte less */
    uint32_t max_frame;  /* at most 65535 */
    uint32_t write_unit; /* what flash_write() takes: a power of two, at least what the flash can write at once */
    uint32_t window;     /* payload bytes the gateway may have under way */

    /* Flash. */
    uint32_t erase_block;  /* with RCP_BLOCK_SIZES: the largest */
    uint32_t slot;         /* the free slot, where the image goes */
    uint32_t slot_size;
    uint32_t journal;      /* two areas, one behind the other */
    uint32_t journal_area; /* bytes of each */
    /* Erased beyond the window: at least one erase block. A device that is deaf while it erases says slot_size. */
    uint32_t erase_ahead;
    uint32_t erase_ms; /* to erase one block, at worst */

    uint32_t features;
    uint32_t (*offer)(void *context, const rcp_offer_t *offer); /* NULL: take every image */
#if RCP_EVENTS
    void (*event)(void *context, rcp_event_t event, uint32_t value); /* NULL: not told. Must not call the receiver */
#endif

    /* The line's speed; the two callbacks only with RCP_FEATURE_SET_BAUD. */
    uint32_t base_baud;
    uint32_t (*baud_possible)(void *context, uint32_t baud); /* what the line would really run at, 0: cannot */
    void (*set_baud)(void *context, uint32_t baud);

    /* Who this is. Texts are terminated; NULL: not reported, where it is not needed. */
    const char *app_id;      /* 1 to 64 bytes */
    const char *hardware_id; /* 1 to 64 bytes */
    const char *device_id;   /* 1 to 32 bytes */
    const char *version;     /* "M.m.p", of the running image: 5 to 62 bytes */

    uint32_t boot_time_s;  /* the longest time from restart to HELLO answered */
    uint32_t slot_address; /* of the free slot, for images that are linked to an address */
    bool has_slot_address;
} rcp_port_t;

/* What may be another at each start. It has to stay valid, too. */
typedef struct {
    const uint8_t *running_sha256;  /* 32 bytes, of the running image's file; NULL: unknown */
    const uint8_t *reverted_sha256; /* 32 bytes, of the image the bootloader took back last; NULL: none, or it does not tell */
    uint32_t boot_id;               /* another one after every restart: random, or counted in flash */
    bool on_trial;                  /* the bootloader takes the running image back unless it is confirmed */
} rcp_boot_t;

/* What is remembered over restarts, as it lies at the beginning of a journal area. */
typedef struct {
    uint32_t generation; /* 0: nothing was ever written */
    uint32_t size;       /* of the image being received; 0: there is none */
    uint32_t durable;    /* so much of it survives a restart */
    uint32_t crc;        /* CRC-32 of that, read back */
    uint16_t trial_s;    /* how long the image tried last may run without CONFIRM */
    uint8_t tried_count; /* 0: none was tried */
    uint8_t tried_end;   /* what became of it: enum tried_end in rcp.c */
    uint8_t sha256[32];  /* of the image being received */
    uint8_t tried_sha256[32];
    uint32_t record_crc;
} rcp_journal_t;

/* How far the image has come: as it lies behind the journal's copy. */
typedef struct {
    uint32_t durable, crc, record_crc;
} rcp_mark_t;

/* The receiver's state: the porter only makes room for it. Small fields come first: a Cortex-M0 reaches them with shorter instructions. */
typedef struct {
    uint8_t state, session, asked, image_state;
    uint8_t cobs_left;
    bool cobs_zero;
    bool pass_nak;  /* NAK was said in this pass */
    uint8_t silence_s; /* at a raised speed: so long without a frame leads back to base_baud */
    bool raised;    /* the speed goes back to base_baud when nothing is heard */
    bool busy_due;
    bool unsaved;   /* `journal` has something that its record in flash has not */
#if RCP_BLE
    uint8_t next_fragment;
    uint8_t quiet;   /* DATA taken and not acknowledged yet */
    uint32_t packet; /* most bytes of one; 0: the link is a stream */
    uint32_t told;   /* `received`, as the gateway was told last */
#endif
    const rcp_port_t *port;
    const rcp_boot_t *boot;
    uint8_t *volatile ring; /* NULL until rcp_init() is done: nothing is taken */
    volatile uint32_t ring_in, ring_out;
    uint32_t frame_size;
    uint32_t received, written, written_crc, erased, credit;
    uint32_t chunk;     /* size of the last DATA */
    uint32_t pass_next; /* offset of the DATA before, and one */
    uint32_t hashed;
    uint32_t next_durable, next_crc; /* what the next record says of it */
    uint32_t area, mark_at; /* the journal area in use; where in it the next mark goes */
    uint32_t spare;         /* how much of the other area is erased */
    uint32_t now_ms, heard_ms, session_ms, busy_ms, idle_ms;
    rcp_journal_t journal;
    uint32_t hello_gateway, session_gateway; /* CRC-32 of their ids */
    uint32_t next_baud, started_ms;
} rcp_t;

#define RCP_JOIN(ble, events, blocks) rcp_start_ble##ble##_events##events##_blocks##blocks
#define RCP_NAME(ble, events, blocks) RCP_JOIN(ble, events, blocks)
#define rcp_start RCP_NAME(RCP_BLE, RCP_EVENTS, RCP_BLOCK_SIZES)

#ifdef __GNUC__
#define RCP_INLINE static inline __attribute__((always_inline))
#else
#define RCP_INLINE static inline
#endif

#if RCP_BLOCK_SIZES
bool rcp_are_edges(const rcp_port_t *p, uint32_t address, uint32_t size);
#else
/* Whether erase blocks begin at both edges of it. */
RCP_INLINE bool rcp_are_edges(const rcp_port_t *p, uint32_t address, uint32_t size)
{
    return ((address | size) & (p->erase_block - 1)) == 0;
}
#endif

RCP_INLINE bool rcp_is_within(uint32_t n, uint32_t least, uint32_t most)
{
    return n >= least && n <= most;
}

RCP_INLINE bool rcp_is_power_of_two(uint32_t n)
{
    return n != 0 && (n & (n - 1)) == 0;
}

RCP_INLINE bool rcp_has_length(const char *text, uint32_t least, uint32_t most)
{
    return text == NULL || rcp_is_within((uint32_t)strlen(text), least, most);
}

RCP_INLINE bool rcp_has_all(const rcp_port_t *p)
{
#if RCP_BLOCK_SIZES
    if (p->block_size == NULL)
        return false;
#endif
    return p->frame != NULL && p->unit != NULL && p->ring != NULL && p->flash_read != NULL && p->flash_write != NULL &&
           p->flash_erase != NULL && p->now_ms != NULL && p->send != NULL && p->sent != NULL && p->sha256_begin != NULL &&
           p->sha256_add != NULL && p->sha256_end != NULL && p->activate != NULL && p->confirm != NULL && p->restart != NULL &&
           p->app_id != NULL;
}

RCP_INLINE bool rcp_journal_fits(const rcp_port_t *p)
{
    const uint32_t area = p->journal_area, least = p->write_unit > 128 ? 2 * p->write_unit : 256;
    return rcp_is_within(area, least, UINT32_MAX / 2) && 2 * area - 1 <= UINT32_MAX - p->journal &&
           rcp_are_edges(p, p->journal, area) && rcp_are_edges(p, p->journal + area, area) &&
           p->journal - p->slot >= p->slot_size && p->slot - p->journal >= 2 * area;
}

/* Whether the port can be used; touches nothing. Of a constant port the compiler makes nothing of it. */
RCP_INLINE rcp_reason_t rcp_check(const rcp_port_t *p)
{
    if (!rcp_has_all(p))
        return RCP_MISSING;
    if (!rcp_is_power_of_two(p->write_unit) || p->write_unit > 32768 || p->write_unit > p->erase_block)
        return RCP_BAD_WRITE_UNIT;
    if (!RCP_BLOCK_SIZES && !rcp_is_power_of_two(p->erase_block))
        return RCP_BAD_ERASE_BLOCK;
    if (p->slot_size == 0 || p->slot_size - 1 > UINT32_MAX - p->slot || !rcp_are_edges(p, p->slot, p->slot_size))
        return RCP_BAD_SLOT;
    if (!rcp_journal_fits(p))
        return RCP_BAD_JOURNAL;
    if (!rcp_is_within(p->max_frame, RCP_MIN_FRAME, 65535))
        return RCP_BAD_MAX_FRAME;
    if (p->ring_size <= RCP_MIN_FRAME)
        return RCP_BAD_RING;
    if (p->window < (RCP_BLE ? RCP_LEAST_CHUNK : p->max_frame - RCP_DATA_OVERHEAD))
        return RCP_BAD_WINDOW;
    if (!rcp_is_within(p->erase_ahead, p->erase_block, UINT32_MAX - p->window))
        return RCP_BAD_ERASE_AHEAD;
    if (!rcp_has_length(p->app_id, 1, 64) || !rcp_has_length(p->hardware_id, 1, 64) || !rcp_has_length(p->device_id, 1, 32) ||
        !rcp_has_length(p->version, 5, 62))
        return RCP_BAD_TEXT;
    if ((p->features & RCP_FEATURE_SET_BAUD) != 0 && (p->baud_possible == NULL || p->set_baud == NULL))
        return RCP_BAD_BAUD;
    return RCP_OK;
}

/* What rcp_init() does; NULL for a port: nothing is taken and nothing done from now on. Not to be called without rcp_check(). */
void rcp_start(rcp_t *r, const rcp_port_t *port, const rcp_boot_t *boot);

/*
 * Checks the port, then reads the journal. Anything but RCP_OK: the receiver takes nothing and does nothing. Before it, with an rcp_t that is
 * zeroed (as static ones are), all functions are safe to call and do nothing, so interrupts may be enabled first.
 */
RCP_INLINE rcp_reason_t rcp_init(rcp_t *r, const rcp_port_t *port, const rcp_boot_t *boot)
{
    const rcp_reason_t reason = rcp_check(port);
    rcp_start(r, reason == RCP_OK ? port : NULL, boot);
    return reason;
}

/* A received byte, from the interrupt. False: the ring is full and the byte is lost (which the protocol repairs). */
RCP_ISR bool rcp_rx_byte(rcp_t *r, uint8_t byte);

#if RCP_BLE
/*
 * A gateway has connected, or the connection has another MTU: packets have at most ATT MTU - 3 bytes. What was begun is forgotten. To be
 * called where rcp_poll() is called, after each restart, too. From now on send() gets one packet a call.
 */
void rcp_connected(rcp_t *r, uint32_t max_packet);

/* A received packet, from the interrupt or the radio's task. False: there is no room and it is lost (which the protocol repairs). */
RCP_ISR bool rcp_rx_packet(rcp_t *r, const uint8_t *packet, uint32_t size);
#endif

/* Work: at most one frame, and one erase block or RCP_HASH_MS of SHA-256. */
void rcp_poll(rcp_t *r);

/* So long rcp_poll(), which was just called, has nothing to do when no byte comes; UINT32_MAX: for ever. */
static inline uint32_t rcp_idle_ms(const rcp_t *r)
{
    return r->idle_ms;
}

/*
 * Whether rcp_poll() has something to do now. To sleep without missing a byte, ask with interrupts disabled, and wait for one while they are
 * (WFI wakes up all the same): docs/line.md.
 */
static inline bool rcp_has_work(const rcp_t *r)
{
    return r->idle_ms == 0 || r->ring_in != r->ring_out;
}

#ifdef __cplusplus
}
#endif
#endif
