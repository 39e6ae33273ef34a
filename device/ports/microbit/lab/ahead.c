/* An image that erases one page ahead of what it receives, and is deaf each time: what `erase_ahead` is there to avoid. */
#include "../../../rcp.h"
#include "../layout.h"

void __real_rcp_start_ble0_events0_blocks0(rcp_t *r, const rcp_port_t *port, const rcp_boot_t *boot);
void __wrap_rcp_start_ble0_events0_blocks0(rcp_t *r, const rcp_port_t *port, const rcp_boot_t *boot);

void __wrap_rcp_start_ble0_events0_blocks0(rcp_t *r, const rcp_port_t *port, const rcp_boot_t *boot)
{
    static rcp_port_t ahead;
    ahead = *port;
    ahead.erase_ahead = PAGE;
    __real_rcp_start_ble0_events0_blocks0(r, &ahead, boot);
}
