/*
 * RCP, the resumable chunk protocol: the receiver for firmware (docs/protocol.md is normative, README.md is the porting guide).
 *
 * Fill an rcp_port_t, call rcp_init() once after every restart, feed received bytes to rcp_rx_byte() from the interrupt and call
 * rcp_poll() from the main loop. Needs no heap, no operating system and nothing of libc but memcmp, memcpy, memmove, memset and strlen.
 */
#ifndef RCP_H
#define RCP_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define RCP_FEATURE_SET_BAUD 1u   /* the line's speed can be changed */
#define RCP_FEATURE_TRIAL_BOOT 2u /* the bootloader takes back an image that is not confirmed */
#define RCP_FEATURE_SHORT_DATA 4u /* on packets: DATA without CRC, 17 of 20 bytes of it image */

/* Define it as 1 for Bluetooth Low Energy: packets, where rcp_connected() was called, instead of bytes. */
#ifndef RCP_BLE
#define RCP_BLE 0
#endif

#define RCP_DATA_OVERHEAD 10u /* max_frame = chunk + this */
#define RCP_MIN_FRAME 138u
#define RCP_INFO_MAX 380u     /* INFO is put together in the frame buffer */
#define RCP_FRAME_BUFFER(max_frame) ((max_frame) > RCP_INFO_MAX ? (max_frame) : RCP_INFO_MAX)

/* What the OFFER hook may answer, other than 0 (take it) or an error code of protocol.md (RCP_REFUSED fits most). */
#define RCP_REFUSED 0x030Bu
#define RCP_NOT_NOW(seconds, reason) ((uint32_t)(seconds) << 16 | (reason)) /* 1 to 32767 s */

typedef struct {
    const uint8_t *sha256; /* 32 bytes */
    uint32_t size;
    const char *version; /* not terminated */
    uint32_t version_size;
} rcp_offer_t;

/*
 * Everything the porter gives. It has to stay valid; nothing in it is changed by the receiver. Callbacks get `context`; those that
 * return bool say whether it worked. Flash addresses are the porter's own: they are handed back as they were given, plus an offset.
 * Flash is 0xFF when erased; its sizes are multiples of erase_block, which is a power of two.
 */
typedef struct {
    void *context;

    /* Memory. */
    uint8_t *frame; /* RCP_FRAME_BUFFER(max_frame) bytes */
    uint8_t *unit;  /* write_unit bytes, aligned as flash_write() wants them */
    uint8_t *ring;  /* ring_size + 1 bytes */
    uint32_t ring_size;  /* received wire bytes it holds */
    uint32_t max_frame;  /* at most 65535 */
    uint32_t write_unit; /* what flash_write() takes: a power of two, at least what the flash can write at once */
    uint32_t window;     /* payload bytes the gateway may have under way */

    /* Flash. */
    uint32_t erase_block;
    uint32_t slot; /* the free slot, where the image goes */
    uint32_t slot_size;
    uint32_t journal;      /* two areas, one behind the other */
    uint32_t journal_area; /* bytes of each */
    /* Erased beyond the window: at least one erase block. A device that is deaf while it erases says slot_size. */
    uint32_t erase_ahead;
    uint32_t erase_ms; /* to erase one block, at worst */
    bool (*flash_read)(void *context, uint32_t address, uint8_t *to, uint32_t size); /* false: not readable (torn ECC word) */
    bool (*flash_write)(void *context, uint32_t address, const uint8_t *from, uint32_t size); /* one write unit */
    bool (*flash_erase)(void *context, uint32_t address);                                     /* one erase block */

    uint32_t (*now_ms)(void *context);                               /* may wrap */
    void (*send)(void *context, const uint8_t *data, uint32_t size); /* take it all: wait, or have room for one frame */
    bool (*sent)(void *context);                                     /* the last bit has left the line */

    void (*sha256_begin)(void *context);
    void (*sha256_add)(void *context, const uint8_t *data, uint32_t size);
    void (*sha256_end)(void *context, uint8_t digest[32]);

    uint32_t (*offer)(void *context, const rcp_offer_t *offer); /* NULL: take every image */
    bool (*activate)(void *context, const uint8_t sha256[32], uint32_t size, uint16_t trial_s); /* set the boot flag */
    bool (*confirm)(void *context); /* the running image is good: never take it back */
    void (*restart)(void *context); /* may return, and be called again */

    /* The line's speed; the two callbacks only with RCP_FEATURE_SET_BAUD. */
    uint32_t base_baud;
    uint32_t (*baud_possible)(void *context, uint32_t baud); /* what the line would really run at, 0: cannot */
    void (*set_baud)(void *context, uint32_t baud);

    /* Who this is. Texts are terminated; NULL: not reported (app_id must be there). */
    const uint8_t *running_sha256;  /* of the running image's file, or NULL: unknown */
    const uint8_t *reverted_sha256; /* of the image the bootloader took back last; NULL: none, or it does not tell */
    const char *app_id;             /* 1 to 64 bytes */
    const char *hardware_id;        /* 1 to 64 bytes */
    const char *device_id;          /* 1 to 32 bytes */
    const char *version;            /* "M.m.p", of the running image */
    uint32_t boot_id;               /* another one after every restart: random, or counted in flash */
    uint32_t features;
    uint32_t boot_time_s;  /* the longest time from restart to HELLO answered */
    uint32_t slot_address; /* of the free slot, for images that are linked to an address */
    bool has_slot_address;
    bool on_trial; /* the bootloader takes the running image back unless it is confirmed */
} rcp_port_t;

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

