/*
 * RCP, the resumable chunk protocol: the receiver for firmware (docs/protocol.md is normative, README.md is the porting guide).
 *
 * Fill an rcp_port_t, call rcp_init() once after every restart, feed received bytes to rcp_rx_byte() from the interrupt and call
 * rcp_poll() from the main loop. Needs no heap, no operating system and nothing of libc but memcmp, memcpy, memset and strlen.
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

#define RCP_DATA_OVERHEAD 10u /* max_frame = chunk + this */
#define RCP_MIN_FRAME 138u
#define RCP_INFO_MAX 380u     /* INFO is put together in the frame buffer */
#define RCP_FRAME_BUFFER(max_frame) ((max_frame) > RCP_INFO_MAX ? (max_frame) : RCP_INFO_MAX)

/* What the OFFER hook may answer, other than 0 (take it) or an error code of protocol.md (RCP_REFUSED fits most). */
#define RCP_REFUSED 0x030Bu
#define RCP_NOT_NOW(seconds, reason) (0x80000000u | (uint32_t)(reason) << 16 | (uint32_t)(seconds))

typedef struct {
    uint8_t sha256[32];
    uint32_t size;
    const char *version; /* not terminated */
    uint8_t version_size;
} rcp_offer_t;

/*
 * Everything the porter gives. It has to stay valid; nothing in it is changed by the receiver. Callbacks get `context`; those that
 * return bool say whether it worked. Flash addresses are the porter's own: they are handed back as they were given, plus an offset.
 */
typedef struct {
    void *context;

    /* Who this is. Texts are terminated; NULL: not reported (app_id must be there). */
    const char *app_id;            /* 1 to 64 bytes */
    const char *hardware_id;       /* 1 to 64 bytes */
    const char *device_id;         /* 1 to 32 bytes */
    const char *version;           /* "M.m.p", of the running image */
    const uint8_t *running_sha256; /* of the running image's file, or NULL: unknown */
    uint32_t boot_id;              /* another one after every restart: random, or counted in flash */
    bool on_trial;                 /* the bootloader takes the running image back unless it is confirmed */
    const uint8_t *reverted_sha256; /* of the image the bootloader took back last; NULL: none, or it does not tell */
    uint32_t features;
    uint16_t boot_time_s;          /* the longest time from restart to HELLO answered */

    /* Memory. */
    uint8_t *ring; /* received wire bytes; holds one less than its size */
    uint32_t ring_size;
    uint8_t *frame; /* RCP_FRAME_BUFFER(max_frame) bytes */
    uint16_t max_frame;
    uint8_t *unit; /* write_unit bytes, aligned as write() wants them */
    uint16_t write_unit; /* what write() takes: a power of two, at least what the flash can write at once */
    uint32_t window; /* payload bytes the gateway may have under way */

    /* Flash, erased to 0xFF. Sizes are multiples of erase_block, a power of two. */
    uint32_t erase_block;
    uint32_t slot; /* the free slot, where the image goes */
    uint32_t slot_size;
    uint32_t journal; /* two areas, one behind the other */
    uint32_t journal_area; /* bytes of each */
    /* Erased beyond the window: at least one erase block. A device that is deaf while it erases says slot_size. */
    uint32_t erase_ahead;
    uint32_t erase_ms; /* to erase one block, at worst */
    uint32_t slot_address; /* what INFO says of the free slot, for images that are linked to an address */
    bool has_slot_address;

    bool (*flash_read)(void *context, uint32_t address, uint8_t *to, uint32_t size); /* false: not readable (torn ECC word) */
    bool (*flash_write)(void *context, uint32_t address, const uint8_t *from, uint32_t size); /* one write unit */
    bool (*flash_erase)(void *context, uint32_t address);                                     /* one erase block */

    void (*sha256_begin)(void *context);
    void (*sha256_add)(void *context, const uint8_t *data, uint32_t size);
    void (*sha256_end)(void *context, uint8_t digest[32]);

    uint32_t (*now_ms)(void *context);                                 /* may wrap */
    void (*send)(void *context, const uint8_t *data, uint32_t size);   /* take it all: wait, or have room for one frame */
    bool (*sent)(void *context);                                       /* the last bit has left the line */

    /* Only with RCP_FEATURE_SET_BAUD. */
    uint32_t (*baud_possible)(void *context, uint32_t baud); /* what the line would really run at, 0: cannot */
    void (*set_baud)(void *context, uint32_t baud);
    uint32_t base_baud;

    uint32_t (*offer)(void *context, const rcp_offer_t *offer); /* NULL: take every image */
    bool (*activate)(void *context, const uint8_t sha256[32], uint32_t size, uint16_t trial_s); /* set the boot flag */
    bool (*confirm)(void *context); /* the running image is good: never take it back */
    void (*restart)(void *context); /* may return, and be called again */
} rcp_port_t;

/* What the journal keeps. */
typedef struct {
    uint8_t sha256[32]; /* of the image being received */
    uint32_t size;      /* 0: there is none */
    uint32_t durable;   /* so much of it survives a restart */
    uint32_t crc;       /* CRC-32 of that, read back */
    uint8_t tried_sha256[32];
    uint8_t tried_count; /* 0: none */
    uint8_t tried_end;   /* what became of it: enum tried_end in rcp.c */
    uint16_t trial_s;    /* how long it may run without CONFIRM */
} rcp_memory_t;

/* The receiver's state: the porter only makes room for it. */
typedef struct {
    const rcp_port_t *port;
    rcp_memory_t memory;
    uint32_t journal_at;  /* area in use, 0 or 1 */
    uint32_t journal_end; /* where its next record goes */
    uint32_t generation;

    volatile uint32_t ring_in, ring_out;
    uint16_t frame_size;
    uint8_t cobs_left;
    bool cobs_zero, frame_begun, frame_bad;

    uint8_t state, session, asked, image_state;
    bool pass_nak;   /* NAK was said in this pass */
    bool new_speed;  /* nothing was heard at it yet */
    uint16_t unit_fill;
    uint32_t pass_next; /* offset of the DATA before, and one */
    uint32_t chunk;     /* size of the last DATA */
    uint32_t received, written, written_crc, erased, credit;
    uint32_t hashed;
    uint32_t hello_gateway, session_gateway; /* CRC-32 of their ids */
    uint32_t started_ms, heard_ms, session_ms, busy_ms;
    uint32_t baud, next_baud;
} rcp_t;

/* Reads the journal. False: the port's numbers do not fit together. */
bool rcp_init(rcp_t *r, const rcp_port_t *port);

/* A received byte, from the interrupt. False: the ring is full and the byte is lost (which the protocol repairs). */
bool rcp_rx_byte(rcp_t *r, uint8_t byte);

/* Work: at most one frame and one erase block or 1 KiB of SHA-256. */
void rcp_poll(rcp_t *r);

/* So long rcp_poll() has nothing to do when no byte comes; UINT32_MAX: for ever. */
uint32_t rcp_idle_ms(const rcp_t *r);

#ifdef __cplusplus
}
#endif
#endif
