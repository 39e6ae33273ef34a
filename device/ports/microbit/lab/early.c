/* An image that listens for half a second before its receiver is set up, as boards do whose drivers start first. */
#include "lab.h"

#include "../../../rcp.h"
#include "../board.h"

#define EARLY_US 500000u

void __real_rcp_start_ble0_events0_blocks0(rcp_t *r, const rcp_port_t *port, const rcp_boot_t *boot);
void __wrap_rcp_start_ble0_events0_blocks0(rcp_t *r, const rcp_port_t *port, const rcp_boot_t *boot);

void __wrap_rcp_start_ble0_events0_blocks0(rcp_t *r, const rcp_port_t *port, const rcp_boot_t *boot)
{
    uart_begin();
    lab_wait_us(EARLY_US);
    __real_rcp_start_ble0_events0_blocks0(r, port, boot);
}
