/*
 * Sming, an ESP8266 and rBoot as a process, for the port in device/ports/sming: its stubs with something behind them. Flash is a file, the
 * UART a pty, a reset starts the program again. What the SDK would answer with a fault ends it: pointers, addresses and sizes that are no
 * words, and cells that are programmed twice.
 *
 *     sming FOLDER    FOLDER/flash.bin is there; FOLDER/port becomes the pty, FOLDER/rtc.bin what survives a reset but no power cut
 *
 * An image is a line of text: "VERSION good", or "VERSION hangs", which the watchdog ends.
 */
#include <SmingCore.h>
#include <Storage.h>
#include <driver/uart.h>
#include <espinc/uart_register.h>

#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <stdio.h>
#include <stdlib.h>
#include <string>
#include <sys/mman.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

extern "C" {
#include <rboot-api.h>
#include <spi_flash.h>
}

void init();

namespace
{
constexpr uint32_t FLASH_SIZE = 4 << 20, ROMS[2] = {0x2000, 0x102000}, ROM_SIZE = 992 << 10, JOURNAL = 0x200000, CONFIG = 0x1000;
constexpr uint8_t STANDARD = 0;
constexpr unsigned FIFO_SIZE = 128;

struct Rtc {
    uint8_t next_mode, last_mode, last_rom, temp_rom;
};

std::string folder;
char **arguments;
uint8_t *flash;
int master, slave;
uint8_t fifo[FIFO_SIZE];
unsigned fifo_count;
smg_uart_callback_t uart_callback;
void (*timer)();
uint32_t timer_ms;

void demand(bool is_so, const char *what)
{
    if (is_so)
        return;
    fprintf(stderr, "fault: %s\n", what);
    exit(2);
}

Rtc rtc()
{
    Rtc content = {};
    if (FILE *file = fopen((folder + "/rtc.bin").c_str(), "rb")) {
        demand(fread(&content, sizeof content, 1, file) == 1, "rtc.bin");
        fclose(file);
    }
    return content;
}

void keep(const Rtc &content)
{
    FILE *file = fopen((folder + "/rtc.bin").c_str(), "wb");
    demand(file != nullptr && fwrite(&content, sizeof content, 1, file) == 1, "rtc.bin");
    fclose(file);
}

void boot_rom()
{
    Rtc now = rtc();
    now.last_mode = now.next_mode;
    now.last_rom = now.next_mode == MODE_TEMP_ROM ? now.temp_rom : rboot_get_current_rom();
    now.next_mode = STANDARD;
    keep(now);
}

void open_flash()
{
    const int file = open((folder + "/flash.bin").c_str(), O_RDWR);
    void *const at = mmap(nullptr, FLASH_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    demand(file >= 0 && at != MAP_FAILED, "flash.bin");
    flash = static_cast<uint8_t *>(at);
}

/* The pty outlives a reset: its ends are handed on to the next life. */
void open_port()
{
    if (const char *ends = getenv("PTY")) {
        demand(sscanf(ends, "%d %d", &master, &slave) == 2, "PTY");
        return;
    }
    termios raw = {};
    cfmakeraw(&raw);
    char name[64];
    demand(openpty(&master, &slave, name, &raw, nullptr) == 0, "openpty");
    fcntl(master, F_SETFL, O_NONBLOCK);
    const std::string port = folder + "/port";
    unlink(port.c_str());
    demand(symlink(name, port.c_str()) == 0, "symlink");
    setenv("PTY", (std::to_string(master) + " " + std::to_string(slave)).c_str(), 1);
}

void receive()
{
    const ssize_t n = read(master, fifo + fifo_count, FIFO_SIZE - fifo_count);
    if (n > 0)
        fifo_count += static_cast<unsigned>(n);
    if (fifo_count > 0 && uart_callback != nullptr)
        uart_callback(nullptr, 0);
}

std::string image()
{
    const char *const text = reinterpret_cast<const char *>(flash + ROMS[rtc().last_rom]);
    return std::string(text, strnlen(text, 64));
}

bool is_word(uint32_t number)
{
    return number % 4 == 0;
}
} // namespace

const char *host_version()
{
    static std::string version;
    version = image().substr(0, image().find(' '));
    return version.c_str();
}

uint32_t host_register(uint32_t address)
{
    if (address == UART_STATUS(UART0))
        return fifo_count << UART_RXFIFO_CNT_S; /* what was written has gone */
    demand(address == UART_FIFO(UART0) && fifo_count > 0, "a register");
    const uint8_t byte = fifo[0];
    memmove(fifo, fifo + 1, --fifo_count);
    return byte;
}

unsigned long millis()
{
    timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return static_cast<unsigned long>(now.tv_sec * 1000 + now.tv_nsec / 1000000);
}

void SimpleTimer::set(uint32_t milliseconds, void (*callback)())
{
    timer_ms = milliseconds;
    timer = callback;
}

void SimpleTimer::start(bool)
{
}

namespace Storage
{
uint32_t Partition::address() const { return at; }
uint32_t Partition::size() const { return bytes; }

Partition findPartition(const char *name)
{
    if (strcmp(name, "rcp") == 0)
        return {JOURNAL, 8192};
    return {ROMS[name[3] - '0'], ROM_SIZE};
}
} // namespace Storage

smg_uart_t *smg_uart_init(uint8_t, uint32_t, smg_uart_format_t, smg_uart_mode_t, uint8_t, size_t, size_t)
{
    return nullptr;
}

void smg_uart_set_options(smg_uart_t *, uart_options_t options)
{
    demand((options & 1 << UART_OPT_CALLBACK_RAW) != 0, "Sming would take the bytes itself");
}

void smg_uart_set_callback(smg_uart_t *, smg_uart_callback_t callback, void *)
{
    uart_callback = callback;
}

size_t smg_uart_write(smg_uart_t *, const void *buffer, size_t size)
{
    const uint8_t *from = static_cast<const uint8_t *>(buffer);
    for (size_t left = size; left > 0;) {
        const ssize_t n = write(master, from, left);
        if (n > 0)
            from += n, left -= static_cast<size_t>(n);
    }
    return size;
}

extern "C" {
void system_restart()
{
    execv(arguments[0], arguments);
    demand(false, "execv");
}

unsigned long os_random()
{
    FILE *const file = fopen("/dev/urandom", "rb");
    uint32_t number;
    demand(fread(&number, sizeof number, 1, file) == 1, "urandom");
    fclose(file);
    return number;
}

SpiFlashOpResult spi_flash_erase_sector(uint16_t sector)
{
    memset(flash + sector * SPI_FLASH_SEC_SIZE, 0xFF, SPI_FLASH_SEC_SIZE);
    return SPI_FLASH_RESULT_OK;
}

SpiFlashOpResult spi_flash_write(uint32_t to, uint32_t *from, uint32_t size)
{
    demand(is_word(to) && is_word(size) && reinterpret_cast<uintptr_t>(from) % 4 == 0, "a write that is no words");
    demand(to / (1 << 20) != ROMS[rtc().last_rom] / (1 << 20), "a write into the running ROM");
    for (uint32_t i = 0; i < size; i++)
        demand(flash[to + i] == 0xFF, "a cell that is programmed twice");
    memcpy(flash + to, from, size);
    return SPI_FLASH_RESULT_OK;
}

SpiFlashOpResult spi_flash_read(uint32_t from, uint32_t *to, uint32_t size)
{
    demand(is_word(from) && is_word(size) && reinterpret_cast<uintptr_t>(to) % 4 == 0, "a read that is no words");
    memcpy(to, flash + from, size);
    return SPI_FLASH_RESULT_OK;
}

uint8_t rboot_get_current_rom(void)
{
    return flash[CONFIG] == 1 ? 1 : 0;
}

bool rboot_set_current_rom(uint8_t rom)
{
    flash[CONFIG] = rom;
    return true;
}

bool rboot_set_temp_rom(uint8_t rom)
{
    Rtc now = rtc();
    now.next_mode = MODE_TEMP_ROM;
    now.temp_rom = rom;
    keep(now);
    return true;
}

bool rboot_get_last_boot_rom(uint8_t *rom)
{
    *rom = rtc().last_rom;
    return true;
}

bool rboot_get_last_boot_mode(uint8_t *mode)
{
    *mode = rtc().last_mode;
    return true;
}
}

int main(int count, char **words)
{
    demand(count == 2, "sming FOLDER");
    arguments = words;
    folder = words[1];
    open_flash();
    open_port();
    boot_rom();
    if (image().find(" good") == std::string::npos) {
        sleep(1); /* the watchdog's time */
        system_restart();
    }
    init();
    for (unsigned long due = millis();;) {
        pollfd wait = {master, POLLIN, 0};
        poll(&wait, 1, 1);
        receive();
        if (timer != nullptr && millis() >= due) {
            due += timer_ms;
            timer();
        }
    }
}
