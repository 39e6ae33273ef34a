/* An image that listens for half a second before its receiver is set up, as boards do whose drivers start first. */
#include "lab.h"

#include "../../../rcp.h"
#include "../board.h"

#define EARLY_US 500000u

void __real_rcp_start(rcp_t *r, const rcp_port_t *port);
void __wrap_rcp_start(rcp_t *r, const rcp_port_t *port);

void __wrap_rcp_start(rcp_t *r, const rcp_port_t *port)
{
    uart_begin();
    lab_wait_us(EARLY_US);
    __real_rcp_start(r, port);
}