/* The receiver's state: the porter only makes room for it. Small fields come first: a Cortex-M0 reaches them with shorter instructions. */
typedef struct {
    uint8_t state, session, asked, image_state;
    uint8_t cobs_left;
    bool cobs_zero, frame_begun;
    bool pass_nak;  /* NAK was said in this pass */
    bool new_speed; /* nothing was heard at it yet */
    bool busy_due;
#if RCP_BLE
    uint8_t next_fragment;
    uint8_t quiet;   /* DATA taken and not acknowledged yet */
    uint32_t packet; /* most bytes of one; 0: the link is a stream */
    uint32_t told;   /* `received`, as the gateway was told last */
#endif
    const rcp_port_t *port;
    volatile uint32_t ring_in, ring_out;
    uint32_t frame_size;
    uint32_t received, written, written_crc, erased, credit;
    uint32_t chunk;     /* size of the last DATA */
    uint32_t pass_next; /* offset of the DATA before, and one */
    uint32_t hashed;
    uint32_t area, mark_at; /* the journal area in use; where in it the next mark goes */
    uint32_t hello_gateway, session_gateway; /* CRC-32 of their ids */
    uint32_t baud, next_baud;
    uint32_t now_ms, started_ms, heard_ms, session_ms, busy_ms, idle_ms;
    rcp_journal_t journal;
} rcp_t;

/* Whether the port's numbers fit together. They are constants: a compiler makes nothing of it. */
static inline bool rcp_fits(const rcp_port_t *p)
{
    const uint32_t block = p->erase_block - 1, unit = p->write_unit - 1;
    return p->write_unit > 0 && (p->write_unit & unit) == 0 && p->erase_block >= p->write_unit && (p->erase_block & block) == 0 &&
           ((p->slot_size | p->journal_area) & block) == 0 && p->journal_area >= 256 && p->journal_area >= 2 * p->write_unit &&
           p->max_frame >= RCP_MIN_FRAME && p->max_frame <= 65535 && p->ring_size >= RCP_MIN_FRAME && p->window > 0 &&
           p->erase_ahead >= p->erase_block && p->erase_ahead <= UINT32_MAX - p->window;
}

void rcp_start(rcp_t *r, const rcp_port_t *port);

/* Reads the journal. False: the port's numbers do not fit together. */
static inline bool rcp_init(rcp_t *r, const rcp_port_t *port)
{
    if (!rcp_fits(port))
        return false;
    rcp_start(r, port);
    return true;
}

/* A received byte, from the interrupt. False: the ring is full and the byte is lost (which the protocol repairs). */
bool rcp_rx_byte(rcp_t *r, uint8_t byte);

#if RCP_BLE
/*
 * A gateway has connected, or the connection has another MTU: packets have at most ATT MTU - 3 bytes. What was begun is forgotten. To be
 * called where rcp_poll() is called, after each restart, too. From now on send() gets one packet a call.
 */
void rcp_connected(rcp_t *r, uint32_t max_packet);

/* A received packet, from the interrupt or the radio's task. False: there is no room and it is lost (which the protocol repairs). */
bool rcp_rx_packet(rcp_t *r, const uint8_t *packet, uint32_t size);
#endif

/* Work: at most one frame, and one erase block or 64 bytes of SHA-256. */
void rcp_poll(rcp_t *r);

/* So long rcp_poll(), which was just called, has nothing to do when no byte comes; UINT32_MAX: for ever. */
static inline uint32_t rcp_idle_ms(const rcp_t *r)
{
    return r->idle_ms;
}

#ifdef __cplusplus
}
#endif
#endif
