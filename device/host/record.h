/* device.json: what the device is, what runs, what is about to. The Python virtual device reads and writes the same. */
#ifndef HOST_RECORD_H
#define HOST_RECORD_H

#include "profile.h"
#include "store.h"

enum { SHA_TEXT = 64 };

typedef struct {
    identity_t identity;
    char version[VERSION_MOST + 1];
    struct { /* the boot flag; no version: not set */
        char version[VERSION_MOST + 1];
        uint32_t trial_s;
        char sha256[SHA_TEXT + 1];
    } pending;
    struct { /* no previous version: the running image is not on trial */
        double ends;
        char sha256[SHA_TEXT + 1];
        char previous_version[VERSION_MOST + 1];
        bool previous_is_factory;
    } trial;
    char reverted_sha256[SHA_TEXT + 1]; /* empty: none */
} record_t;

/* Reads over what `record` holds. False when there is none; ends the process when it cannot be used. */
bool record_load(record_t *record, const store_t *store);

void record_save(const record_t *record, const store_t *store);

#endif
