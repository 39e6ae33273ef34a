/*
 * An image whose line is up before its receiver is, as on boards whose drivers start first: rcp_init() waits until something has come, a
 * HELLO of the gateway, but not for ever. A receiver that takes such a byte takes it to where a pointer leads that nobody has set.
 */
#include "lab.h"

#include "../../../rcp.h"
#include "../board.h"
#include "../nrf51.h"

#define LOOK_US 10000u
#define LOOKS 300u

static volatile bool is_early, has_heard;

void __real_rcp_start_ble0_events0_blocks0(rcp_t *r, const rcp_port_t *port, const rcp_boot_t *boot);
void __wrap_rcp_start_ble0_events0_blocks0(rcp_t *r, const rcp_port_t *port, const rcp_boot_t *boot);
bool __real_rcp_rx_byte(rcp_t *r, uint8_t byte);
bool __wrap_rcp_rx_byte(rcp_t *r, uint8_t byte);

bool __wrap_rcp_rx_byte(rcp_t *r, uint8_t byte)
{
    const bool is_taken = __real_rcp_rx_byte(r, byte);
    has_heard = true;
    while (is_early && is_taken)
        ; /* the watchdog tells */
    return is_taken;
}

void __wrap_rcp_start_ble0_events0_blocks0(rcp_t *r, const rcp_port_t *port, const rcp_boot_t *boot)
{
    is_early = true;
    uart_begin();
    for (uint32_t look = 0; look < LOOKS && !has_heard; look++) {
        lab_wait_us(LOOK_US);
        watchdog_feed();
    }
    is_early = false;
    __real_rcp_start_ble0_events0_blocks0(r, port, boot);
}
