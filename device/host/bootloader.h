/*
 * The bootloader of a virtual device: boot flag, swap, trial, revert.
 *
 *     active.bin     the image it runs; absent: the factory image
 *     pending.bin    the image that the boot flag in device.json is set for
 *     previous.bin   what it ran before; absent: the factory image
 *
 * Each change of device.json is one atomic step; moves of files around it can be done twice. So the device may die anywhere. The trial's
 * end is kept as wall clock, so that a trial also ends while nothing runs.
 */
#ifndef HOST_BOOTLOADER_H
#define HOST_BOOTLOADER_H

#include "record.h"
#include "store.h"

typedef struct {
    const store_t *store;
    record_t record;
    bool can_revert;
} bootloader_t;

/* Reads device.json, if there is one; what it says wins over the profile. Writes nothing yet. */
void bootloader_open(bootloader_t *b, const store_t *store, const profile_t *profile);

/* Chooses the image. */
void bootloader_boot(bootloader_t *b, double now);

/* The running image's SHA-256. False for the factory's image, which nobody knows. */
bool bootloader_running_sha256(const bootloader_t *b, uint8_t sha256[32]);

bool bootloader_reverted_sha256(const bootloader_t *b, uint8_t sha256[32]);

bool bootloader_on_trial(const bootloader_t *b);

/* When the running image will be given up; NEVER when it is confirmed. */
double bootloader_trial_ends(const bootloader_t *b);

/* Has `image` started at the next boot. */
void bootloader_set_flag(bootloader_t *b, const uint8_t *image, uint32_t size, const char *version, uint32_t trial_s);

/* Keeps the running image. */
void bootloader_confirm(bootloader_t *b);

#endif
