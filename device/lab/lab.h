/*
 * The receiver on a bench: simulated NOR flash and a line that is a buffer. A caller (tests/lab/c_receiver.py, fuzz.c) feeds bytes, moves the
 * clock, and plays the bootloader: it reads from `lab_view_t` what the receiver asked for and boots it again.
 *
 * A power cut is a longjmp out of a flash operation: it leaves the receiver's state as it was in that instant, and the next boot forgets it.
 */
#ifndef RCP_LAB_H
#define RCP_LAB_H

#include <stdbool.h>
#include <stdint.h>

/* What the device is made of. */
typedef struct {
    const char *app_id, *hardware_id, *device_id;
    uint32_t features, boot_time_s, base_baud, max_baud;
    uint32_t max_frame, window, rx_ring;
    uint32_t slot_size, erase_block, write_unit, journal_area, erase_ahead, erase_ms;
    uint32_t has_slot_address, slot_address;
    uint32_t deaf; /* bytes that come while it erases are lost */
    uint32_t torn_unreadable;
    uint32_t seed;
    uint32_t packet; /* the link carries packets of so many bytes (with RCP_BLE); 0: a stream */
} lab_setup_t;

/* How it starts. */
typedef struct {
    const char *version;
    const uint8_t *running_sha256, *reverted_sha256;
    uint32_t boot_id;
    uint32_t on_trial;
} lab_boot_t;

enum lab_cut { LAB_TORN, LAB_BEFORE };
enum { LAB_EVENTS = 64 };

/* What a caller may read and, where it says so, write. */
typedef struct {
    uint32_t now_ms;     /* write */
    uint32_t operations; /* erases, unit writes, boot flag and confirmation */
    uint32_t cut_at;     /* write: power fails at this operation; 0: never */
    uint32_t cut_how;    /* write: enum lab_cut */
    uint32_t fail_at;    /* write: this operation reports a failure; 0: never */
    uint32_t flip_at;    /* write: this write leaves a bit as it was, and says nothing; 0: never */
    uint32_t refuse;     /* write: what the OFFER hook answers */
    uint32_t unsound;    /* times it did what no NOR flash can, promised what is not erased, or started what is not there */
    uint32_t out_size;   /* bytes it has to say */
    uint32_t baud;
    uint32_t idle_ms;     /* as rcp_idle_ms() */
    uint32_t deaf_until;  /* it does nothing before: it erases */
    uint32_t power_lost;  /* since the boot */
    uint32_t restart;     /* it has asked for one */
    uint32_t flag_size;   /* of the image the boot flag is set for; 0: not set */
    uint32_t flag_trial_s;
    uint32_t confirmed;
    uint32_t state;       /* enum state of rcp.c */
    uint32_t durable, erased, generation;
    uint32_t most_erases; /* in one rcp_poll() */
    uint32_t events;      /* told so far, of lab_events() */
    uint8_t flag_sha256[32];
    char offered[64]; /* version of the last OFFER that came to the hook */
} lab_view_t;

typedef struct lab lab_t;

lab_t *lab_new(const lab_setup_t *setup); /* NULL: the numbers do not fit together */
void lab_free(lab_t *lab);
lab_view_t *lab_view(lab_t *lab);
uint8_t *lab_flash(lab_t *lab); /* journal, then slot */
uint8_t *lab_unreadable(lab_t *lab); /* a byte for each write unit of it: not 0: reading fails */
const uint32_t *lab_erases(const lab_t *lab); /* a number for each block of it */
uint32_t lab_flash_size(const lab_t *lab);
const uint32_t *lab_events(const lab_t *lab); /* with RCP_EVENTS: pairs of event and value, the first LAB_EVENTS of them */

void lab_boot(lab_t *lab, const lab_boot_t *boot);
void lab_connect(lab_t *lab, uint32_t packet); /* again, with other packets */
void lab_feed(lab_t *lab, const uint8_t *bytes, uint32_t size); /* a piece of the stream, or a packet */
void lab_queue(lab_t *lab, const uint8_t *bytes, uint32_t size); /* into the ring, and no more */
void lab_run(lab_t *lab); /* until it has nothing to do before a time or a byte comes */
uint32_t lab_take(lab_t *lab, uint8_t *frame, uint32_t room); /* the next frame or packet goes on the line now; its size or 0 */

#endif
