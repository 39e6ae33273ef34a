/* The device: the receiver of rcp.h on simulated flash and a simulated line, with its power, its restarts and its trial. */
#ifndef HOST_DEVICE_H
#define HOST_DEVICE_H

#include "../rcp.h"
#include "../rcp_sha256.h"
#include "bootloader.h"
#include "flash.h"
#include "line.h"

enum { DEVICE_OUTBOX = 1024 };

typedef struct {
    profile_t profile;
    bootloader_t *bootloader;
    flash_t *flash;
    line_t *to_gateway;

    rcp_port_t port;
    rcp_boot_t start;
    rcp_t rcp;
    rcp_sha256_t hash;
    uint8_t running_sha256[32], reverted_sha256[32];
    char offered_version[VERSION_MOST + 1];
    uint8_t outbox[DEVICE_OUTBOX];
    size_t outbox_size;
    uint32_t baud;

    bool has_power, restart_wanted, line_awaited, overrun;
    double boot_at;       /* without power: when it comes back */
    double stalled_until; /* erasing */
} device_t;

/* Starts it. The profile is as the bootloader's device.json corrected it. */
void device_open(device_t *d, const profile_t *profile, bootloader_t *b, flash_t *f, line_t *to_gateway);
void device_close(device_t *d);

/* A gateway has connected, by a radio. */
void device_connect(device_t *d);

/* Bytes come in from the line, as interrupts; or a packet. Lost while off. */
void device_hear(device_t *d, const uint8_t *data, size_t size);

/* Does what is due. */
void device_run(device_t *d);

/* When device_run() has to be called next. */
double device_due(const device_t *d);

/* The power fails and comes back at once. */
void device_cut_power(device_t *d);

#endif
