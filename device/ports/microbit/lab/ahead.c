/* An image that erases one page ahead of what it receives, and is deaf each time: what `erase_ahead` is there to avoid. */
#include "../../../rcp.h"
#include "../layout.h"

void __real_rcp_start(rcp_t *r, rcp_port_t *port);
void __wrap_rcp_start(rcp_t *r, rcp_port_t *port);

void __wrap_rcp_start(rcp_t *r, rcp_port_t *port)
{
    port->erase_ahead = PAGE;
    __real_rcp_start(r, port);
}
