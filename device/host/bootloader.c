#include "bootloader.h"

#include "../rcp_sha256.h"
#include "clock.h"
#include "log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char ACTIVE[] = "active.bin", PENDING[] = "pending.bin", PREVIOUS[] = "previous.bin";

static void save(const bootloader_t *b)
{
    record_save(&b->record, b->store);
}

static void hash(const uint8_t *image, size_t size, uint8_t sha256[32])
{
    rcp_sha256_t context;
    rcp_sha256_begin(&context);
    rcp_sha256_add(&context, image, (uint32_t)size);
    rcp_sha256_end(&context, sha256);
}

void bootloader_open(bootloader_t *b, const store_t *store, const profile_t *profile)
{
    memset(b, 0, sizeof *b);
    b->store = store;
    b->can_revert = profile->can_revert;
    b->record.identity = profile->identity;
    if (!record_load(&b->record, store))
        strcpy(b->record.version, profile->version);
}

static void copy_active_to_previous(const bootloader_t *b)
{
    size_t size;
    uint8_t *active = store_read(b->store, ACTIVE, &size);
    if (active == NULL)
        store_remove(b->store, PREVIOUS);
    else
        store_write(b->store, PREVIOUS, active, size);
    free(active);
}

static void swap(bootloader_t *b, double now)
{
    record_t *r = &b->record;
    if (store_has(b->store, PENDING)) {
        copy_active_to_previous(b);
        store_move(b->store, PENDING, ACTIVE);
    }
    if (b->can_revert) {
        r->trial.ends = now + r->pending.trial_s;
        strcpy(r->trial.sha256, r->pending.sha256);
        strcpy(r->trial.previous_version, r->version);
        r->trial.previous_is_factory = !store_has(b->store, PREVIOUS);
    }
    strcpy(r->version, r->pending.version);
    r->pending.version[0] = '\0';
    r->reverted_sha256[0] = '\0';
    save(b);
    if (b->can_revert)
        log_line("starts %s on trial for %u s", r->version, r->pending.trial_s);
    else
        log_line("starts %s", r->version);
}

static void revert(bootloader_t *b)
{
    record_t *r = &b->record;
    char given_up[sizeof r->version];
    strcpy(given_up, r->version);
    r->trial.ends = 0.0; /* from here on there is no way but back, whatever the clock does */
    save(b);
    if (r->trial.previous_is_factory)
        store_remove(b->store, ACTIVE);
    else if (store_has(b->store, PREVIOUS))
        store_move(b->store, PREVIOUS, ACTIVE);
    strcpy(r->version, r->trial.previous_version);
    strcpy(r->reverted_sha256, r->trial.sha256);
    r->trial.previous_version[0] = '\0';
    save(b);
    log_line("gives %s up, not confirmed in time; runs %s again", given_up, r->version);
}

void bootloader_boot(bootloader_t *b, double now)
{
    if (b->record.pending.version[0])
        swap(b, now);
    else if (now >= bootloader_trial_ends(b))
        revert(b);
}

bool bootloader_running_sha256(const bootloader_t *b, uint8_t sha256[32])
{
    size_t size;
    uint8_t *image = store_read(b->store, ACTIVE, &size);
    if (image == NULL)
        return false;
    hash(image, size, sha256);
    free(image);
    return true;
}

bool bootloader_reverted_sha256(const bootloader_t *b, uint8_t sha256[32])
{
    const char *text = b->record.reverted_sha256;
    unsigned byte;
    if (strlen(text) != SHA_TEXT)
        return false;
    for (int i = 0; i < 32; i++) {
        if (sscanf(text + 2 * i, "%2x", &byte) != 1)
            return false;
        sha256[i] = (uint8_t)byte;
    }
    return true;
}

bool bootloader_on_trial(const bootloader_t *b)
{
    return b->record.trial.previous_version[0] != '\0';
}

double bootloader_trial_ends(const bootloader_t *b)
{
    return bootloader_on_trial(b) ? b->record.trial.ends : NEVER;
}

void bootloader_set_flag(bootloader_t *b, const uint8_t *image, uint32_t size, const char *version, uint32_t trial_s)
{
    uint8_t sha256[32];
    hash(image, size, sha256);
    store_write(b->store, PENDING, image, size);
    strcpy(b->record.pending.version, version);
    b->record.pending.trial_s = trial_s;
    for (size_t i = 0; i < sizeof sha256; i++)
        snprintf(b->record.pending.sha256 + 2 * i, 3, "%02x", sha256[i]);
    save(b);
}

void bootloader_confirm(bootloader_t *b)
{
    b->record.trial.previous_version[0] = '\0';
    save(b);
}
