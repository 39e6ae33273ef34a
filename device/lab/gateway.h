/* A plain gateway for the bench: one frame at a time, stop and wait. And a bootloader that swaps, and takes back what is not confirmed. */
#ifndef RCP_LAB_GATEWAY_H
#define RCP_LAB_GATEWAY_H

#include "lab.h"

enum { LAB_FRAME = 2048 }; /* room for any frame of the tests, on the wire too */

typedef struct {
    lab_t *lab;
    lab_view_t *view;
    lab_setup_t setup;
    uint32_t boot_id;
    uint8_t running[32], previous[32], reverted[32];
    bool has_running, has_previous, has_reverted, on_trial;
    uint8_t answer[LAB_FRAME]; /* the last frame but BUSY, without CRC */
    uint32_t answer_size;      /* 0: there was none */
    uint8_t begun[LAB_FRAME];  /* fragments */
    uint32_t begun_size, fragments;
} gateway_t;

/* Prints what is not as it should be, and ends the program. */
void demand(bool is_so, const char *what);

void gateway_boot(gateway_t *g);
void gateway_wait(gateway_t *g, uint32_t ms);
void gateway_feed(gateway_t *g, const uint8_t *bytes, uint32_t size); /* and keeps the last answer */

/* Sends a frame as the link wants it; there has to be room for the CRC behind it. Of its packets one may get lost: 0 the first, and so on. */
void gateway_send(gateway_t *g, uint8_t *frame, uint32_t size, uint32_t lost);
enum { LAB_NOTHING_LOST = 255 };

/* Makes `00 COBS(frame, CRC) 00` of a frame; there has to be room for the CRC behind it. Returns the size. */
uint32_t gateway_encode(uint8_t *wire, uint8_t *frame, uint32_t size);

/* Brings the image in, activates and confirms it. */
void gateway_update(gateway_t *g, const uint8_t *image, uint32_t size);

#endif
