#pragma once
#ifdef STUB_REGISTERS /* hosts/sming.cpp */
uint32_t host_register(uint32_t address);
#define READ_PERI_REG(address) host_register(address)
#define CLEAR_PERI_REG_MASK(address, mask) ((void)0)
#else
#define READ_PERI_REG(address) (*(volatile uint32_t *)(address))
#define CLEAR_PERI_REG_MASK(address, mask) (READ_PERI_REG(address) &= ~(uint32_t)(mask))
#endif
#define REG_UART_BASE(i) (0x60000000 + (i) * 0xf00)
#define UART_FIFO(i) (REG_UART_BASE(i) + 0x0)
#define UART_INT_ENA(i) (REG_UART_BASE(i) + 0xC)
#define UART_TXFIFO_EMPTY_INT_ENA (1 << 1)
#define UART_STATUS(i) (REG_UART_BASE(i) + 0x1C)
#define UART_TXFIFO_CNT 0x000000FF
#define UART_TXFIFO_CNT_S 16
#define UART_RXFIFO_CNT 0x000000FF
#define UART_RXFIFO_CNT_S 0
