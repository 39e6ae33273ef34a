/* An image whose application takes BUSY_MS of each round. */
#include "lab.h"

#include "../../../rcp.h"

void __real_rcp_poll(rcp_t *r);
void __wrap_rcp_poll(rcp_t *r);

void __wrap_rcp_poll(rcp_t *r)
{
    __real_rcp_poll(r);
    lab_wait_us(BUSY_MS * 1000u);
}
