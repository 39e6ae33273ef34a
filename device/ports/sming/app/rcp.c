/* rcp_rx_byte() is called while the flash cannot be read. */
#include <esp_attr.h>
#define RCP_ISR IRAM_ATTR
#include "../../../rcp.c"
