/*
 * NOR flash in a file: erased in blocks, written once per unit, torn when the power goes in the middle. What is written is in the file
 * even when the process is killed.
 */
#ifndef HOST_FLASH_H
#define HOST_FLASH_H

#include "chance.h"
#include "profile.h"
#include "store.h"

typedef struct {
    uint8_t *cells;
    uint32_t size, erase_block, write_unit;
    uint32_t operations_left; /* until the power fails within one; 0: it does not */
    bool off;                 /* the power has failed: nothing works any more */
    chance_t chance;          /* for torn cells */
} flash_t;

/* Makes the file if there is none, and locks it; ends the process when it is in use or does not fit. */
void flash_open(flash_t *f, const store_t *store, const identity_t *identity, uint64_t seed);

bool flash_read(const flash_t *f, uint32_t address, uint8_t *to, uint32_t size);

/* One unit, which has to be blank. */
bool flash_write(flash_t *f, uint32_t address, const uint8_t *from, uint32_t size);

bool flash_erase(flash_t *f, uint32_t address);

/* Counts an operation that is atomic by itself (a boot flag): the cut falls before it. */
bool flash_step(flash_t *f);

#endif
