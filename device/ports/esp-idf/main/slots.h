/* What an ESP32 gives the receiver, by ESP-IDF's own calls: flash in two partitions, and a bootloader with rollback. */
#ifndef SLOTS_H
#define SLOTS_H

#include "rcp.h"

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Fills in of `port` where slot and journal are, and all that the flash and the bootloader are asked for; of `boot` what became of the last
 * trial. False: the partitions are not there.
 */
bool slots_describe(rcp_port_t *port, rcp_boot_t *boot);

#ifdef __cplusplus
}
#endif
#endif
