/* The begin of an image: vectors, header, and how memory gets its contents. */
#include "board.h"
#include "header.h"
#include "layout.h"

typedef void (*vector_t)(void);

extern uint32_t image_size[], data_begin[], data_end[], data_source[], bss_begin[], bss_end[], stack_end[];

int main(void);
void reset(void);
void uart_irq(void);
void timer_irq(void);

/* On trial the bootloader takes the image back after some of these. */
static void fault(void)
{
    restart();
}

__attribute__((section(".vectors"), used)) static const vector_t VECTORS[48] = {
    (vector_t)(RAM + RAM_SIZE), reset, [2 ... 17] = fault, [18] = uart_irq, [19 ... 23] = fault, [24] = timer_irq, [25 ... 47] = fault};

__attribute__((section(".header"), used)) const image_header_t image_header = {HEADER_MAGIC, (uint32_t)image_size, VERSION};

void reset(void)
{
    const uint32_t *from = data_source;
    uint32_t *at;
    for (at = data_begin; at < data_end;)
        *at++ = *from++;
    for (at = bss_begin; at < bss_end;)
        *at++ = 0;
    for (at = stack_end; at < (uint32_t *)__builtin_frame_address(0);) /* what is still so later was never used */
        *at++ = STACK_PAINT;
    main();
    restart();
}
