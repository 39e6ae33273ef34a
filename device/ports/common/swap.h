/* How the running image and the one in the slot change places, on trial and for good: shared by bootloader and application. */
#ifndef SWAP_H
#define SWAP_H

#include <stdbool.h>
#include <stdint.h>

/* The bootloader: whatever was interrupted is completed, then the image that is to start lies at IMAGE. */
void swap_at_boot(void);
void swap_going_on(void); /* the bootloader has it: called at each page, to feed a watchdog */

/* The application. */
void swap_request(uint32_t pages, const uint8_t sha256[32]); /* swap at the next restart, so many pages, and start it on trial */
bool swap_on_trial(void);                                     /* the running image goes back unless it is kept */
const uint8_t *swap_reverted(void);                           /* SHA-256 of the image that was taken back last, or NULL */
void swap_keep(void);                                         /* the running image stays */
void swap_give_up(void);                                      /* the running image goes back at the next restart */

#endif
