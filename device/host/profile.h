/* What a virtual device is. Sizes in bytes. */
#ifndef HOST_PROFILE_H
#define HOST_PROFILE_H

#include <stdbool.h>
#include <stdint.h>

enum { ID_MOST = 64, DEVICE_ID_MOST = 32, VERSION_MOST = 62 }; /* what INFO carries */

/* Kept in device.json, which wins over the options; geometry too, for flash.bin was laid out by it. An empty text is not reported. */
typedef struct {
    char app_id[ID_MOST + 1];
    char hardware_id[ID_MOST + 1];
    char device_id[DEVICE_ID_MOST + 1];
    bool has_slot_address;
    uint32_t slot_address, slot_size, erase_block, write_unit, base_baud;
} identity_t;

typedef struct {
    identity_t identity;
    char version[VERSION_MOST + 1]; /* at its first start */
    uint16_t max_frame;
    uint32_t window, rx_ring, boot_ms, erase_ms, trial_cap_s;
    uint32_t packet; /* most bytes of one, over a radio; 0: a serial line */
    bool can_revert;
    bool break_after_activate; /* an image on trial never answers */
} profile_t;

/* Texts and numbers as INFO and the receiver take them. NULL when they are, else what is wrong. */
const char *identity_check(const identity_t *identity);
bool version_is_valid(const char *version);
bool text_is_valid(const char *text, unsigned most);

/* Each of the two journal areas: whole erase blocks, at least 1 KiB. The journal comes first, then the free slot. */
uint32_t journal_area(const identity_t *identity);
uint32_t flash_size(const identity_t *identity);

#endif
